"""Whether a run's tests for marks are those that were planned, with the p-values that their counts
give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from experiments.measure.marks import log10_p
from experiments.planning.marks import parts_of
from experiments.planning.plan import Plan
from experiments.results.schema.marks import MarkedStudent, MarkTestResult
from experiments.review.recomputed import unlike


def listed(students: Sequence[MarkedStudent]) -> list[list[str | int | bool]]:
    """Who was tested for what.

    Args:
        students: of a run.
    """
    return [
        [one.task, one.defense, one.attacker, one.budget, one.seed, one.control] for one in students
    ]


def planned(plan: Plan, missing: Set[str]) -> list[list[str | int | bool]]:
    """The same of a plan.

    Args:
        plan: of the run's settings.
        missing: addresses of stages that were not made.
    """
    return [
        [
            run.arm.task,
            run.defense,
            run.arm.attacker,
            run.arm.budget,
            run.arm.seed,
            run.is_control,
        ]
        for run in plan.marks
        if run.stage.key not in missing
    ]


def faults(students: Sequence[MarkedStudent]) -> Iterator[str]:
    """What does not follow from what was counted, in words.

    Args:
        students: of a run.
    """
    for student in students:
        where = f"{student.defense} {student.attacker} seed {student.seed}"
        if student.control:
            where += " (control)"
        if student.marked_tokens > student.tokens or (student.control and student.marked_tokens):
            yield f"{where}: {student.marked_tokens} marked tokens of {student.tokens}"
        for test in student.tests:
            yield from (f"{where}: {fault}" for fault in _faults(student, test))


def _faults(student: MarkedStudent, test: MarkTestResult) -> Iterator[str]:
    marks = {name: part for name, part in parts_of(student.defense)}
    if test.mark not in marks:
        yield f"{test.mark} is no mark of it"
        return
    if not test.looks:
        yield f"{test.test} has no look"
    for look in test.looks:
        p = log10_p(marks[test.mark], test.test, look.scored, look.statistic, student.vocabulary)
        if next(unlike(p, look.log10_p), None) is not None:
            yield (
                f"{test.test} of {look.scored} draws: log10 p is {p}, the file says {look.log10_p}"
            )
