"""A defence on a task against all listed attacks: worst case, verdict and sensitivity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from experiments.analysis import flagging
from experiments.analysis.comparisons import ArmTable
from experiments.analysis.families import family
from experiments.analysis.ranking import Cell, Ranking, rank_attacks
from experiments.analysis.sensitivity import sensitivity
from experiments.measure import flags, frontier, verdict
from experiments.measure.scores import Arm
from experiments.measure.transfer import transfer
from experiments.measure.utility import non_inferiority
from experiments.planning.arms import IDENTITY, is_floor
from experiments.results.schema.defenses import CaseResult, Plateau, Utility
from experiments.results.schema.measures import RaisedFlag
from experiments.settings.attacks import parse_attack
from experiments.settings.defenses import parse_defense

MOVED = 0.05  # what twice the steps may change before a case is an invalid run, a share
SMALLER_BUDGET = "verdicts are given at the largest budget"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is judged of a defence, and what is said beside the verdict."""

    cell: Cell
    ranking: Ranking
    case: verdict.Case
    plateau: Plateau
    flags: list[RaisedFlag]


class Judged(NamedTuple):
    """The cases of a study by cell, and the flags that were raised of them."""

    cases: dict[Cell, CaseResult]
    flags: list[RaisedFlag]


def judge_defenses(table: ArmTable) -> Judged:
    """Evaluate and judge every defence.

    Verdicts are given at the largest budget of each task, with Holm over all of them; smaller
    budgets carry none.
    """
    evaluations = [evaluate(table, cell) for cell in _cells(table)]
    largest = {task: max(table.budgets(task)) for task in table.tasks()}
    judged = [e for e in evaluations if e.cell.budget == largest[e.cell.task]]
    verdicts = verdict.judge([e.case for e in judged], table.rules)
    by_cell = dict(zip((e.cell for e in judged), verdicts, strict=True))
    none = verdict.NO_WORD._replace(rule=SMALLER_BUDGET)
    cases = {e.cell: _case_result(table, e, by_cell.get(e.cell, none)) for e in evaluations}
    return Judged(cases, [flag for e in evaluations for flag in e.flags])


def _cells(table: ArmTable) -> list[Cell]:
    return [
        Cell(task, budget, defense)
        for task in table.tasks()
        for budget in table.budgets(task)
        for defense in dict.fromkeys(key.defense for key in table.report if key.task == task)
        if defense != "none" and table.attackers(task, budget, defense)
    ]


# One case


def evaluate(table: ArmTable, cell: Cell) -> Evaluation:
    """All that a verdict on a defence is given on, with the flags of its arms.

    Args:
        table: the study's graded arms.
        cell: that is judged.

    Raises:
        NotMeasurable: as `rank_attacks`.
    """
    ranking = rank_attacks(table, cell)
    faults = [flagging.attack_faults(table, cell.key(a)) for a in ranking.attackers]
    plateau, plateau_flags = _plateau(table, cell, ranking)
    reasons = [fault.reasons for fault in faults]
    reasons[ranking.worst.attack] = [*reasons[ranking.worst.attack], *_still_learning(plateau)]
    raised = [
        *_identity_flags(table, cell, ranking),
        *(flag for fault in faults for flag in fault.flags),
        *plateau_flags,
    ]
    return Evaluation(cell, ranking, _case(table, cell, ranking, reasons), plateau, raised)


def _case(table: ArmTable, cell: Cell, ranking: Ranking, reasons: list[list[str]]) -> verdict.Case:
    control, worst = cell.defense == IDENTITY, ranking.worst
    clean, defended = (
        table.scores(table.teacher_key(cell.task, name)) for name in ("none", cell.defense)
    )
    return verdict.Case(
        floor=ranking.floor,
        undefended=ranking.undefended,
        attacks=ranking.attacks,
        clean=clean,
        guarded=defended,
        selected=worst.attack,
        ceiling=worst.ceiling,
        adaptive=[parse_attack(attacker).adaptive for attacker in ranking.attackers],
        invalid=invalid_reasons(reasons, worst.attack, worst.lcb, table.study.measure.ineffective),
        missing=_missing_students(table, cell),
        control=control,
        matched=not control and parse_defense(cell.defense).match is not None,
        clusters=table.clusters(cell.task),
    )


def invalid_reasons(
    reasons: list[list[str]], worst: int, lcb: float | None, ineffective: float
) -> list[str]:
    """What makes a case an invalid run, from the reasons of each attack.

    Where the worst attack is sound and surely recovers more than `ineffective`, faults of others
    change no word: they could only have recovered more.

    Args:
        reasons: by attack.
        worst: the place of the worst attack among them.
        lcb: lower bound of its T; None where there is none.
        ineffective: the T from which a defence is called so.
    """
    counted = [reasons[worst]] if lcb is not None and lcb > ineffective else reasons
    return list(dict.fromkeys(reason for attack in counted for reason in attack))


