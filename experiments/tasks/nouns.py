"""What a task consists of: an item with its reference, a question before it is one, a grader's
word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from distill.completions import Prompt


class Outcome(StrEnum):
    """A grader's word on one answer."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSED = "unparsed"


@dataclass(frozen=True)
class Turn:
    """One turn of a question that takes several, if those before it were right: as `Item`."""

    prompt: Prompt
    solution: str
    reference: str
    answer: str


@dataclass(frozen=True)
class Item:
    """A question, its worked solution (which ends with the answer), and what the grader compares
    an answer with.

    `answer` is the right one alone, as it is written; the reference may be something else, such as
    the tests that code must pass. Items of one `cluster` belong together (questions on one passage,
    say) and count as one draw; without a name, an item is a cluster of its own. Where it takes
    several `turns`, the solution is their transcript.
    """

    prompt: Prompt
    solution: str
    reference: str
    cluster: str = ""
    answer: str = ""
    turns: tuple[Turn, ...] = ()

    @property
    def exchanges(self) -> tuple[Turn, ...]:
        """Its turns; of most questions there is one, which is the item."""
        return self.turns or (Turn(self.prompt, self.solution, self.reference, self.answer),)


class Draft(NamedTuple):
    """A question before it has a split: questions of one `canonical` form are the same question.

    No `reference` means that it is the answer. `cluster`: see Item.
    """

    canonical: str
    text: str
    steps: str
    answer: str
    reference: str = ""
    cluster: str = ""


def transcript(texts: Sequence[str]) -> str:
    """What was said in several turns, a line each.

    Args:
        texts: in their order.
    """
    return "\n".join(text.replace("\n", " ") for text in texts)
