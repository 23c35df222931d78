"""A regular expression that the whole answer must match; the reference is the expression."""

from __future__ import annotations

import regex

from distill.completions import BadInput
from experiments.tasks import graders

SECONDS = 0.5  # an expression may take exponential time, and answers are others'


class Grader(graders.Grader):
    """`ignore_case`: whether capitals are the same letters."""

    ignore_case: bool = False

    def read(self, final: str) -> str | None:
        """The answer without white space around it."""
        return final.strip() or None

    def same(self, answer: str, reference: str) -> bool:
        """Whether the reference matches all of it, in half a second."""
        flags = regex.IGNORECASE if self.ignore_case else 0
        try:
            return bool(regex.fullmatch(reference, answer, flags, timeout=SECONDS))
        except TimeoutError:
            return False

    def check(self, reference: str) -> None:
        """A reference must be a regular expression, and not empty.

        Raises:
            BadInput: it is not.
        """
        try:
            regex.compile(reference)
        except regex.error as error:
            raise BadInput(
                f"reference {reference[:80]!r} is no regular expression ({error})"
            ) from None
        if not reference.strip():
            raise BadInput("reference is empty, and so no regular expression")
