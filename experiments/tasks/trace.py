"""Tracing a straight-line program modulo 10: `a=3;b=a+4;a=b-1;a?` is `3;3+4=7;7-1=6 # 6`.

Every statement starts from the variable assigned just before it, so that the answer needs them all.
"""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from experiments.tasks import Draft, Exam

VARIABLES = "abc"
OPERANDS = "123456789" + VARIABLES  # adding 0 would be a statement without effect


class Settings(BaseModel):
    """`statements`: how many assignments a program has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    statements: int = Field(3, ge=2, le=8)


class Task(Exam):
    """Every such program; programs that differ in the names of their variables are one question."""

    name: ClassVar[str] = "trace"
    alphabet = "0123456789abc=+-;? #"
    form = re.compile("[0-9]")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.size = 10 * 3 * (3 * 2 * len(OPERANDS)) ** (settings.statements - 1)

    def draft(self, index: int) -> Draft | None:
        """The program numbered `index`; None where it reads an unset variable or combines one with itself."""
        index, value = divmod(index, 10)
        index, target = divmod(index, 3)
        last = VARIABLES[target]
        values = {last: value}
        program, steps = [f"{last}={value}"], [f"{value}"]
        for _ in range(self.settings.statements - 1):
            index, target = divmod(index, 3)
            index, minus = divmod(index, 2)
            index, pick = divmod(index, len(OPERANDS))
            operand = OPERANDS[pick]
            if operand == last or (operand in VARIABLES and operand not in values):
                return None
            change = values[operand] if operand in VARIABLES else int(operand)
            before, sign = value, "+-"[minus]
            value = (before + (-change if minus else change)) % 10
            program.append(f"{VARIABLES[target]}={last}{sign}{operand}")
            last = VARIABLES[target]
            values[last] = value
            steps.append(f"{before}{sign}{change}={value}")
        text = ";".join(program) + f";{last}?"
        order = "".join(dict.fromkeys(c for c in text if c in VARIABLES))
        return Draft(text.translate(str.maketrans(order, "xyz"[: len(order)])), text, ";".join(steps), str(value))
