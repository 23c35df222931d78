"""Mixing with clean data of the attacker's own, as a share of all characters that the student
learns from.

Half and half is reported to give as much as clean data alone, and a tenth to be worse than none.
Worked solutions are repeated as often as the share needs; the sold answers all stay.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.completions import BadInput, Completion


def fill(solutions: Sequence[Completion], size: float, seed: int) -> list[Completion]:
    """Answers in rounds of shuffled order until their characters come to `size`; each copy has an
    id of its own.

    Args:
        solutions: worked solutions of the attacker's own.
        size: characters that the copies come to at least.
        seed: of the orders.

    Raises:
        BadInput: no solution has a character.
    """
    if not any(one.text for one in solutions):
        raise BadInput("attacker clean/mix: the attacker owns no worked solutions; see own.worked")
    copies = (
        replace(one, prompt_id=f"{one.prompt_id}+{turn}")
        for turn in itertools.count()
        for one in random.Random(f"mix/{seed}/{turn}").sample(solutions, len(solutions))
    )
    copied: list[Completion] = []
    total = 0
    while total < size:
        copied.append(next(copies))
        total += len(copied[-1].text)
    return copied


class Settings(Part):
    share: float = Field(0.5, ge=0, lt=1)


class Attacker(Base):
    needs = ("worked",)
    paper = "umidsvt/antidistill, 2026"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """The sold answers and, behind them, enough worked solutions to be that share of all
        characters.
        """
        share = self.settings.share
        if not share:
            return list(completions)
        return [
            *completions,
            *fill(
                resources.worked,
                share / (1 - share) * sum(len(one.text) for one in completions),
                seed,
            ),
        ]
