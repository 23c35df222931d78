"""Answer only: the caller sees the final answer and none of the reasoning before it.

What commercial services do when they hide a chain of thought; of nine output defences it was the
only one that bit in DistillGuard (2603.07835: MATH 67.8 -> 31.4). Token ids and logprobs go too, as
they would spell the reasoning out.
"""

from __future__ import annotations

from pydantic import Field

from defenses import DefenseSettings, Traits
from defenses.release import TextEdit
from distill.completions import Completion


def final_answer(text: str, marker: str) -> str:
    """The text from its last marker on; nothing where there is none, as all of it
    may be reasoning.
    """
    _, at, answer = text.rpartition(marker)
    return at + answer if at else ""


class Settings(DefenseSettings):
    """`marker`: what the final answer begins with; None hides nothing, which is no defence."""

    marker: str | None = Field("#", min_length=1)


class Defense(TextEdit):
    """Releases what follows the last marker, without token ids and logprobs."""

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"marker": None},
        keeps_answer=True,
        paper="DistillGuard, 2603.07835",
    )

    def text(self, answer: Completion) -> str:
        assert self.settings.marker is not None  # that would be no defence
        return final_answer(answer.text, self.settings.marker)
