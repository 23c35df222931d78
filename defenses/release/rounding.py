"""Rounded logprobs: released logprobs have d decimals.

Rounding is an old defence of posteriors (Tramèr et al. 2016); here it is in nats and keeps the order, so the most
likely token stays so. It moves no value by more than 0.5 * 10**-d. A row is not renormalised: its mass may
exceed 1 by up to the factor exp(0.5 * 10**-d), and readers that want a tail clamp it at 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from distill.answers import Answer, Logprobs
from distill.models import EditedModel, Model


def rounded(logprobs: Logprobs, decimals: int) -> Logprobs:
    """Values (nats) to `decimals` decimals, half to even; ids and order stay."""
    return Logprobs(logprobs.ids_TK, np.round(logprobs.values_TK, decimals))


class Settings(BaseModel):
    """`decimals`: how many decimals of a logprob are released; None releases it as it is, which is no defence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decimals: int | None = Field(1, ge=0, le=6)


class Defense:
    """Rounds the released logprobs."""

    point: ClassVar[str] = "logprobs"
    passes: ClassVar[float] = 0.0
    keeps_argmax: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()
    identity: ClassVar[dict[str, Any]] = {"decimals": None}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, model: Model) -> Model:
        return EditedModel(model, self.edit)

    def edit(self, answer: Answer) -> Answer:
        """The answer as it is released; its text is untouched."""
        if answer.logprobs is None or self.settings.decimals is None:
            return answer
        return replace(answer, logprobs=rounded(answer.logprobs, self.settings.decimals))
