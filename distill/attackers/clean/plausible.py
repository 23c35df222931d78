"""Plausible answers alone: those that the attacker's own base model finds likeliest.

The base model has learned from worked solutions of the attacker's own and from nothing that was
sold, so what a defence or a mark has put into some answers (a canary, a favoured word) surprises
it; `clean/filter` ranks by a model that has learned from the sold answers themselves, to which what
is there often is no surprise. A text is as surprising as its mean token, or as its `worst` tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.attackers._stealing import require_worked
from distill.attackers.clean import train_own_model
from distill.completions import Completion
from distill.models import LanguageModel
from distill.preferences import rows_of, token_nats
from distill.seeds import derived_seed


def surprise(model: LanguageModel, completions: Sequence[Completion], worst: float) -> list[float]:
    """The mean of -log p over the most surprising tokens of each answer, in nats; infinite for one
    that is empty or that the context does not hold.

    Args:
        model: of the attacker's own.
        completions: answers of anybody.
        worst: share of an answer's tokens, at least one of them; 1: all.
    """
    values = []
    for answer in completions:
        rows = rows_of(model, [answer])
        nats_N = np.sort(token_nats(model, rows[0]))[::-1] if rows else np.array([math.inf])
        values.append(float(nats_N[: max(1, math.ceil(worst * len(nats_N)))].mean()))
    return values


class Settings(Part):
    """`share`: of the answers that is learned from; `worst`: share of an answer's tokens that it is
    judged by, the most surprising first.
    """

    share: float = Field(0.8, gt=0, le=1)
    worst: float = Field(0.1, gt=0, le=1)


class Attacker(Base):
    needs = ("fresh", "worked")

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """The share that surprises least, in their order.

        Raises:
            BadInput: the attacker owns no worked solutions.
        """
        if not completions:
            return []
        require_worked(resources, "clean/plausible")
        s = self.settings
        base = train_own_model(resources.worked, resources, derived_seed("plausible", seed))
        values = surprise(base, completions, s.worst)
        order = sorted(range(len(completions)), key=lambda i: values[i])
        return [completions[i] for i in sorted(order[: math.ceil(s.share * len(order))])]
