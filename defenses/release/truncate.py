"""Reasoning truncation: the caller sees the first part of the reasoning, and the final answer.

Between the whole trace and answer-only: it asks how much of the reasoning has to be shown before a
student learns. The honest user still gets the final answer as the teacher gave it. Token ids and
logprobs go, as they would spell the rest out.
"""

from __future__ import annotations

from pydantic import Field

from defenses import DefenseSettings, Strength, Traits
from defenses.release import TextEdit, split_answer
from distill.completions import Completion


def truncate(text: str, marker: str, keep: float) -> str:
    """The first `keep` of the characters before the last marker (rounded), and all from the space
    before it on.

    Text without a marker is all reasoning. keep 1 is the text itself; keep 0 is the final answer
    alone.

    Args:
        text: an answer.
        marker: what the final answer begins with.
        keep: share of the characters.
    """
    reasoning, rest = split_answer(text, marker)
    return reasoning[: round(keep * len(reasoning))] + rest if keep else rest.lstrip()


class Settings(DefenseSettings):
    """`keep`: share of the reasoning that is shown (1: no defence); `marker`: what the final answer
    begins with.
    """

    keep: float = Field(0.5, ge=0, le=1)
    marker: str = Field("#", min_length=1)


class Defense(TextEdit):
    """Cuts the reasoning short, without token ids and logprobs."""

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"keep": 1.0},
        strength=Strength("keep", 1.0, 0.99, 0.0),
        keeps_answer=True,
        paper="DistillGuard, 2603.07835",
    )

    def text(self, answer: Completion) -> str:
        return truncate(answer.text, self.settings.marker, self.settings.keep)
