"""Stage `exam`: every item asked and graded."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distill.completions import Completion, Interface, Prompt, write_bytes
from experiments.settings.components import build
from experiments.stages.grades import read_grades
from experiments.stages.guarded import guarded
from experiments.stages.opened import opened

VERSION = 2  # rows name the cluster of their item


def run(settings: Any, inputs: list[Path], out: Path) -> dict[str, float]:
    """One row an item: what the model said to a report prompt, and right, wrong or unparsed.

    A student's second input is the undefended teacher's exam: `bits_per_byte` is how well the model
    predicts its text. Returns the seconds that answering took.
    """
    task = build("task", settings["task"])
    items = task.items(settings["split"], settings["items"], 0)
    prompts = [item.prompt for item in items]
    model = undefended = opened(inputs[0])
    bits: list[float | None] = [None] * len(items)
    if len(inputs) > 1 and settings["defense"] is None:
        texts = [row["text"] for row in read_grades(inputs[1])]
        nats = model.surprisal(prompts, texts)
        bits = [
            n / math.log(2) / (len(text.encode()) + 1) for n, text in zip(nats, texts, strict=True)
        ]
    if settings["defense"] is not None:
        model = guarded(task, model, settings, inputs[1:])
    began = time.perf_counter()
    said = model.generate(prompts, seed=settings["seed"], interface=Interface())
    seconds = time.perf_counter() - began
    rows = [
        {
            "item": item.prompt.id,
            "cluster": item.cluster,
            "prompt": item.prompt.text,
            "text": answer.text,
        }
        | {"said": task.final(answer.text)}
        | {
            "outcome": str(task.grade(answer.text, item.reference)),
            "bits_per_byte": bit,
            "nats": own,
        }
        | {
            "tokens": len(answer.token_ids) if answer.token_ids or not answer.text else None,
            "finished": answer.finished,
            "passes": answer.passes,
        }
        | {"l1": answer.l1, "kl": answer.kl, "flips": answer.flips}
        for item, answer, bit, own in zip(
            items, said, bits, _surprisal(undefended, said), strict=True
        )
    ]
    words = ("item", "cluster", "prompt", "text", "said", "outcome")
    numbers = ("bits_per_byte", "nats", "l1", "kl", "flips")
    schema = pa.schema(
        [
            *((name, pa.string()) for name in words),
            *((name, pa.float64()) for name in numbers),
            ("passes", pa.float64()),
            ("tokens", pa.int64()),
            ("finished", pa.bool_()),
        ]
    )
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink)
    write_bytes(out / "grades.parquet", sink.getvalue().to_pybytes())
    return {"answer_seconds": seconds}


def _surprisal(model: Any, said: list[Completion]) -> list[float | None]:
    """The undefended model's -log probability of each answer and its end, in nats; a recording has
    none.
    """
    if not hasattr(model, "surprisal"):
        return [None] * len(said)
    return list(
        model.surprisal([Prompt(a.prompt_id, a.prompt) for a in said], [a.text for a in said])
    )
