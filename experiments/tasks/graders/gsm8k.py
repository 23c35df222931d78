"""The number that an answer to a GSM8K problem is, read as its authors do: currency signs,
thousands separators, a per cent sign and a trailing stop are left out, and nothing else may be
there.
"""

from __future__ import annotations

import re

from experiments.tasks import graders

FORM = re.compile(r"-?[0-9]+(\.[0-9]+)?")
LARGEST = 1e15  # below it all whole numbers are exact


class Grader(graders.Grader):
    """Compares as numbers, so that 18 and 18.00 are the same answer."""

    def read(self, final: str) -> str | None:
        """The number, as short as it can be written."""
        number = re.sub(r"[$,%]", "", final.strip()).removesuffix(".")
        fits = FORM.fullmatch(number) and abs(float(number)) < LARGEST
        return f"{float(number):.15g}" if fits else None

    def same(self, answer: str, reference: str) -> bool:
        """Whether the two are one number."""
        return float(answer) == float(reference)
