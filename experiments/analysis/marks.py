"""From the tests of students for marks to the tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from experiments.measure.detection import clopper_pearson
from experiments.measure.marks import LEVELS
from experiments.planning.arms import MarkRun
from experiments.planning.plan import Plan
from experiments.results.schema.marks import (
    DetectedShare,
    MarkedStudent,
    MarkLook,
    MarkPoint,
    MarkResult,
    MarkTestResult,
)
from experiments.stages.files import MarkEvidence
from experiments.store import Store


def collect(plan: Plan, store: Store) -> list[MarkedStudent]:
    """One entry a student that was tested, in the order of the plan.

    Args:
        plan: with its tests.
        store: of results; what is missing is left out.

    Raises:
        BadInput: a result is damaged.
    """
    return [
        _student(run, MarkEvidence.read(store.open(run.stage.kind, run.stage.key)))
        for run in plan.marks
        if store.has(run.stage.kind, run.stage.key)
    ]


def _student(run: MarkRun, evidence: MarkEvidence) -> MarkedStudent:
    arm = run.arm
    tests = [
        MarkTestResult(
            mark=test.mark,
            test=test.test,
            looks=[MarkLook(**dict(look)) for look in test.looks],
        )
        for test in evidence.tests
    ]
    return MarkedStudent(
        task=arm.task,
        defense=run.defense,
        attacker=arm.attacker,
        budget=arm.budget,
        seed=arm.seed,
        control=run.is_control,
        tokens=evidence.tokens,
        marked_tokens=0 if run.is_control else evidence.sold,
        vocabulary=evidence.vocabulary,
        tests=tests,
    )


def mark_results(students: Sequence[MarkedStudent], alpha: float) -> list[MarkResult]:
    """One row a test of an arm's students, and one of their controls.

    Args:
        students: that were tested, in any number of arms.
        alpha: two-sided level of the intervals.
    """
    groups: dict[tuple[str, str, str, int, bool], list[MarkedStudent]] = {}
    for student in students:
        at = (student.task, student.defense, student.attacker, student.budget, student.control)
        groups.setdefault(at, []).append(student)
    rows = []
    for same in groups.values():
        tests: dict[tuple[str, str], list[MarkTestResult]] = {}
        for student in same:
            for test in student.tests:
                tests.setdefault((test.mark, test.test), []).append(test)
        rows += [_result(same, results, alpha) for results in tests.values()]
    return rows


def _result(
    students: Sequence[MarkedStudent], tests: Sequence[MarkTestResult], alpha: float
) -> MarkResult:
    """A test of the students of an arm."""
    first, last = students[0], [test.looks[-1] for test in tests]
    values = [look.log10_p for look in last if look.log10_p is not None]
    return MarkResult(
        task=first.task,
        defense=first.defense,
        attacker=first.attacker,
        budget=first.budget,
        control=first.control,
        mark=tests[0].mark,
        test=tests[0].test,
        students=len(tests),
        with_p=len(values),
        scored=float(median(look.scored for look in last)),
        repeats=float(median(look.repeats for look in last)),
        share=fmean(one.marked_tokens / one.tokens if one.tokens else 0.0 for one in students),
        marked_tokens=fmean(one.marked_tokens for one in students),
        log10_p=median(values) if values else None,
        shares=[_detected(values, len(tests), level, alpha) for level in LEVELS],
        curve=_curve(tests),
        note=next((look.note for look in last if look.log10_p is None), ""),
    )


def _detected(values: Sequence[float], students: int, level: float, alpha: float) -> DetectedShare:
    """The share of students whose p is at most a level; one without a p-value is not found."""
    hits = sum(10.0**value <= level for value in values)
    rate = clopper_pearson(hits, students, alpha)
    return DetectedShare(level=level, value=hits / students, lo=rate.lo, hi=rate.hi)


def _curve(tests: Sequence[MarkTestResult]) -> list[MarkPoint]:
    """The median p after as many draws as looks were made at, and after all."""
    at: dict[int, list[float]] = {}
    ends: list[MarkLook] = []
    for test in tests:
        *looks, end = test.looks
        for look in looks:
            if look.log10_p is not None:
                at.setdefault(look.scored, []).append(look.log10_p)
        if end.log10_p is not None:
            ends.append(end)
    points = [
        MarkPoint(scored=scored, students=len(values), log10_p=median(values))
        for scored, values in sorted(at.items())
    ]
    if not ends:
        return points
    whole = MarkPoint(
        scored=round(median(look.scored for look in ends)),
        students=len(ends),
        log10_p=median([look.log10_p for look in ends if look.log10_p is not None]),
    )
    # Students differ in how many draws they have: a point that few of them reach, beyond the
    # median of all, is no part of the curve.
    return [*(point for point in points if point.scored < whole.scored), whole]
