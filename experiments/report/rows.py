"""From grades to the table: one row a cell, each aggregate computed from per-item rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from experiments.measure.contrast import Estimate, contrast
from experiments.measure.transfer import transfer
from experiments.measure.verdict import word
from experiments.plan import FLOORS, IDENTITY, SHUFFLED, Arm, Plan, Stage
from experiments.stages import read_grades
from experiments.store import Store


class Cell(NamedTuple):
    """Arms that differ in their seed alone."""

    task: str
    attacker: str
    budget: int
    defense: str


class Scores(NamedTuple):
    """What a cell's students did in the exam; `right_SN` in {0, 1}, `bits_SN` per byte of the teacher's text."""

    right_SN: np.ndarray
    bits_SN: np.ndarray
    unparsed: float


def read(store: Store, stages: list[Stage]) -> Scores:
    """The grades of some exams, stacked to seeds x items."""
    graded = [read_grades(store.open(stage.kind, stage.key)) for stage in stages]
    outcomes = np.array([[row["outcome"] for row in rows] for rows in graded])
    bits = np.array([[row["bits_per_byte"] for row in rows] for rows in graded], float)
    return Scores((outcomes == "right").astype(float), bits, float((outcomes == "unparsed").mean()))


def cells(plan: Plan) -> dict[Cell, list[Arm]]:
    """The arms of each cell in the order of their seeds."""
    held: dict[Cell, list[Arm]] = {}
    for arm in sorted(plan.arms, key=lambda arm: arm.seed):
        held.setdefault(Cell(arm.task, arm.attacker, arm.budget, arm.defense), []).append(arm)
    return held


def table(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """The rows of `report --json`; null where nothing can be measured."""
    held = {cell: read(store, [arm.exam for arm in arms]) for cell, arms in cells(plan).items()}
    teachers = {at: read(store, [stage]) for at, stage in plan.teachers.items()}
    order = {"floor": 0, "none": 1, "control": 2, "defense": 3}
    ranked = sorted(held, key=lambda cell: (cell.task, cell.budget, order[_group(cell)]))
    return [_row(plan, cell, held, teachers) for cell in ranked]


def _group(cell: Cell) -> str:
    if cell.attacker in FLOORS:
        return "floor"
    return {"none": "none", IDENTITY: "control"}.get(cell.defense, "defense")


def _row(plan: Plan, cell: Cell, held: dict[Cell, Scores], teachers: dict[tuple[str, str], Scores]) -> dict[str, Any]:
    measure, defended = plan.study.measure, held[cell]
    alpha = measure.alpha
    here = {name: held[at] for name in FLOORS if (at := cell._replace(attacker=name, defense="none")) in held}
    # F3 shows what the form alone gives; it is a diagnostic and no choice of the attacker.
    floor = max((here[name] for name in here if name != SHUFFLED), key=lambda one: float(one.right_SN.mean()))
    undefended = held[_ceiling(cell, held)]
    asked = "none" if cell.defense == IDENTITY else cell.defense
    clean, guarded = teachers[cell.task, "none"], teachers[cell.task, asked]
    three = floor.right_SN, undefended.right_SN, defended.right_SN
    share = transfer(*three, alpha)
    uplift = contrast([floor.right_SN, defended.right_SN], [-1, 1], alpha=alpha)
    saved = _saved(list(here.values()), defended, alpha)
    verdict, rule = word(*three, clean.right_SN, guarded.right_SN, theta0=measure.theta,
                         utility_margin=measure.utility_margin, alpha=alpha)  # fmt: skip
    row = {
        "task": cell.task, "defense": cell.defense, "attacker": cell.attacker, "student": plan.study.student.name,
        "budget": cell.budget, "seeds": defended.right_SN.shape[0], "items": defended.right_SN.shape[1],
        "floor": floor.right_SN.mean(), "undefended": undefended.right_SN.mean(), "defended": defended.right_SN.mean(),
        "uplift": uplift.value, "uplift_lo": uplift.lo, "uplift_hi": uplift.hi,
        "transfer": share.value, "transfer_lo": share.lo, "transfer_hi": share.hi,
        "teacher_clean": clean.right_SN.mean(), "teacher_defended": guarded.right_SN.mean(),
        "verdict": verdict, "rule": rule, "unparsed": defended.unparsed,
        "bits_per_byte": defended.bits_SN.mean(),
        "bits_saved": saved.value, "bits_saved_lo": saved.lo, "bits_saved_hi": saved.hi,
    }  # fmt: skip
    return {name: _plain(value) for name, value in row.items()}


def _ceiling(cell: Cell, held: dict[Cell, Scores]) -> Cell:
    """The undefended cell of the same attacker; floors are compared with the study's first attacker."""
    same = cell._replace(defense="none")
    if cell.attacker not in FLOORS:
        return same
    return next(c for c in held if c.attacker not in FLOORS and c == same._replace(attacker=c.attacker))


def _saved(floors: list[Scores], defended: Scores, alpha: float) -> Estimate:
    """Bits per byte of the teacher's text that a student saves over the best floor."""
    best = min(floors, key=lambda one: float(one.bits_SN.mean()))
    return contrast([best.bits_SN, defended.bits_SN], [1, -1], alpha=alpha)


def _plain(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
