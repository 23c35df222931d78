"""Rounded logprobs: released logprobs have d decimals.

Rounding is an old defence of posteriors (Tramèr et al. 2016); here it is in nats and keeps the
order, so the most likely token stays so. It moves no value by more than 0.5 * 10**-d. A row is not
renormalised: its mass may exceed 1 by up to the factor exp(0.5 * 10**-d), and readers that want a
tail clamp it at 0.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses import DefenseSettings, Strength, Traits
from defenses.release import LogprobEdit
from distill.completions import Completion, Logprobs


def round_logprobs(logprobs: Logprobs, decimals: int) -> Logprobs:
    """Values (nats) to `decimals` decimals, half to even; ids and order stay.

    Args:
        logprobs: T rows.
        decimals: kept.
    """
    return Logprobs(logprobs.ids_TK, np.round(logprobs.values_TK, decimals))


class Settings(DefenseSettings):
    """`decimals`: how many decimals of a logprob are released; None releases it as it is, which is
    no defence.
    """

    decimals: int | None = Field(1, ge=0, le=6)


class Defense(LogprobEdit):
    """Rounds the released logprobs."""

    settings: Settings
    traits = Traits(
        acts_on="logprobs",
        identity={"decimals": None},
        strength=Strength("decimals", None, 6, 0),
        keeps_argmax=True,
        paper="Tramèr et al. 2016",
    )

    def logprobs(self, logprobs: Logprobs, answer: Completion) -> Logprobs:
        assert self.settings.decimals is not None  # that would be no defence
        return round_logprobs(logprobs, self.settings.decimals)
