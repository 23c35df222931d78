"""An export as large as a study makes it, of made-up answers, to measure `verify` with.

    python -m tests.experiments.large matrix matrix.zip
    /usr/bin/time -f '%U s %M kB' distill-resist verify matrix.zip

Every number in it follows from its answers, so it verifies; nothing was trained for it. With a
number of MiB behind it (`quickstart heavy.zip 500`) so much is added to its report, and all is
stored unpacked: `verify` refuses it, and what it takes for that is to be measured.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distill.completions import digest
from experiments import environment, preregistration, provenance, run_folder
from experiments.planning import plan as planning
from experiments.planning.arms import Arm
from experiments.planning.plan import Plan
from experiments.results import archive, collect, grades_file
from experiments.results.grades import NUMBERS, WHO
from experiments.results.manifest import EXAMS
from experiments.results.names import MANIFEST
from experiments.results.schema.arms import (
    FinishedStudent,
    MatchedStrength,
    MissingStudent,
    Preparation,
)
from experiments.results.table import Table, jsonable
from experiments.review import exams, students
from experiments.settings import schema
from experiments.settings.components import build_defense
from experiments.settings.entries import build_task
from experiments.stages.stage import canonical
from experiments.store import Store
from experiments.tasks import Item
from tests.experiments import forger, snapshots


def write(plan: Plan, home: Path) -> None:
    """All files of a run of this plan in a folder."""
    preregistration.freeze(plan, Store(home / "store"), home)
    (home / "config.json").write_text(run_folder.published(plan.study).model_dump_json(indent=2))
    _, records = snapshots.made_up(plan)
    pairs = zip(plan.arms, records, strict=True)
    forger.dump(home, "arms.json", jsonable([_planned(plan, *pair) for pair in pairs]))
    _write_grades(plan, home / "grades.parquet")
    forger.dump(home, "manifest.json", _manifest(plan))
    for name in (
        "card.json",
        "card.md",
    ):  # they are made last, and their digests are asked for before
        (home / name).touch()
    forger.rewrite(home)


def _planned(plan: Plan, arm: Arm, record: FinishedStudent | MissingStudent) -> Table:
    """A made-up record with what the plan says of it."""
    assert isinstance(record, FinishedStudent)
    made = collect.preparing(arm)
    prepared = Preparation(matched=_matched(made.spec), numbers={}) if made else None
    trials, (rate, *_) = collect.trials_of(plan, arm), sorted(students.rates(arm))
    planned = {"trials": trials, "prepared": prepared, "learning_rate": rate}
    sizes = {"parameters": 1000, "tokens_in": 500, "tokens_out": 500}
    planned |= sizes | students.plain(arm)
    tokens = 100 * bool(planned.get("steps", record.steps))
    flops = students.FLOPS * sizes["parameters"] * tokens * (1 + trials)
    return record.model_copy(update=planned | {"student_tokens": tokens, "flops": flops})


def _matched(spec: Any) -> MatchedStrength | None:
    """A defence that is matched to what it costs at its full strength, and costs nothing."""
    if spec.match is None:
        return None
    strength = build_defense(spec.defense).parts[spec.match.part].traits.strength
    assert strength is not None
    return MatchedStrength(
        knob=strength.name, value=strength.strongest, points=spec.match.points, loss=0.0
    )


def _sittings(plan: Plan) -> Iterator[tuple[Any, ...]]:
    """Whose exam it is, as a row of grades names it."""
    for (task, defense, split), sampled in plan.teachers.items():
        yield from ((task, defense, "", 0, split, seed) for seed in range(len(sampled)))
    yield from (tuple(getattr(arm, name) for name in WHO) for arm in plan.arms)


def _write_grades(plan: Plan, path: Path) -> None:
    """A row an item of every exam: some solutions are right, others have another answer."""
    parts = [_exam(plan, who) for who in _sittings(plan)]
    pq.write_table(pa.concat_tables(parts), path)
    graded = grades_file.read(path)
    for plateau in plan.plateaus:
        who = (
            plateau.task,
            plateau.defense,
            exams.worst(plateau, graded),
            plateau.budget,
            "plateau",
            plateau.seed,
        )
        parts.append(_exam(plan, who))
    path.write_bytes(grades_file.spelled(pa.concat_tables(parts)))


def _exam(plan: Plan, who: tuple[Any, ...]) -> pa.Table:
    task, defense, attacker, budget, split, _ = who
    exam, select, measure = build_task(task), split == "select", plan.study.measure
    items = _items(
        task, "select" if select else "report", measure.selection_items if select else measure.items
    )
    n = len(items)
    rng = snapshots.generator(*who)
    right = (
        0.97
        if not attacker
        else snapshots.share(snapshots.Key(task, defense, attacker, budget, split))
    )
    texts = [
        one.solution
        if good
        else f"{one.solution.rpartition(exam.mark)[0]}{exam.mark} {rng.integers(10)}"
        for one, good in zip(items, rng.random(n) < right, strict=True)
    ]
    columns: dict[str, Any] = {
        name: pa.array([value] * n) for name, value in zip(WHO, who, strict=True)
    }
    columns |= {
        "item": [one.prompt.id for one in items],
        "cluster": [one.cluster for one in items],
        "prompt": [one.prompt.text for one in items],
        "text": texts,
    }
    columns |= {
        "final": pa.array([exam.final(text) for text in texts], pa.string()),
        "outcome": [
            str(exam.grade(text, one.reference)) for text, one in zip(texts, items, strict=True)
        ],
    }
    columns |= {"finished": [True] * n} | {name: rng.uniform(0.1, 1, n) for name in NUMBERS}
    columns["tokens"] = rng.integers(5, 9, n)
    columns["passes"] = np.ones(n)
    if attacker or exams.only_edits(defense):
        columns |= {name: np.full(n, allowed[-1]) for name, allowed in exams.UNMOVED.items()}
    if not attacker or select:
        columns["bits_per_byte"] = pa.nulls(n, pa.float64())
    return pa.table(columns)


@functools.cache
def _items(task: str, split: Any, n: int) -> list[Item]:
    return list(build_task(task).items(split, n, 0))


def _manifest(plan: Plan) -> dict[str, Any]:
    makers: dict[str, dict[str, Any]] = {}
    stages: list[dict[str, Any]] = []
    files = {stage.key: {"made-up": digest(stage.key)} for stage in plan.stages}
    for stage in plan.stages:
        made = provenance.now(stage, 1).model_dump(exclude_none=True)
        makers.setdefault(canonical(made), made)
        stages.append(
            {
                "kind": stage.kind,
                "key": stage.key,
                "settings": stage.settings,
                "inputs": {
                    needed.key: provenance.contents(files[needed.key]) for needed in stage.inputs
                },
                "files": files[stage.key],
                "seconds": 1.0,
                "cpu_seconds": 1.0,
                **({"answer_seconds": 1.0} if stage.kind in EXAMS else {}),
                "made_by": [*makers].index(canonical(made)),
            }
        )
    return {
        "schema": run_folder.MANIFEST_SCHEMA,
        "study": plan.study.name,
        "fingerprint": "",
        "config_sha256": "",
        "versions": environment.versions(),
        "lock": [*environment.locked()],
        "machine": jsonable(environment.machine(1)),
        "code": jsonable(environment.code()),
        "plugins": provenance.plugins(plan.stages),
        "seeds": run_folder.seeds(plan),
        "made_by": [*makers.values()],
        "stages": stages,
        "missing": [],
        "old": [],
        "files": dict.fromkeys({*archive.ALWAYS} - {MANIFEST}, ""),
    }


def main() -> None:
    study, target, *more = sys.argv[1:]
    with tempfile.TemporaryDirectory() as home:
        write(planning.make(schema.load(study, [])), Path(home))
        print(*archive.pack(Path(home), Path(target)))
    if more:
        weigh_down(Path(target), int(more[0]))


def weigh_down(target: Path, size: int) -> None:
    """Store an archive's files unpacked, the report with so many MiB of noise behind it."""
    with zipfile.ZipFile(target) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as stored:
        for name, data in files.items():
            with stored.open(name, "w") as member:
                member.write(data)
                for _ in range(size if name == "report.html" else 0):
                    member.write(os.urandom(2**20))


if __name__ == "__main__":
    main()
