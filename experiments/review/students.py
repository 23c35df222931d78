"""The students and exams of a run beside those that its settings plan."""

from __future__ import annotations

from typing import Any

from experiments.planning import arms
from experiments.planning.arms import Arm
from experiments.planning.plan import Plan
from experiments.results import grades
from experiments.results.schema.arms import FinishedStudent, MissingStudent
from experiments.review import (
    Check,
    Word,
    guarded,
    regrade,
    short,
)
from experiments.review.form import Run
from experiments.review.recomputed import difference, unlike


def complete(run: Run, planned: Plan) -> list[Check]:
    """Every planned student has its grades, and no other has: a missing seed, or one too many, is
    named.
    """
    there = {(*key, seed) for key, sat in run.grades.items() for seed in sat.seeds}
    lost = [arm for arm in planned.arms if tuple(_who(arm)) not in there]
    total = got = f"{len(planned.arms)} students"
    if lost:
        first = f"{lost[0].defense} {lost[0].attacker} {lost[0].task} seed {lost[0].seed}"
        got = f"{len(lost)} missing, first {first}"
    missing = {*run.manifest.missing}
    expected = [[*_who(arm), arm.exam.key not in missing] for arm in planned.arms]
    listed = [[*_who(record), record.finished] for record in run.arms]
    wrong = next(unlike(expected, listed), None)
    claim = "arms.json lists the planned students"
    return [
        Check("every planned student was graded", "FAIL" if lost else "PASS", total, got),
        Check(claim, "FAIL" if wrong else "PASS", total, difference(wrong)),
        *guarded("every grade is the grader's", lambda: _graded(run, planned, there)),
    ]


def _who(arm: Arm | FinishedStudent | MissingStudent) -> list[str | int]:
    return [getattr(arm, name) for name in grades.WHO]


def named(run: Run) -> Check:
    """Where nothing can be planned: arms and exams are at least of what the settings name."""
    blocks = run.study.blocks
    tasks = {task for block in blocks for task in block.tasks}
    allowed: tuple[set[Any], ...] = (
        tasks,
        {defense for block in blocks for defense in block.defenses} | {"none", arms.IDENTITY},
        {attacker for block in blocks for attacker in block.attackers} | {*arms.FLOORS, ""},
        {budget for block in blocks for budget in block.budgets} | {0},
    )
    listed = {(arm.task, arm.defense, arm.attacker, arm.budget) for arm in run.arms}
    listed |= {(key.task, key.defense, key.attacker, key.budget) for key in run.grades}
    odd: list[tuple[Any, ...]] = sorted(
        arm for arm in listed if any(part not in s for part, s in zip(arm, allowed, strict=True))
    )
    odd += [(task, "has none") for task in sorted(tasks - {task for task, *_ in listed})]
    total = f"{len(listed)} arms"
    got = short(f"{len(odd)} others, first {' '.join(map(str, odd[0]))}", 160) if odd else total
    return Check("every arm is of the settings", "FAIL" if odd else "PASS", total, got)


def _graded(run: Run, planned: Plan, there: set[tuple[Any, ...]]) -> list[Check]:
    """No exam but the planned ones, on the questions of the task, and every answer graded again."""
    strange, total = sorted(there - _exams(planned)), f"{len(there)} exams"
    got = f"{len(strange)} others, first {' '.join(map(str, strange[0]))}" if strange else total
    wrong = regrade.misgraded(run.home / "grades.parquet", run.study.measure)
    word: Word = "FAIL" if wrong else "PASS"
    return [
        Check("every exam was planned", "FAIL" if strange else "PASS", total, got),
        Check("every grade is the grader's", word, "the same", short(wrong or "the same", 160)),
    ]


def _exams(planned: Plan) -> set[tuple[Any, ...]]:
    """Who sits each planned exam; of students trained for longer, whichever attack is the worst."""
    exams = {tuple(_who(arm)) for arm in planned.arms}
    for (task, defense, split), stages in planned.teachers.items():
        exams |= {(task, defense, "", 0, split, seed) for seed in range(len(stages))}
    for longer in planned.plateaus:
        arm = (longer.budget, "plateau", longer.seed)
        exams |= {(longer.task, longer.defense, attacker, *arm) for attacker in longer.attackers}
    return exams
