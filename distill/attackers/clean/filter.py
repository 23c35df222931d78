"""Filters: answers that are wrong, that repeat themselves, that surprise the attacker's own model,
or that are long.

Each is a setting that can be off. Cheap filters undo much of what perturbed sampling costs a
student: de-duplication alone is reported to lift students of antidistillation sampling a lot. If
none is left the attacker keeps the `least` share that fails fewest, as no attacker throws all away
that was paid for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.clean import surprisal, train_own_model
from distill.completions import Completion


def repetition(text: str, n: int) -> float:
    """Share of a text's character n-grams that occurred in it before, in [0, 1); 0 for texts of
    fewer characters.

    Args:
        text: any.
        n: characters of one.
    """
    grams = Counter(text[i : i + n] for i in range(len(text) - n + 1))
    return 1 - len(grams) / sum(grams.values()) if grams else 0.0


def upper(values: Sequence[float], share: float) -> float:
    """The least of the numbers that at least `share` of them do not exceed.

    Args:
        values: at least one.
        share: in (0, 1].
    """
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


class Settings(Part):
    """`wrong`: drop what can be checked to be wrong; `repeats`: most that may be repeated (of
    n-grams of `n`); `likely`: share that is kept by likelihood; `long`: most characters, times the
    median. null is off.
    """

    wrong: bool = True
    repeats: float | None = Field(None, ge=0, le=1)
    n: int = Field(8, ge=1, le=1000)
    likely: float | None = Field(None, gt=0, le=1)
    long: float | None = Field(None, gt=0)
    least: float = Field(0.05, gt=0, le=1)


class Attacker(Base):
    paper = "Libon 2025, as reported"

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        needed = {"check": self.settings.wrong, "fresh": self.settings.likely is not None}
        return tuple(name for name, is_needed in needed.items() if is_needed)

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Those that pass all filters, in their order."""
        if not completions:
            return []
        failures = [
            sum(marks) for marks in zip(*self._marks(completions, resources, seed), strict=True)
        ] or [0] * len(completions)
        passing = [one for one, failed in zip(completions, failures, strict=True) if not failed]
        if passing:
            return passing
        order = sorted(range(len(completions)), key=lambda i: failures[i])[
            : math.ceil(self.settings.least * len(completions))
        ]
        return [completions[i] for i in sorted(order)]

    def _marks(
        self, completions: Sequence[Completion], resources: AttackerResources, seed: int
    ) -> list[list[bool]]:
        """For each filter that is on, which answers fail it."""
        s, marks = self.settings, []
        if s.wrong:
            assert resources.check is not None
            marks.append([not resources.check(one) for one in completions])
        if s.repeats is not None:
            marks.append([repetition(one.text, s.n) > s.repeats for one in completions])
        if s.long is not None:
            most = s.long * upper([len(one.text) for one in completions], 0.5)
            marks.append([len(one.text) > most for one in completions])
        if s.likely is not None:
            nats = surprisal(train_own_model(completions, resources, seed), completions)
            most = upper(nats, s.likely)
            marks.append([value > most for value in nats])
        return marks
