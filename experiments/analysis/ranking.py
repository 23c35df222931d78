"""The attacks against a defence in one cell of a study, and the worst of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.analysis.comparisons import ArmTable
from experiments.measure.scores import Arm, NotMeasurable
from experiments.measure.transfer import Worst, transfer_of_means, worst_case
from experiments.planning.arms import IDENTITY
from experiments.results.grades import Key


class Cell(NamedTuple):
    """A defence on a task at a budget."""

    task: str
    budget: int
    defense: str

    def key(self, attacker: str, split: str = "report") -> Key:
        """The arm of an attack against it.

        Args:
            attacker: by its entry.
            split: `report` or `select`.
        """
        return Key(self.task, self.defense, attacker, self.budget, split)

    @property
    def undefended(self) -> Cell:
        return self._replace(defense="none")


class Ranking(NamedTuple):
    """The scores of a cell's arms, and the worst of its attacks, chosen on the selection split."""

    attackers: list[str]
    ceilings: list[str]
    floor: Arm
    undefended: list[Arm]
    attacks: list[Arm]
    worst: Worst

    @property
    def attacker(self) -> str:
        """The worst attack."""
        return self.attackers[self.worst.attack]

    @property
    def ceiling(self) -> str:
        """The attack whose undefended students are U."""
        return self.ceilings[self.worst.ceiling]

    def transfers(self) -> dict[str, float | None]:
        """T of each attack with the one ceiling of the cell; None where U is not above F."""
        F, U = self.floor.mean, self.undefended[self.worst.ceiling].mean
        return {
            name: transfer_of_means(F, U, attack.mean)
            for name, attack in zip(self.attackers, self.attacks, strict=True)
        }


def rank_attacks(table: ArmTable, cell: Cell) -> Ranking:
    """The worst attack and the ceiling of a cell, with T and its bounds.

    Args:
        table: the study's graded arms.
        cell: with at least one finished attack.

    Raises:
        NotMeasurable: a floor, a ceiling or a student of the selection split is missing.
    """
    attackers = table.attackers(*cell)
    ceilings = table.undefended(cell.task, cell.budget)
    floor = table.scores(table.floor_key(cell.task, cell.budget))
    undefended = [table.scores(cell.undefended.key(name)) for name in ceilings]
    attacks = [table.scores(cell.key(name)) for name in attackers]
    selection = (
        selection_scores(table, cell.undefended, ceilings),
        selection_scores(table, cell, attackers),
    )
    labels = table.clusters(cell.task)
    worst = worst_case(floor, undefended, attacks, selection, table.alpha, labels)
    return Ranking(attackers, ceilings, floor, undefended, attacks, worst)


def selection_scores(table: ArmTable, cell: Cell, attackers: Sequence[str]) -> list[Arm]:
    """Each attack's scores on the selection split; where there is one attack there is no choice.

    The identity control is the undefended teacher, so its attack is chosen as the undefended one's
    is.

    Args:
        table: the study's graded arms.
        cell: whose attacks they are.
        attackers: by their entries.

    Returns:
        Scores in the order of `attackers`; zeros where there is one.

    Raises:
        NotMeasurable: if one of several attacks has no students on the selection split.
    """
    if len(attackers) < 2:
        return [Arm(np.zeros((1, 2)), (0,))]
    cell = cell.undefended if cell.defense == IDENTITY else cell
    keys = [cell.key(attacker, "select") for attacker in attackers]
    missing = [key.attacker for key in keys if key not in table.grades]
    if missing:
        raise NotMeasurable(
            f"{cell.task}: {', '.join(missing)} against {cell.defense} has no students on the "
            "selection split"
        )
    return [table.scores(key) for key in keys]
