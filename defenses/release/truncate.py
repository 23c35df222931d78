"""Reasoning truncation: the caller sees the first part of the reasoning, and the final answer.

Between the whole trace and answer-only: it asks how much of the reasoning has to be shown before a
student learns. The honest user still gets the final answer as the teacher gave it. Token ids and
logprobs go, as they would spell the rest out.
"""

from __future__ import annotations

from pydantic import Field

from defenses import DefenseSettings, Strength, Traits
from defenses.release import TextEdit, split_answer
from defenses.release._spans import CODE, MATHS, NOTES, cut_before
from distill.answer_format import AnswerFormat
from distill.completions import Completion


def truncate(text: str, form: AnswerFormat, keep: float) -> str:
    """The first `keep` of the characters of the reasoning (rounded), less what would be half of a
    formula or of a block of code, and the final answer.

    keep 1 is the text itself, but for tags of thinking; keep 0 is the final answer alone.

    Args:
        text: an answer.
        form: where its reasoning and final answer are.
        keep: share of the characters.
    """
    reasoning, rest = split_answer(text, form)
    cut = cut_before(reasoning, round(keep * len(reasoning)), CODE, MATHS, NOTES)
    return reasoning[:cut] + rest if cut or reasoning == "" else rest.lstrip()


class Settings(DefenseSettings):
    """`keep`: share of the reasoning that is shown (1: no defence)."""

    keep: float = Field(0.5, ge=0, le=1)


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
        return truncate(answer.text, self.format, self.settings.keep)
