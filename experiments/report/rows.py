"""From grades to the table: one row a cell, each aggregate computed from per-item rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from experiments.measure.contrast import contrast
from experiments.measure.transfer import transfer
from experiments.measure.verdict import word
from experiments.plan import FLOORS, Arm, Plan
from experiments.stages import read_grades
from experiments.store import Store


def scores(store: Store, arms: list[Arm]) -> np.ndarray:
    """Seeds x items, 1 where right."""
    return np.stack([_right(store, arm.exam) for arm in sorted(arms, key=lambda arm: arm.seed)])


def _right(store: Store, exam: Any) -> np.ndarray:
    return np.array([row["outcome"] == "right" for row in read_grades(store.open(exam.kind, exam.key))], float)


def table(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """The rows of `report --json`; null where nothing can be measured."""
    cells: dict[tuple[Any, ...], list[Arm]] = {}
    for arm in plan.arms:
        cells.setdefault((arm.task, arm.attacker, arm.budget, arm.defense), []).append(arm)
    held = {cell: scores(store, arms) for cell, arms in cells.items()}
    return [_row(plan, store, cell, held) for cell in cells]


def _row(plan: Plan, store: Store, cell: Any, held: dict[Any, np.ndarray]) -> dict[str, Any]:
    task, attacker, budget, defense = cell
    floors = {name: held[task, name, budget, "none"] for name in FLOORS}
    # F3 shows what the format alone gives; it is a diagnostic and no option of the attacker.
    floor = max((floors[name] for name in FLOORS[:2]), key=lambda Y: float(Y.mean()))
    defended = held[cell]
    undefended = held.get((task, attacker, budget, "none")) if attacker not in FLOORS else None
    if undefended is None:
        undefended = held[task, "sft", budget, "none"] if (task, "sft", budget, "none") in held else defended
    alpha = plan.study.measure.alpha
    uplift = contrast([floor, defended], [-1, 1], alpha=alpha)
    share = transfer(floor, undefended, defended, alpha)
    clean = _right(store, plan.teachers[task, "none"])[None]
    guarded = _right(store, plan.teachers[task, defense])[None]
    measure = plan.study.measure
    verdict, rule = word(
        floor, undefended, defended, clean, guarded, theta0=measure.theta, utility_margin=measure.utility_margin
    )
    row = {
        "task": task, "defense": defense, "attacker": attacker, "student": plan.study.student.name, "budget": budget,
        "seeds": defended.shape[0], "items": defended.shape[1], "floor": floor.mean(), "undefended": undefended.mean(),
        "defended": defended.mean(), "uplift": uplift.value, "uplift_lo": uplift.lo, "uplift_hi": uplift.hi,
        "transfer": share.value, "transfer_lo": share.lo, "transfer_hi": share.hi, "teacher_clean": clean.mean(),
        "teacher_defended": guarded.mean(), "verdict": verdict, "rule": rule,
    }  # fmt: skip
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
