"""Digits of the reasoning are masked, from the first on; the final answer stays as it is."""

from pydantic import Field

from defenses import Part, Strength
from defenses.release import TextEdit, divided
from distill.completions import Completion


def mask(text: str, marker: str, share: float) -> str:
    """The text with this share of its reasoning's digits, rounded, written as `x`."""
    reasoning, rest = divided(text, marker)
    left = round(share * sum(letter.isdigit() for letter in reasoning))
    masked = ""
    for letter in reasoning:
        hidden = letter.isdigit() and left > 0
        left -= hidden
        masked += "x" if hidden else letter
    return masked + rest


class Settings(Part):
    """`share`: of the digits that are masked (0: no defence); `marker`: of the final answer."""

    share: float = Field(1.0, ge=0, le=1)
    marker: str = Field("#", min_length=1)


class Defense(TextEdit):
    """Masks digits, without token ids and logprobs."""

    keeps_answer = True
    identity = {"share": 0.0}
    knob = Strength("share", 0.0, 0.1, 1.0)
    paper = "a stranger's"

    def text(self, answer: Completion) -> str:
        return mask(answer.text, self.settings.marker, self.settings.share)
