"""The frontier of a study: transfer against the honest user's loss (E8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.analysis.comparisons import ArmTable
from experiments.analysis.ranking import Cell
from experiments.measure import frontier
from experiments.measure.transfer import normalised_transfer
from experiments.planning.arms import IDENTITY
from experiments.results.grades import Key
from experiments.results.schema.defenses import (
    BestDefense,
    CaseResult,
    FrontierResult,
    VolumeResult,
)

NOT_CHOSEN = (
    "not chosen: defences need students on the selection split, so two attacks or more, and be "
    "two or more"
)
TRIVIAL = ("decoding/temperature", "release/truncate", "release/answer_only")


class Selection(NamedTuple):
    """What K defences lose and transfer by the selection split's students and questions."""

    lost_K: np.ndarray
    transferred_K: np.ndarray


def frontier_results(table: ArmTable, cases: dict[Cell, CaseResult]) -> list[FrontierResult]:
    """One a task, at its largest budget: the best defence at each margin, the hypervolume, and
    which defences a trivial one beats.

    What is best is chosen by the selection split's students and questions among those that pass
    at the margin.

    Args:
        table: the study's graded arms.
        cases: of every task.
    """
    return [_result(table, task, cases) for task in table.tasks()]


def _result(table: ArmTable, task: str, cases: dict[Cell, CaseResult]) -> FrontierResult:
    budget = max(table.budgets(task))
    measured = [
        case
        for cell, case in cases.items()
        if (cell.task, cell.budget) == (task, budget)
        and cell.defense != IDENTITY
        and case.transfer is not None
    ]
    selection = _selection(table, measured)
    return FrontierResult(
        task=task,
        budget=budget,
        best_at_points={f"{100 * m:g}": _best(measured, selection, m) for m in frontier.MARGINS},
        dominated_by={case.defense: by for case in measured if (by := _dominating(case, measured))},
        not_chosen="" if selection else NOT_CHOSEN,
        volume=_volume(table, measured, selection) if selection else None,
    )


def _best(
    cases: Sequence[CaseResult], selection: Selection | None, margin: float
) -> BestDefense | None:
    if selection is None:
        return None
    changes = [case.utility.lo for case in cases]
    i = frontier.best_at(list(zip(changes, selection.transferred_K, strict=True)), margin)
    return None if i is None else BestDefense(defense=cases[i].defense, transfer=cases[i].effective)


def _selection(table: ArmTable, cases: Sequence[CaseResult]) -> Selection | None:
    """None unless there are two defences or more, each with students of its own to be chosen on,
    and a gap.
    """
    students = [table.grades.get(_key(case, case.attack, "select")) for case in cases]
    teachers = [table.grades.get(Key(c.task, c.defense, "", 0, "select")) for c in cases]
    if len(cases) < 2 or any(exams is None for exams in (*students, *teachers)):
        return None
    first = cases[0]
    undefended = Cell(first.task, first.budget, "none")
    keys = (
        undefended.key(first.floor, "select"),
        undefended.key(first.ceiling, "select"),
        Key(first.task, "none", "", 0, "select"),
    )
    F, U, Te = (table.grades[key].right_SN.mean() for key in keys)
    if U <= F:
        return None
    right_K = [exams.right_SN.mean() for exams in students if exams]
    lost_K = np.array([Te - exams.right_SN.mean() for exams in teachers if exams])
    return Selection(lost_K, normalised_transfer(F, U, right_K))


def _key(case: CaseResult, attacker: str, split: str = "report") -> Key:
    return Key(case.task, case.defense, attacker, case.budget, split)


def _volume(table: ArmTable, cases: Sequence[CaseResult], selection: Selection) -> VolumeResult:
    """Of the configurations that no other one beat on the selection split."""
    first = cases[0]
    ceiling = Key(first.task, "none", first.ceiling, first.budget, "report")
    volume = frontier.volume(
        table.grades[table.floor_key(first.task, first.budget)].right_SN,
        table.report[ceiling].right_SN,
        [table.report[_key(case, case.attack)].right_SN for case in cases],
        table.teacher(first.task, "none").right_SN,
        [table.teacher(first.task, case.defense).right_SN for case in cases],
        frontier.non_dominated(selection.lost_K, selection.transferred_K),
        alpha=table.alpha,
        draws=table.study.measure.draws,
        clusters=table.clusters(first.task),
    )
    return VolumeResult(**volume._asdict(), defenses=[case.defense for case in cases])


def _dominating(case: CaseResult, cases: Sequence[CaseResult]) -> str:
    """The trivial defence that costs no more and stops more, if there is one."""
    for other in cases:
        trivial = other.defense.partition("(")[0] in TRIVIAL and other is not case
        if not trivial or other.effective is None or case.effective is None:
            continue
        if other.utility.change >= case.utility.change and other.effective < case.effective:
            return other.defense
    return ""