def _missing_students(table: ArmTable, cell: Cell) -> list[str]:
    """Planned students of a case that are not there: of its attacks, its ceilings and its floor."""
    missing = []
    for key, planned in table.students.items():
        if (key.task, key.budget, key.split) != (cell.task, cell.budget, "report"):
            continue
        needed = key.defense in (cell.defense, "none") and not is_floor(key.attacker)
        needed = needed or key.attacker == table.floor(cell.task, cell.budget)
        lacking = len(planned) - (len(table.report[key].seeds) if key in table.report else 0)
        if needed and lacking > 0:
            missing.append(f"{lacking} of {len(planned)} students of {key.defense} {key.attacker}")
    return missing


def _identity_flags(table: ArmTable, cell: Cell, ranking: Ranking) -> list[RaisedFlag]:
    """The control must not miss 1 at a level that all of a study's controls share: of many, each at
    5 %, some would.
    """
    if cell.defense != IDENTITY:
        return []
    worst = ranking.worst
    arms = ranking.floor, ranking.undefended[worst.ceiling], ranking.attacks[worst.attack]
    controls = [other for other in _cells(table) if other.defense == IDENTITY]
    shared = transfer(*arms, table.alpha / len(controls), table.clusters(cell.task))
    evidence = flags.identity(worst.transfer, shared)
    return flagging.raised("identity", cell.key(ranking.attacker), evidence)


# Twice the training steps


def _plateau(table: ArmTable, cell: Cell, ranking: Ranking) -> tuple[Plateau, list[RaisedFlag]]:
    if cell.defense == IDENTITY:
        return Plateau(), []
    U, D = cell.undefended.key(ranking.ceiling), cell.key(ranking.attacker)
    changes = Plateau(U=flagging.plateau_change(table, U), D=flagging.plateau_change(table, D))
    return changes, [*flagging.plateau_flags(table, U), *flagging.plateau_flags(table, D)]


def _still_learning(plateau: Plateau) -> list[str]:
    return [
        f"at twice the steps {symbol} gains {100 * change.change:.1f} points"
        for symbol, change in plateau.items()
        if change.moved and change.change > MOVED
    ]


def _plateau_remarks(plateau: Plateau) -> list[str]:
    """What is said beside a word of students that were trained for twice the steps."""
    changes = [f"{symbol} {100 * one.change:+.1f}" for symbol, one in plateau.items()]
    return [f"at twice the steps {', '.join(changes)} points"] if changes else []


# As it is reported


def utility(table: ArmTable, task: str, clean: Arm, defended: Arm) -> Utility:
    """The honest user's cost at the study's margin, and the margins at which it is not inferior.

    Args:
        table: the study's graded arms.
        task: whose items may belong together.
        clean: the undefended teacher's exams.
        defended: the defended teacher's exams.
    """
    study_margin, labels = table.study.measure.utility_margin, table.clusters(task)
    costs = {
        margin: non_inferiority(clean, defended, margin, table.alpha, labels)
        for margin in sorted({*frontier.MARGINS, study_margin})
    }
    passes_at = [margin for margin, one in costs.items() if one.passes]
    return Utility(**costs[study_margin]._asdict(), passes_at=passes_at)


def _case_result(table: ArmTable, evaluation: Evaluation, word: verdict.Verdict) -> CaseResult:
    cell, ranking, case = evaluation.cell, evaluation.ranking, evaluation.case
    share = ranking.worst.transfer
    return CaseResult(
        task=cell.task,
        budget=cell.budget,
        defense=cell.defense,
        family=family(cell.defense),
        attack=ranking.attacker,
        attacks=ranking.attackers,
        transfers=ranking.transfers(),
        ceiling=ranking.ceiling,
        floor=table.floor(cell.task, cell.budget),
        tie=ranking.worst.tie,
        transfer=share.value,
        effective=share.effective,
        kind=share.kind,
        lcb=ranking.worst.lcb,
        hi=share.hi,
        ucb=ranking.worst.ucb,
        plateau=evaluation.plateau,
        utility=utility(table, cell.task, case.clean, case.guarded),
        word=word.word,
        rule=word.rule,
        remarks=[*word.remarks, *_plateau_remarks(evaluation.plateau)],
        p=word.p,
        p_ineffective=word.p_ineffective,
        unseen=word.unseen,
        settle=word.settle,
        verdict=word.word,
        sensitivity=sensitivity(table, cell, ranking, share.kind),
    )
