"""T of a case under other choices than those that the verdict was given on."""

from __future__ import annotations

import math
from collections.abc import Callable

from experiments.analysis.comparisons import ArmTable
from experiments.analysis.ledger import ledger_row
from experiments.analysis.ranking import Cell, Ranking
from experiments.measure import cost
from experiments.measure.scores import Arm
from experiments.measure.transfer import transfer_of_means
from experiments.planning.arms import choices
from experiments.results.grades import Exams, Key
from experiments.results.schema.defenses import Sensitivity
from experiments.results.schema.measures import LedgerRow

EQUAL_SPENDING = 0.02  # spendings this near need no curve
MEASURED = ("ok", "weak denominator")  # kinds of T that other spendings are compared with


def sensitivity(table: ArmTable, cell: Cell, ranking: Ranking, kind: str) -> Sensitivity:
    """T with each floor, one seed or attack less, parsed answers alone, equal compute or cost.

    `kind` is that of T itself; where T is not measured, no spending is compared.

    Args:
        table: the study's graded arms.
        cell: that is judged.
        ranking: of its attacks.
        kind: of T itself, see `Transfer.kind`; where T is not measured, no spending is compared.
    """
    U = ranking.undefended[ranking.worst.ceiling]
    others = [a for i, a in enumerate(ranking.attacks) if i != ranking.worst.attack]
    without_worst = (share(ranking.floor, U, attack) for attack in others)
    spending = _Spending(table, cell, ranking) if kind in MEASURED else None
    return Sensitivity(
        by_floor=_by_floor(table, cell, ranking),
        drop_one_seed=_drop_one_seed(ranking),
        drop_chosen_attack=max((t for t in without_worst if t is not None), default=None),
        parsed_only=_parsed_only(table, cell, ranking),
        compute_matched=spending.at_equal(lambda row: row.flops) if spending else None,
        cost_matched=spending.at_equal(lambda row: row.dollars) if spending else None,
    )


def share(floor: Arm, undefended: Arm, defended: Arm) -> float | None:
    """T of three arms; None where U is not above F.

    Args:
        floor: F.
        undefended: U.
        defended: D.
    """
    return transfer_of_means(floor.mean, undefended.mean, defended.mean)


def _by_floor(table: ArmTable, cell: Cell, ranking: Ranking) -> dict[str, float | None]:
    U, D = ranking.undefended[ranking.worst.ceiling], ranking.attacks[ranking.worst.attack]
    keys = {name: cell.undefended.key(name) for name in choices(table.study)}
    return {
        name: share(table.scores(key), U, D) for name, key in keys.items() if key in table.grades
    }


def _drop_one_seed(ranking: Ranking) -> list[float] | None:
    """The least and the largest T with one student of D or of U less; None where each has one."""
    F = ranking.floor
    U, D = ranking.undefended[ranking.worst.ceiling], ranking.attacks[ranking.worst.attack]
    shares = [share(F, U, D.without(seed)) for seed in D.seeds if len(D.seeds) > 1]
    shares += [share(F, U.without(seed), D) for seed in U.seeds if len(U.seeds) > 1]
    measured = [t for t in shares if t is not None]
    return [min(measured), max(measured)] if measured else None


def _parsed_only(table: ArmTable, cell: Cell, ranking: Ranking) -> float | None:
    """T of answers that could be read, which is not paired over items: a check and no estimate."""
    floor = table.grades[table.floor_key(cell.task, cell.budget)]
    undefended = table.report[cell.undefended.key(ranking.ceiling)]
    defended = table.report[cell.key(ranking.attacker)]
    return transfer_of_means(*map(_parsed_accuracy, (floor, undefended, defended)))


def _parsed_accuracy(exams: Exams) -> float:
    parsed_SN = exams.final_SN >= 0
    return float(exams.right_SN[parsed_SN].mean()) if parsed_SN.any() else 0.0


class _Spending:
    """T against what U gets for the same spending, from its query curve."""

    def __init__(self, table: ArmTable, cell: Cell, ranking: Ranking) -> None:
        self.cell, self.ranking = cell, ranking
        self.keys = {
            n: key
            for n in table.budgets(cell.task)
            if (key := cell._replace(budget=n).undefended.key(ranking.ceiling)) in table.report
        }
        self.rows = {n: ledger_row(table, key) for n, key in self.keys.items()}
        self.scores = [self._accuracy(table, key) for key in self.keys.values()]
        self.defended = ledger_row(table, cell.key(ranking.attacker))

    @staticmethod
    def _accuracy(table: ArmTable, key: Key) -> float:
        return float(table.report[key].right_SN.mean())

    def at_equal(self, spending: Callable[[LedgerRow], float]) -> float | None:
        """T at an equal amount; None where the curve does not reach that far."""
        worst = self.ranking.worst
        spent, undefended = spending(self.defended), spending(self.rows[self.cell.budget])
        U: float | None = self.ranking.undefended[worst.ceiling].mean
        if not math.isclose(spent, undefended, rel_tol=EQUAL_SPENDING):
            U = cost.at_equal(spent, [spending(row) for row in self.rows.values()], self.scores)
        if U is None:
            return None
        return transfer_of_means(
            self.ranking.floor.mean, U, self.ranking.attacks[worst.attack].mean
        )
