"""Graders: one file each, named in configs by its file's name; each holds one `Grader`, whose
fields are its settings.

A grader is handed the final answer, without reasoning and markup, which are the answer format's
(`distill/answer_format.py`). What it cannot read is unparsed, never right by luck.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from distill.completions import BadInput

LONGEST = 100_000  # letters of a final answer that are read at all


class Grader(BaseModel, ABC):
    """What every file's `Grader` extends."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tried: ClassVar[int] = 20
    """Worked solutions that it is tried on before a study runs, and as many public ones."""
    executes: ClassVar[bool] = False
    """Whether it runs answers as code; `verify` then does not grade again."""

    def note(self) -> str:
        """What a plan is to say of grading on this machine, or nothing."""
        return ""

    @abstractmethod
    def read(self, final: str) -> str | None:
        """A final answer in its canonical form, in which equal answers are equal texts; None where
        it has no form that this grader knows.

        Args:
            final: of an answer, as `AnswerFormat.final` gives it.

        Raises:
            BadInput: a library that it needs is not installed.
        """

    def same(self, answer: str, reference: str) -> bool:
        """Whether an answer in its canonical form is what an item's reference asks for.

        Args:
            answer: as `read` gives it.
            reference: of the item.
        """
        return answer == self.read(reference)

    def check(self, reference: str) -> None:
        """A reference must be one by which an answer could be right.

        Args:
            reference: of an item.

        Raises:
            BadInput: it is not; the line names no place.
        """
        if self.read(reference) is None:
            raise BadInput(f"reference {reference[:80]!r} is nothing that this grader can read")
