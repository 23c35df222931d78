"""The main path, read downwards: teacher -> answers -> student -> exam. Each stage writes its result into a folder.

A stage sees its settings and the opened folders of its inputs, nothing else; the planner decides what is run.
"""

from __future__ import annotations

import importlib
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.answers import Answer, Profile, digest, read_answers, write_answers, write_bytes
from experiments.config import FIXED, PACKAGES
from experiments.plan import Stage
from experiments.store import Store, canonical

TOP_K = 20


def run(stage: Stage, root: Path) -> float:
    """Make one stage's result in the store; its inputs are there already."""
    import torch

    torch.set_num_threads(1)
    store = Store(root)
    inputs = [store.open(one.kind, one.key) for one in stage.inputs]
    make = {"teacher": teacher, "answers": answers, "student": student, "exam": exam}[stage.kind]
    folder = store.make(stage.kind, stage.key, lambda out: make(stage.settings, inputs, out))
    return float(json.loads((folder / "done.json").read_text())["seconds"])


def part(group: str, chosen: Any) -> Any:
    """The task, defence or attacker that a resolved config names."""
    module = importlib.import_module(f"{PACKAGES[group]}.{chosen['name'].replace('/', '.')}")
    return getattr(module, FIXED[group])(module.Settings(**chosen["settings"]))


def teacher(settings: Any, inputs: list[Path], out: Path) -> None:
    """Train the teacher by recipe on worked solutions of its own split."""
    from distill.attackers.sft import Attacker, Settings
    from distill.models import save

    task = part("task", settings["task"])
    items = task.items("train", settings["items"], settings["seed"])
    said = [Answer(item.prompt.id, item.prompt.text, item.solution) for item in items]
    model, report = _trained(task, settings, Attacker(Settings()), said)
    save(model, out)
    write_bytes(out / "training.json", canonical(report).encode())


def answers(settings: Any, inputs: list[Path], out: Path) -> None:
    """What the attacker holds: the (defended) teacher's answers, those of other prompts, or public final answers."""
    from distill.models import load

    task = part("task", settings["task"])
    items = task.items("query", settings["budget"], settings["seed"])
    if settings["source"] == "public":
        said = [Answer(item.prompt.id, item.prompt.text, f" # {item.reference}") for item in items]
    else:
        model = part("defense", settings["defense"])(load(str(inputs[0])))
        kind = settings["profile"]
        profile = Profile(kind, TOP_K if kind == "top_k" else 0)
        said = model.answer([item.prompt for item in items], seed=settings["seed"], profile=profile)
    if settings["source"] == "shuffled":
        said = _shuffled(said, settings["seed"])
    write_answers(out / "answers.parquet", said)


def _shuffled(said: list[Answer], seed: int) -> list[Answer]:
    texts = [answer.text for answer in said]
    random.Random(seed).shuffle(texts)
    return [replace(answer, text=text, token_ids=(), logprobs=None) for answer, text in zip(said, texts, strict=True)]


def student(settings: Any, inputs: list[Path], out: Path) -> None:
    """The attacker trains its student on the answers it holds."""
    from distill.models import save

    said = read_answers(inputs[0] / "answers.parquet")
    model, report = _trained(part("task", settings["task"]), settings, part("attacker", settings["attacker"]), said)
    save(model, out)
    write_bytes(out / "training.json", canonical(report).encode())


def _trained(task: Any, settings: Any, attacker: Any, said: list[Answer]) -> tuple[Any, Any]:
    from distill.embedded import character_tokenizer, llama
    from distill.models import LanguageModel
    from distill.student import StudentSettings

    shape = dict(settings["shape"])
    tokenizer = character_tokenizer(task.alphabet)
    size = {name: shape[name] for name in ("hidden_size", "num_layers", "num_heads", "max_length")}
    network = llama(tokenizer, seed=settings["seed"], **size)
    trained = attacker.train(said, network, tokenizer, StudentSettings(**shape), seed=settings["seed"])
    report = {"losses": [float(x) for x in trained.losses], "diverged": trained.diverged, "tokens": int(trained.tokens)}
    return LanguageModel(trained.network.eval(), tokenizer), report


def exam(settings: Any, inputs: list[Path], out: Path) -> None:
    """One row an item: what the model said to a report prompt, and right, wrong or unparsed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from distill.models import load

    task = part("task", settings["task"])
    items = task.items("report", settings["items"], settings["seed"])
    model: Any = load(str(inputs[0]))
    if settings["defense"] is not None:
        model = part("defense", settings["defense"])(model)
    said = model.answer([item.prompt for item in items], seed=settings["seed"], profile=Profile())
    rows = [
        {"item": item.prompt.id, "prompt": item.prompt.text, "text": answer.text, "l1": answer.l1}
        | {"outcome": str(task.grade(answer.text, item.reference))}
        for item, answer in zip(items, said, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), out / "grades.parquet")


def read_grades(folder: Path) -> list[dict[str, Any]]:
    """The rows of an exam."""
    import pyarrow.parquet as pq

    return list(pq.read_table(folder / "grades.parquet").to_pylist())


def fingerprint(store: Store, stages: list[Stage]) -> str:
    """One digest over the file hashes of all given results: equal runs have equal fingerprints."""
    files = [
        [s.kind, s.key, json.loads((store.folder(s.kind, s.key) / "done.json").read_text())["files"]] for s in stages
    ]
    return digest(canonical(sorted(files)))
