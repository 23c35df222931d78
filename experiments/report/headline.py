"""The finding of a study in a few lines: its defences by verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from experiments.results.schema.defenses import CaseResult
from experiments.results.schema.measures import Measures

ORDER = (
    "effective",
    "costly",
    "ineffective",
    "inconclusive",
    "not measurable",
    "invalid run",
    "",
)
"""Verdicts as a reader wants them; the last is none, of studies with fewer seeds than a look."""
SAYS = {
    "effective": "little transfers, at a loss that the honest user can bear",
    "costly": "that the honest user loses little enough is not shown",
    "ineffective": "most of what can be copied is copied",
    "inconclusive": "these students cannot tell",
    "not measurable": "there is no gap that could be closed",
    "invalid run": "something else than the defence explains the result",
    "": "no verdict: fewer seeds than a look takes",
}


class Finding(NamedTuple):
    """A verdict of a task with the defences that have it, at the task's largest budget."""

    task: str
    verdict: str
    cases: tuple[CaseResult, ...]

    @property
    def badge(self) -> str:
        """The verdict as a class of the style sheet."""
        return self.verdict.replace(" ", "-") or "none"

    @property
    def word(self) -> str:
        return self.verdict or "no verdict"

    @property
    def says(self) -> str:
        """What the verdict means."""
        return SAYS[self.verdict]


def findings(measures: Measures) -> list[Finding]:
    """By task in the study's order, then by verdict; controls are left out."""
    most = {case.task: case.budget for case in measures.cases}  # cases rise with their budget
    judged = [
        case
        for case in measures.cases
        if case.budget == most[case.task] and not case.is_control and case.defense != "none"
    ]
    made = (_finding(judged, task, verdict) for task in most for verdict in ORDER)
    return [finding for finding in made if finding.cases]


def _finding(judged: Sequence[CaseResult], task: str, verdict: str) -> Finding:
    cases = tuple(case for case in judged if (case.task, case.verdict) == (task, verdict))
    return Finding(task, verdict, cases)


def shared_remarks(cases: Sequence[CaseResult]) -> list[str]:
    """What stands beside every verdict, which is said once.

    Args:
        cases: of any tasks.
    """
    first = cases[0].remarks if cases else []
    return [remark for remark in first if all(remark in case.remarks for case in cases)]
