"""Digits of the reasoning are masked, from the first on; the final answer stays as it is."""

from pydantic import Field

from defenses import DefenseSettings, Strength, Traits
from defenses.release import TextEdit, split_answer
from distill.answer_format import AnswerFormat
from distill.completions import Completion


def mask(text: str, form: AnswerFormat, share: float) -> str:
    """The text with this share of its reasoning's digits, rounded, written as `x`."""
    reasoning, rest = split_answer(text, form)
    left = round(share * sum(letter.isdigit() for letter in reasoning))
    masked = ""
    for letter in reasoning:
        hidden = letter.isdigit() and left > 0
        left -= hidden
        masked += "x" if hidden else letter
    return masked + rest


class Settings(DefenseSettings):
    """`share`: of the digits that are masked (0: no defence)."""

    share: float = Field(1.0, ge=0, le=1)


class Defense(TextEdit):
    """Masks digits, without token ids and logprobs."""

    traits = Traits(
        acts_on="text",
        identity={"share": 0.0},
        strength=Strength("share", 0.0, 0.1, 1.0),
        keeps_answer=True,
        paper="a stranger's",
    )

    def text(self, answer: Completion) -> str:
        return mask(answer.text, self.format, self.settings.share)
