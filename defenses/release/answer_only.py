"""Answer only: the caller sees the final answer and none of the reasoning before it.

What commercial services do when they hide a chain of thought; of nine output defences it was the only one that bit in
DistillGuard (2603.07835: MATH 67.8 -> 31.4). Token ids and logprobs go too, as they would spell the reasoning out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from distill.answers import Answer
from distill.models import EditedModel, Model


def final_answer(text: str, marker: str) -> str:
    """The text from its last marker on; nothing where there is none, as all of it may be reasoning."""
    _, found, answer = text.rpartition(marker)
    return found + answer if found else ""


class Settings(BaseModel):
    """`marker`: what the final answer begins with; None hides nothing, which is no defence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    marker: str | None = Field("#", min_length=1)


class Defense:
    """Releases what follows the last marker, without token ids and logprobs."""

    point: ClassVar[str] = "text"
    passes: ClassVar[float] = 0.0
    keeps_argmax: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    identity: ClassVar[dict[str, Any]] = {"marker": None}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, model: Model) -> Model:
        return EditedModel(model, self.edit)

    def edit(self, answer: Answer) -> Answer:
        """The answer as it is released."""
        if self.settings.marker is None:
            return answer
        return replace(answer, text=final_answer(answer.text, self.settings.marker), token_ids=(), logprobs=None)
