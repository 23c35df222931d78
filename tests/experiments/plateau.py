"""Whether twice the steps change what embedded models are right on: students, and teachers.

`make plateau` trains every kind of model on every embedded task once and for twice the steps, from
the same seeds, and writes docs/plateau.md: about four hours of a core. What is trained already is
not trained again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from experiments import load_study
from experiments.launch import local
from experiments.measure import scores
from experiments.measure.contrast import Estimate, arm_mean, contrast
from experiments.planning import plan as planning
from experiments.planning.arms import IDENTITY, Arm, is_floor
from experiments.planning.plan import Plan
from experiments.settings.schema import Study
from experiments.stages.evaluation import TeacherEvaluationInputs
from experiments.stages.grades import read_grades
from experiments.stages.stage import Stage
from experiments.stages.teacher import RecipeTeacher
from experiments.store import Store

FIRST = 20  # the seeds of shipped studies lie below: recipes were chosen on other students
FAILING = 0.1  # below the arm's median
SMALL = 0.01  # moves no T by more than it: near 100 % an arm's error is less than that
NOISY = "decoding/perturbed(eps=0.02)"
CELLS = {
    ("trace", "sft"): ["none", NOISY],
    ("tools", "sft"): ["none", NOISY],
    ("lookup", "sft"): ["none"],
    ("addition", "sft"): ["none"],
    ("addition", "logprob_kd"): ["none", "release/top_k"],
}
"""By task and attack, the defences whose students are compared."""
SETTINGS = {
    "lookup": (
        "student.num_heads=2",
        "student.steps=2400",
        "budget=3200",
        "teacher.num_heads=4",
    ),
    "tools": ("student.steps=1800",),
}
"""What a task takes beside the recipe; its config says so."""
TEACHERS = {"quick": ("trace", "addition")}
"""The recipe of fewest steps, and the tasks that it is for."""


class Row(NamedTuple):
    """Models of one kind: `name` in words, and the exams of both lengths; the first of `once` are
    of the seeds of `twice`.
    """

    name: str
    steps: int
    once: tuple[Stage, ...]
    twice: tuple[Stage, ...]


@dataclass(frozen=True)
class Change:
    """Right answers of both lengths `[S, N]`, and what the longer one changes."""

    once: scores.Arm
    twice: scores.Arm

    @property
    def difference(self) -> Estimate:
        """Seed by seed, over the seeds of both."""
        twice, count = self.twice, len(self.twice.seeds)
        first = scores.Arm(self.once.scores_SN[:count], self.once.seeds[:count])
        return contrast([twice, first], [1, -1])

    @property
    def error(self) -> float:
        """Standard error of the arm, over its seeds and questions."""
        return float(arm_mean(self.once).se)

    @property
    def failing(self) -> int:
        """Seeds whose students are far below those of the others."""
        right = np.asarray(self.once.scores_SN).mean(1)
        return int((right < np.median(right) - FAILING).sum())

    @property
    def holds(self) -> bool:
        """No seed fails; twice the steps move the mean by less than the arm's error or a point."""
        moved = abs(float(self.difference.value))
        return not self.failing and moved <= max(self.error, SMALL)


def study(task: str, *more: str, seeds: int = 20) -> Study:
    """The embedded recipes on one task, on seeds of their own.

    Args:
        task: its entry.
        *more: overrides.
        seeds: how many.
    """
    words = [
        "name=plateau",
        "student=tiny",
        "teacher=embedded",
        f"seeds={[*range(FIRST, FIRST + seeds)]}",
        f"baseline_seeds={seeds}",
        f"measure.looks=[{max(seeds, 3)}]",
        f"task={task}",
    ]
    return load_study("quickstart", [*words, *more])


def students(task: str, attacker: str, seeds: int, doubled: int, *more: str) -> Iterator[Row]:
    """Students of one task and attack, with and without a defence.

    Args:
        task: its entry.
        attacker: its entry.
        seeds: how many train once.
        doubled: how many of them train for twice the steps as well.
        *more: overrides.
    """
    defenses = CELLS[task, attacker]
    entries = [f"defense=[{','.join(defenses)}]", f"attacker={attacker}", *SETTINGS.get(task, ())]
    base = study(task, *entries, *more, seeds=seeds)
    lengths = [_arms(base, times) for times in (1, 2)]
    for defense in defenses:
        once, twice = (
            tuple(arm.exam for arm in arms if arm.defense == defense) for arms in lengths
        )
        behind = "undefended" if defense == "none" else f"`{defense}`"
        name = f"student, {task}, {attacker}, {behind}"
        yield Row(name, base.student.steps, once, twice[:doubled])


