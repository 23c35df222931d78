"""Reasoning truncation: the caller sees the first part of the reasoning, and the final answer.

Between the whole trace and answer-only: it asks how much of the reasoning has to be shown before a student learns.
The honest user still gets the final answer as the teacher gave it. Token ids and logprobs go, as they would spell the
rest out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from distill.answers import Answer
from distill.models import EditedModel, Model


def truncate(text: str, marker: str, keep: float) -> str:
    """The first `keep` of the characters before the last marker (rounded), and all from the space before it on.

    Text without a marker is all reasoning. keep 1 is the text itself; keep 0 is the final answer alone.
    """
    before, found, _ = text.rpartition(marker)
    reasoning = before.rstrip() if found else text
    shown, rest = reasoning[: round(keep * len(reasoning))], text[len(reasoning) :]
    return shown + rest if keep else rest.lstrip()


class Settings(BaseModel):
    """`keep`: share of the reasoning that is shown (1: no defence); `marker`: what the final answer begins with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep: float = Field(0.5, ge=0, le=1)
    marker: str = Field("#", min_length=1)


class Defense:
    """Cuts the reasoning short, without token ids and logprobs."""

    point: ClassVar[str] = "text"
    passes: ClassVar[float] = 0.0
    keeps_argmax: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    identity: ClassVar[dict[str, Any]] = {"keep": 1.0}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, model: Model) -> Model:
        return EditedModel(model, self.edit)

    def edit(self, answer: Answer) -> Answer:
        """The answer as it is released."""
        if self.settings.keep == 1:
            return answer
        text = truncate(answer.text, self.settings.marker, self.settings.keep)
        return replace(answer, text=text, token_ids=(), logprobs=None)
