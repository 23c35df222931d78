"""De-duplication: of answers to a question that are nearly the same, the first is kept.

Alike is by the Jaccard overlap of their character n-grams (Broder 1997): 1 keeps all but identical
n-gram sets apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.clean import groups
from distill.completions import Completion


def grams(text: str, n: int) -> frozenset[str]:
    """The character n-grams of a text; of one with fewer characters, the text.

    Args:
        text: of any length.
        n: characters each.
    """
    return frozenset(text[i : i + n] for i in range(max(1, len(text) - n + 1)))


def overlap(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard similarity |a and b| / |a or b|, in [0, 1].

    Args:
        a: n-grams, at least one.
        b: n-grams, at least one.
    """
    return len(a & b) / len(a | b)


class Settings(Part):
    above: float = Field(0.9, gt=0, le=1)
    n: int = Field(4, ge=1, le=1000)


class Attacker(Base):
    paper = "Broder 1997"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Those that overlap by less than `above` with every one kept before."""
        distinct = []
        for group in groups(completions):
            seen: list[frozenset[str]] = []
            for completion in group:
                its_grams = grams(completion.text, self.settings.n)
                if all(overlap(its_grams, other) < self.settings.above for other in seen):
                    seen.append(its_grams)
                    distinct.append(completion)
        return distinct