def _arms(base: Study, times: int) -> list[Arm]:
    """Reported students, trained so many times as long; no floor and no control."""
    longer = base.student.model_copy(update={"steps": times * base.student.steps})
    arms = planning.make(base.model_copy(update={"student": longer})).arms
    asking = [arm for arm in arms if arm.split == "report" and not is_floor(arm.attacker)]
    return [arm for arm in asking if arm.defense != IDENTITY]


def teachers(name: str, task: str, seeds: int, *more: str) -> Row:
    """Teachers by recipe, which a study trains once, from as many seeds."""
    settings = [f"teacher={name}", "defense=none", "attacker=sft", *SETTINGS.get(task, ())]
    made = study(task, *settings, *more, seeds=1)
    exam = planning.make(made).teachers[task, "none", "report"][0]
    assert isinstance(exam.needs, TeacherEvaluationInputs)
    recipe = exam.needs.teacher.spec
    assert isinstance(recipe, RecipeTeacher)
    exams = []
    for times in (1, 2):
        shape = recipe.shape.model_copy(update={"steps": times * recipe.shape.steps})
        specs = [
            recipe.model_copy(update={"shape": shape, "seed": FIRST + n}) for n in range(seeds)
        ]
        exams.append(
            tuple(Stage(exam.spec, replace(exam.needs, teacher=Stage(spec))) for spec in specs)
        )
    return Row(f"teacher `{name}`, {task}", recipe.shape.steps, *exams)


def run(rows: Sequence[Row], root: Path, workers: int) -> list[Change]:
    """Train and ask all that is missing.

    Args:
        rows: what is compared.
        root: of the store.
        workers: processes.

    Returns:
        What twice the steps change, a row each.
    """
    tops = [exam for row in rows for exam in (*row.once, *row.twice)]
    every = Plan(study("trace"), teachers={("", "", str(n)): [top] for n, top in enumerate(tops)})
    store = Store(root)
    local.run(every, store.root, workers, Console(stderr=True))
    return [Change(_graded(row.once, store), _graded(row.twice, store)) for row in rows]


def _graded(exams: Sequence[Stage], store: Store) -> scores.Arm:
    right = [
        [row.outcome == "right" for row in read_grades(store.folder(exam.kind, exam.key))]
        for exam in exams
    ]
    return scores.Arm(np.array(right, float), tuple(range(len(exams))))


HEAD = """# Twice the steps

`make plateau` writes this page. Embedded students and teachers are trained for their recipe's
steps and, some of their seeds, for twice as many, and answer the same 300 questions. *Seeds*: how
many trained once, and twice as long. *Right* and *twice*: in %, the mean over seeds, lowest to
highest. *Change*: in points, seed by seed where both trained, with its standard error. *Error*: the
standard error of the arm, over seeds and questions. *Holds*: the change is within it or within a
point, and no seed fails, that is, lies {failing} points below its arm's median.

| models | seeds | steps | right | twice | change | error | failing | holds |
|---|---|---|---|---|---|---|---|---|
"""


def page(rows: Sequence[Row], changes: Sequence[Change]) -> str:
    """docs/plateau.md.

    Args:
        rows: what was compared.
        changes: of each.
    """
    lines = (_line(row, change) for row, change in zip(rows, changes, strict=True))
    return HEAD.format(failing=round(100 * FAILING)) + "".join(lines)


def _line(row: Row, change: Change) -> str:
    moved = change.difference
    cells = [
        row.name,
        f"{len(row.once)}, {len(row.twice)}",
        row.steps,
        _shown(change.once),
        _shown(change.twice),
        f"{100 * float(moved.value):+.1f} ± {100 * float(moved.se):.1f}",
        f"{100 * change.error:.1f}",
        change.failing,
        "yes" if change.holds else "**no**",
    ]
    return "".join(f"| {cell} " for cell in cells) + "|\n"


def _shown(arm: scores.Arm) -> str:
    right = 100 * np.asarray(arm.scores_SN).mean(1)
    return f"{right.mean():.1f} ({right.min():.1f} to {right.max():.1f})"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="students of each arm")
    parser.add_argument("--doubled", type=int, default=8, help="of them, for twice the steps too")
    parser.add_argument("--teachers", type=int, default=3, help="seeds of each teacher")
    parser.add_argument("--tasks", nargs="*", default=["trace", "addition", "lookup", "tools"])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="whose store is used")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", type=Path, default=Path("docs/plateau.md"))
    parser.add_argument("overrides", nargs="*", help="of the study, key=value")
    args = parser.parse_args(words)
    cells = [cell for cell in CELLS if cell[0] in args.tasks]
    many = (args.seeds, args.doubled)
    rows = [row for cell in cells for row in students(*cell, *many, *args.overrides)]
    if args.teachers:
        rows += [
            teachers(name, task, args.teachers, *args.overrides)
            for name, tasks in TEACHERS.items()
            for task in tasks
            if task in args.tasks
        ]
    text = page(rows, run(rows, args.runs / "store", args.workers))
    args.write.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
