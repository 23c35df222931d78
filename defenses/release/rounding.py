"""Rounded logprobs: released logprobs, or the probabilities that they are of, have d decimals.

Rounding is an old defence of posteriors (Tramèr et al. 2016), of probabilities: most tokens of a
language model round to 0 and are withheld. In nats, which is what interfaces of language models
release, it is far weaker: it keeps the order, so the most likely token stays so, and moves no value
by more than 0.5 * 10**-d. A row is not renormalised: its mass may exceed 1, in nats by up to the
factor exp(0.5 * 10**-d), and readers that want a tail clamp it at 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from defenses import NO_RESOURCES, DefenseSettings, ProviderResources, Strength, Traits
from defenses.release import LogprobEdit
from distill.completions import Completion, Logprobs


def round_logprobs(logprobs: Logprobs, decimals: int) -> Logprobs:
    """Values (nats) to `decimals` decimals, half to even; ids and order stay.

    Args:
        logprobs: T rows.
        decimals: kept.
    """
    return Logprobs(logprobs.ids_TK, np.round(logprobs.values_TK, decimals))


def round_probabilities(logprobs: Logprobs, decimals: int) -> Logprobs:
    """Logprobs of probabilities with `decimals` decimals, half to even; what rounds to 0 is
    withheld, and the order stays.

    Args:
        logprobs: T rows.
        decimals: kept.
    """
    p_TK = np.round(np.exp(logprobs.values_TK.astype(np.float64)), decimals)
    with np.errstate(divide="ignore"):
        values_TK = np.log(p_TK).astype(logprobs.values_TK.dtype)
    return Logprobs(np.where(p_TK > 0, logprobs.ids_TK, -1), values_TK)


class Settings(DefenseSettings):
    """`decimals`: how many decimals are released; None releases all, which is no defence. `of`: the
    logprobs, in nats, or the probabilities.
    """

    decimals: int | None = Field(1, ge=0, le=6)
    of: Literal["nats", "probabilities"] = "nats"


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

    def __init__(self, settings: Settings, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        # Of a flat row every probability may round to 0.
        self.traits = replace(self.traits, keeps_argmax=settings.of == "nats")

    def logprobs(self, logprobs: Logprobs, answer: Completion) -> Logprobs:
        assert self.settings.decimals is not None  # that would be no defence
        rounded = round_logprobs if self.settings.of == "nats" else round_probabilities
        return rounded(logprobs, self.settings.decimals)
