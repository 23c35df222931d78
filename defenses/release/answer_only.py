"""Answer only: the caller sees the final answer and none of the reasoning before it.

What commercial services do when they hide a chain of thought; of nine output defences it was the
only one that bit in DistillGuard (2603.07835: MATH 67.8 -> 31.4). Token ids and logprobs go too, as
they would spell the reasoning out.
"""

from __future__ import annotations

from defenses import DefenseSettings, Traits
from defenses.release import TextEdit, split_answer
from distill.completions import Completion


class Settings(DefenseSettings):
    """`hidden`: whether the reasoning is; where it is not, this is no defence."""

    hidden: bool = True


class Defense(TextEdit):
    """Releases the final answer in its markup, without token ids and logprobs; nothing where there
    is none, as all of the text may be reasoning.
    """

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"hidden": False},
        keeps_answer=True,
        paper="DistillGuard, 2603.07835",
    )

    def text(self, answer: Completion) -> str:
        return split_answer(answer.text, self.format)[1].lstrip()
