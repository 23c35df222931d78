"""Top-k logprobs: only the k most likely tokens are released with their logprobs, the industry's default.

Un-renormalised, as services do it and as the official code of prediction poisoning does (Orekondy et al. 2020): what is
missing from a row's total is the tail, at L1 distance 1 - m_k to the whole row, m_k being the mass of the top k.
Axes: T positions, K released entries.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from distill.answers import Answer, Logprobs
from distill.models import EditedModel, Model


def top_k(logprobs: Logprobs, k: int) -> Logprobs:
    """The first k entries of every row: rows are sorted, so the most likely, in their order and with their values."""
    return Logprobs(logprobs.ids_TK[:, :k], logprobs.values_TK[:, :k])


class Settings(BaseModel):
    """`k`: how many logprobs a position are released; None releases all that there are, which is no defence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: int | None = Field(5, ge=1)


class Defense:
    """Releases the k most likely of the logprobs."""

    point: ClassVar[str] = "logprobs"
    passes: ClassVar[float] = 0.0
    keeps_argmax: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()
    identity: ClassVar[dict[str, Any]] = {"k": None}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, model: Model) -> Model:
        return EditedModel(model, self.edit)

    def edit(self, answer: Answer) -> Answer:
        """The answer as it is released; its text is untouched."""
        if answer.logprobs is None or self.settings.k is None:
            return answer
        return replace(answer, logprobs=top_k(answer.logprobs, self.settings.k))
