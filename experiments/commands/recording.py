"""The command that asks a study's teacher and writes down what it says: record."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.completions import BadInput, Completion, Interface, Prompt, digest
from distill.models import Model
from experiments.launch import one
from experiments.planning import plan as planning
from experiments.planning import preflight, questions, servers
from experiments.planning.graph import interface_of
from experiments.planning.plan import Plan
from experiments.planning.scope import Scope
from experiments.results.plain import Plain
from experiments.settings import schema as settings
from experiments.settings.entries import build_task
from experiments.settings.overrides import check_once
from experiments.stages.models import load_model
from experiments.store import Store, writable

CHUNK = 64  # questions that are asked together and written down together
KINDS = ("text", "top_k", "full")


def record(
    *,
    study: str,
    overrides: list[str],
    env: bool,
    runs: Path,
    to: Path,
    task: str | None,
    split: str | None,
    n: int | None,
    seed: int,
    attempts: int,
    interface: str | None,
    threads: int,
) -> None:
    """Ask the teacher all that the study would, or n questions of a split, and write a recording;
    one that was interrupted goes on where it was.

    Raises:
        BadInput: the file is there already, or the study cannot be planned.
    """
    if to.exists():
        raise BadInput(f"--to: {to} is there already; move it away, or choose another name")
    check_once(overrides)
    planned = planning.make(settings.load_named(study, overrides, env))
    entry = _task(planned, task)
    widest, prompts = (
        _of_study(planned, entry) if split is None else _of_split(entry, split, n, seed)
    )
    prompts = _several(prompts, attempts)
    released = interface_of(interface) if interface else widest
    preflight.check(planned.study)
    store = Store(writable(runs / "store"))
    servers.check_servers(planned, store)
    teacher = Scope(planned.study, entry).teacher
    for stage in teacher.walk():
        one.make(stage, store.root, threads)
    model = load_model(store.open(teacher.kind, teacher.key))
    request = [teacher.key, [[p.conversation, p.attempt] for p in prompts], seed, str(released)]
    part = to.with_name(f"{to.name}.{digest(json.dumps(request))[:12]}.part")
    console = Plain(stderr=True)
    for done in _ask(model, prompts, seed, released, part):
        console.print(f"{done} of {len(prompts)} answers", soft_wrap=True)
    os.replace(part, to)
    console.print(f"{to}: teacher=recorded teacher.path={to}", soft_wrap=True)


def _task(planned: Plan, task: str | None) -> str:
    tasks = list(dict.fromkeys(arm.task for arm in planned.arms))
    if task is None and len(tasks) == 1:
        return tasks[0]
    if task is None or task not in tasks:
        raise BadInput(f"--task: must be one of the study's, got {task} ({', '.join(tasks)})")
    return task


def _of_study(planned: Plan, task: str) -> tuple[Interface, list[Prompt]]:
    """All that a study asks about a task, and the most that is released to any of it."""
    prompts: list[Prompt] = []
    widest = questions.TEXT
    for block in planned.study.blocks:
        if task in block.tasks:
            by_interface = questions.asked_prompts(planned.study, task, block)
            prompts += [prompt for some in by_interface.values() for prompt in some]
            widest = max([widest, *by_interface], key=lambda one: KINDS.index(one.kind))
    return widest, prompts


def _of_split(task: str, split: Any, n: int | None, seed: int) -> tuple[Interface, list[Prompt]]:
    if n is None:
        raise BadInput(f"--n: how many questions of {split}? it must be given with --split")
    return questions.TEXT, [item.prompt for item in build_task(task).items(split, n, seed)]


def _several(prompts: Sequence[Prompt], attempts: int) -> list[Prompt]:
    """Each question once, or as often as it is asked, and at least so many times."""
    most: dict[str, int] = {}
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        key = prompt.conversation
        first.setdefault(key, prompt)
        most[key] = max(most.get(key, attempts), prompt.attempt + 1)
    return [replace(first[key], attempt=i) for key in first for i in range(most[key])]


def _ask(
    model: Model, prompts: Sequence[Prompt], seed: int, interface: Interface, part: Path
) -> Iterator[int]:
    """Ask in chunks and append each, synced, to the unfinished file; yields how many are there.

    What a kill left of a chunk is asked again, so that the bytes are those of one run.
    """
    done = _whole_chunks(part)
    with part.open("ab") as file:
        for start in range(done, len(prompts), CHUNK):
            chunk = prompts[start : start + CHUNK]
            answers = model.generate(chunk, seed=seed, interface=interface)
            for prompt, answer in zip(chunk, answers, strict=True):
                file.write(_line(prompt, answer, model.vocabulary).encode())
            file.flush()
            os.fsync(file.fileno())
            yield start + len(chunk)


def _whole_chunks(part: Path) -> int:
    """How many answers an unfinished file holds in whole chunks; the rest of it is cut off."""
    if not part.is_file():
        return 0
    lines = part.read_bytes().split(b"\n")[:-1]
    whole = lines[: len(lines) // CHUNK * CHUNK]
    with part.open("r+b") as file:
        file.truncate(sum(len(line) + 1 for line in whole))
    return len(whole)


def _line(prompt: Prompt, answer: Completion, vocabulary: str | None) -> str:
    row: dict[str, Any] = {"prompt": prompt.text}
    if prompt.system:
        row["system"] = prompt.system
    if prompt.history:
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt.history]
        row["history"] = turns
    row |= {"answer": answer.text, "finished": answer.finished, "attempt": prompt.attempt}
    if answer.logprobs is not None:
        rows = zip(answer.logprobs.ids_TK, answer.logprobs.values_TK, strict=True)
        row |= {
            "token_ids": list(answer.token_ids),
            # The shortest decimals that are these float32 again.
            "logprobs": [
                {"ids": ids.tolist(), "values": [float(str(value)) for value in values]}
                for ids, values in rows
            ],
            "tokenizer": vocabulary,
        }
    return json.dumps(row) + "\n"
