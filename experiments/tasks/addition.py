"""Addition of two numbers, worked digit by digit from the units: `347+586=` is
`760=13;481=13;351=09 # 933`.

A step names both digits and the carry into them, then their sum in two digits, the first of which
is the next carry.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from distill.answer_format import AnswerFormat
from experiments import tasks
from experiments.tasks import Draft
from experiments.tasks.graders import exact


class Settings(BaseModel):
    """`digits`: how many digits each of the two numbers has, the first of them not 0."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    digits: int = Field(3, ge=1, le=6)


class Task(tasks.Task):
    """Every pair of numbers with `digits` digits; a sum and its commuted twin are one question."""

    name: ClassVar[str] = "addition"
    plateau_steps = 600  # docs/plateau.md
    format = AnswerFormat(steps=";", thinking="none")
    alphabet = "0123456789+=; #"
    grader = exact.Grader(form="0|[1-9][0-9]*")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.low: int = 10 ** (settings.digits - 1)
        self.size = (9 * self.low) ** 2

    @property
    def different(self) -> int:
        """Pairs in either order."""
        return 9 * self.low * (9 * self.low + 1) // 2

    def draft(self, index: int) -> Draft:
        """The sum numbered `index`."""
        a, b = (self.low + part for part in divmod(index, 9 * self.low))
        steps, carry = [], 0
        for x, y in zip(reversed(str(a)), reversed(str(b)), strict=True):
            total = int(x) + int(y) + carry
            steps.append(f"{x}{y}{carry}={total:02d}")
            carry = total // 10
        return Draft(f"{min(a, b)}+{max(a, b)}", f"{a}+{b}=", ";".join(steps), str(a + b))
