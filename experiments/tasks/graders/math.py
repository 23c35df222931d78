"""Mathematics: two expressions that are equal are one answer, by math-verify (Hugging Face), which
reads LaTeX with latex2sympy2-extended and compares with SymPy.
"""

from __future__ import annotations

import re
import threading
from typing import Any, ClassVar

from pydantic import Field

from distill.completions import BadInput
from experiments.tasks import graders

LETTERS = 1000  # of an answer; longer ones take minutes
POWER = r"(?:\^|\*\*)\s*[{(]?\s*-?\s*"
HUGE = re.compile(rf"{POWER}\d{{5,}}|\d\s*{POWER}\d+\s*{POWER}\d|\d{{4,}}\s*!|!\s*!")
"""Powers that fill the memory of whoever works them out, which no alarm interrupts."""


class Grader(graders.Grader):
    """`seconds`: how long reading, and comparing, may take each. `digits`: to how many places
    numbers that are no fractions are compared.
    """

    tried: ClassVar[int] = 8

    seconds: int = Field(default=3, ge=1, le=60)
    digits: int = Field(default=6, ge=1, le=30)

    def read(self, final: str) -> str | None:
        """The answer's own text where there is an expression in it, else None."""
        text = " ".join(final.split())
        return text if text and self._parse(text) else None

    def same(self, answer: str, reference: str) -> bool:
        """Whether SymPy finds the two equal; what takes too long is not."""
        from math_verify import verify

        gold, value = self._parse(reference), self._parse(answer)
        if not gold or not value:
            return False
        return bool(verify(gold, value, float_rounding=self.digits, timeout_seconds=self._alarm()))

    def _parse(self, text: str) -> Any:
        """What math-verify reads in a text: an expression and its text, or nothing."""
        if len(text) > LETTERS or HUGE.search(text):
            return []
        try:
            from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse
        except ImportError:
            raise BadInput(
                "grader math: needs math-verify; pip install 'distill-resist[real]'"
            ) from None
        marked = any(mark in text for mark in ("$", r"\(", r"\[", r"\boxed"))
        return parse(
            text if marked else f"${text}$",
            [LatexExtractionConfig(), ExprExtractionConfig()],
            fallback_mode="no_fallback",
            parsing_timeout=self._alarm(),
        )

    def _alarm(self) -> int | None:
        """Seconds after which work is stopped, where it can be: in a main thread."""
        return self.seconds if threading.current_thread() is threading.main_thread() else None
