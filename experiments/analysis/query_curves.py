"""Query curves: accuracy against exchanges, the multiplier M, the area between, and the bill (E9,
E10, E13).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from experiments.analysis.comparisons import ArmTable
from experiments.analysis.ledger import gpu_hours, ledger_row
from experiments.measure import cost, curves
from experiments.measure.budgets import too_far
from experiments.measure.contrast import arm_mean
from experiments.measure.scores import Arm
from experiments.planning.arms import FLOORS, is_floor
from experiments.results.grades import Key
from experiments.results.schema.curves import (
    AreaBetween,
    BillResult,
    CommonShape,
    CurveBill,
    CurveResult,
    HalfBill,
    MultiplierResult,
)

FEWEST_BUDGETS = 4  # for a query curve to be inverted
CLAIM_BUDGETS, CLAIM_SEEDS, CLAIM_ITEMS = 6, 5, 500  # from which M is a claim and not a hint
CENSORED = 0.025  # share of draws without an upper end, from which a bill is a lower bound


class Line(NamedTuple):
    """An attack on a task behind a defence, at all budgets that it has students of."""

    task: str
    attacker: str
    defense: str
    budgets: list[int]

    def keys(self, defense: str) -> list[Key]:
        """The reported arms of the same attack behind a defence, by budget.

        Args:
            defense: by its entry.
        """
        return [Key(self.task, defense, self.attacker, n, "report") for n in self.budgets]


class Pair(NamedTuple):
    """The curves of U and D: scores (K x S x N) with the seeds of each."""

    undefended_KSN: np.ndarray
    defended_KSN: np.ndarray
    seeds: tuple[tuple[int, ...], tuple[int, ...]]


def curve_results(table: ArmTable) -> list[CurveResult]:
    """One curve an attack and defence with budgets as an axis; n = 0 is the untrained student."""
    return [_result(table, line) for line in _lines(table) if len(line.budgets) > 1]


def _lines(table: ArmTable) -> list[Line]:
    lines = dict.fromkeys(
        (task, key.attacker, key.defense)
        for task in table.tasks()
        for key in table.report
        if key.task == task and not is_floor(key.attacker)
    )
    return [Line(*line, _budgets(table, *line)) for line in lines]


def _budgets(table: ArmTable, task: str, attacker: str, defense: str) -> list[int]:
    budgets = table.budgets(task)
    return [n for n in budgets if Key(task, defense, attacker, n, "report") in table.report]


def _result(table: ArmTable, line: Line) -> CurveResult:
    plain = _plain_curve(table, line)
    pair = _pair(table, line)
    if pair is None:
        return plain
    if why := too_far(line.budgets, "M"):
        return plain.model_copy(update={"no_multiplier": why})
    return _compared(table, line, plain, pair)


def _plain_curve(table: ArmTable, line: Line) -> CurveResult:
    """The curve alone, with its intervals over seeds and items."""
    labels = table.clusters(line.task)
    points = [
        arm_mean(table.scores(key).scores_SN, alpha=table.alpha, clusters=labels)
        for key in line.keys(line.defense)
    ]
    untrained = Key(line.task, "none", FLOORS[0], line.budgets[0], "report")
    own_data_keys = [Key(line.task, "none", FLOORS[1], n, "report") for n in line.budgets]
    return CurveResult(
        task=line.task,
        attacker=line.attacker,
        defense=line.defense,
        budgets=line.budgets,
        zero=table.report[untrained].right_SN.mean(),
        values=[point.value for point in points],
        lo=[max(point.lo, 0.0) for point in points],
        hi=[min(point.hi, 1.0) for point in points],
        own_data=[table.report[key].right_SN.mean() for key in own_data_keys],
        falls=any(after.value < before.value for before, after in itertools.pairwise(points)),
    )


def _pair(table: ArmTable, line: Line) -> Pair | None:
    """The curve beside the undefended one; None of that one itself, of too few budgets, and where
    budgets have other students.
    """
    if line.defense == "none" or len(line.budgets) < FEWEST_BUDGETS:
        return None
    undefended = [table.scores(key) for key in line.keys("none")]
    defended = [table.scores(key) for key in line.keys(line.defense)]
    if not (_same_seeds(undefended) and _same_seeds(defended)):
        return None
    return Pair(
        np.stack([arm.scores_SN for arm in undefended]),
        np.stack([arm.scores_SN for arm in defended]),
        (undefended[0].seeds, defended[0].seeds),
    )


def _same_seeds(arms: list[Arm]) -> bool:
    return len({arm.seeds for arm in arms}) == 1


def _compared(table: ArmTable, line: Line, plain: CurveResult, pair: Pair) -> CurveResult:
    """With M by level, its parametric companion, the area between and the bill."""
    labels, budgets = table.clusters(line.task), np.array(line.budgets)
    floor = table.scores(table.floor_key(line.task, line.budgets[-1]))
    U_KSN, D_KSN, seeds = pair
    needed = curves.needs(
        floor,
        U_KSN,
        D_KSN,
        budgets,
        draws=table.study.measure.draws,
        clusters=labels,
        seeds=seeds,
    )
    multipliers = [curves.multiplier(need, table.alpha) for need in needed]
    middle, shape = multipliers[len(multipliers) // 2], None
    if middle.sign == "=":
        shape = curves.common_shape(float(floor.mean), U_KSN, D_KSN, budgets, middle.value)
    area = curves.area_between(U_KSN, D_KSN, table.alpha, labels, seeds)
    added = {
        "multipliers": [
            MultiplierResult(**m._asdict(), text=_multiplier_text(m)) for m in multipliers
        ],
        "common_shape": shape and CommonShape(**shape._asdict()),
        "area_between": AreaBetween(**area._asdict()),
        "bill": _bill(table, line, needed[len(needed) // 2]),
        "below_minimum": _is_below_minimum(U_KSN),
    }
    return plain.model_copy(update=added)


def _is_below_minimum(curve_KSN: np.ndarray) -> bool:
    K, S, N = curve_KSN.shape
    return bool(K < CLAIM_BUDGETS or S < CLAIM_SEEDS or N < CLAIM_ITEMS)


def _bill(table: ArmTable, line: Line, half: curves.Needs) -> CurveBill:
    """Accounts and dollars for half of the capability, from stated ranges."""
    return CurveBill(
        undefended=_half_bill(table, line, "none", half.undefended_B2),
        defended=_half_bill(table, line, line.defense, half.defended_B2),
    )


def _half_bill(table: ArmTable, line: Line, defense: str, draws_B2: np.ndarray) -> HalfBill:
    """Of one attacker, from the draws of log exchanges; a censored curve gives a lower bound."""
    largest = max(table.budgets(line.task))
    ledger = ledger_row(table, Key(line.task, defense, line.attacker, largest, "report"))
    exchanges = max(ledger.exchanges, 1)
    ranges = table.study.measure.prices.model_dump()
    inputs = cost.Inputs(**{name: cost.Range(*ends) for name, ends in ranges.items()})
    low_B = np.where(np.isfinite(draws_B2[:, 0]), draws_B2[:, 0], draws_B2[:, 1])
    accounts, dollars = cost.bill(
        low_B,
        ledger.tokens_in / exchanges,
        ledger.tokens_out / exchanges,
        gpu_hours(ledger.flops),
        inputs,
    )
    return HalfBill(
        accounts=BillResult(**accounts._asdict()),
        dollars=BillResult(**dollars._asdict()),
        lower_bound=bool(np.isinf(draws_B2[:, 1]).mean() > CENSORED),
    )


def _multiplier_text(multiplier: curves.Multiplier) -> str:
    """`3.1`, `> 8`, `< 2`, or `not measurable`."""
    if multiplier.sign == "?":
        return "not measurable"
    sign = "" if multiplier.sign == "=" else f"{multiplier.sign} "
    return f"{sign}{multiplier.value:.2g}"
