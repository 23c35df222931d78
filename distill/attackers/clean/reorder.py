"""Restoration of reasoning that was rearranged: steps in another order, results before their derivation, steps merged.

The attacker knows which rules such defences use and not their keys. It undoes them in every way there is, and believes
the way that a model of its own, which has seen its worked solutions alone, finds likeliest: an order in which each step
uses what those before it made. What a rule dropped is gone. An answer is changed only where that saves `margin` nats a
token, so that undefended answers stay as they are.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from distill.answers import Answer
from distill.attackers import Base, Own, Part
from distill.attackers.clean import divided, own_model, rewritten, surprisal

TURNED = re.compile(r"(?<![\w.])(\d+)(\s*=\s*)(\d+(?:\s*[-+*/]\s*\d+)+|\d{2,}(?=\Z))")


def turned(step: str) -> str:
    """A step whose result stands before its derivation, the other way round: `a=7=3+4` is `a=3+4=7`, `c=3` stays."""
    return TURNED.sub(r"\3\2\1", step)


def candidates(text: str, separator: str, mark: str, most: int) -> list[str]:
    """Every text that the known rules could have been applied to, the text itself first, with at most `most` orders."""
    reasoning, rest = divided(text, mark)
    found = []
    for whole in (reasoning, reasoning.replace(" ", separator)):
        steps = whole.split(separator)
        for turn in (False, True):
            told = [turned(step) if turn else step for step in steps]
            for order in itertools.islice(itertools.permutations(range(len(told))), most):
                found.append(separator.join(told[i] for i in order) + rest)
    return list(dict.fromkeys(found))


class Settings(Part):
    """`separator`: what is between steps; `most`: orders that are tried; `margin`: nats a token that a change saves;
    `effort`: share of the recipe's steps."""

    separator: str = Field(";", min_length=1)
    most: int = Field(24, ge=1)
    margin: float = Field(0.1, ge=0)
    effort: float = Field(0.5, gt=0, le=1)


class Attacker(Base):
    needs = ("fresh", "worked")
    paper = "Ding et al. 2025, 2510.11545; Ma et al. 2026, 2602.15143"

    def clean(self, said: Sequence[Answer], own: Own, *, seed: int) -> list[Answer]:
        """Every answer in the likeliest of the forms that it may have had."""
        s, model = self.settings, own_model(own.worked, own, seed, self.settings.effort)
        tried = [[rewritten(one, text) for text in candidates(one.text, s.separator, own.mark, s.most)] for one in said]
        nats = iter(surprisal(model, [one for forms in tried for one in forms]))
        return [self._likeliest(forms, list(itertools.islice(nats, len(forms)))) for forms in tried]

    def _likeliest(self, forms: list[Answer], nats: list[float]) -> Answer:
        known = np.nan_to_num(nats, nan=np.inf)
        best = int(known.argmin())
        return forms[best] if known[best] < known[0] - self.settings.margin else forms[0]
