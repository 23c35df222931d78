"""Rounded logprobs: released logprobs have d decimals.

Rounding is an old defence of posteriors (Tramèr et al. 2016); here it is in nats and keeps the
order, so the most likely token stays so. It moves no value by more than 0.5 * 10**-d. A row is not
renormalised: its mass may exceed 1 by up to the factor exp(0.5 * 10**-d), and readers that want a
tail clamp it at 0.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses import Part, Strength
from defenses.release import LogprobEdit
from distill.completions import Completion, Logprobs


def rounded(logprobs: Logprobs, decimals: int) -> Logprobs:
    """Values (nats) to `decimals` decimals, half to even; ids and order stay."""
    return Logprobs(logprobs.ids_TK, np.round(logprobs.values_TK, decimals))


class Settings(Part):
    """`decimals`: how many decimals of a logprob are released; None releases it as it is, which is
    no defence.
    """

    decimals: int | None = Field(1, ge=0, le=6)


class Defense(LogprobEdit):
    """Rounds the released logprobs."""

    keeps_argmax = True
    identity = {"decimals": None}
    knob = Strength("decimals", None, 6, 0)
    paper = "Tramèr et al. 2016"

    def logprobs(self, logprobs: Logprobs, answer: Completion) -> Logprobs:
        return rounded(logprobs, self.settings.decimals)
