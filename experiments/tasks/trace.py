"""Tracing a straight-line program modulo 10: `c=3;a=c+4;b=a-c;b?` is `c=3;a=3+4=7;b=7-3=4 # 4`.

Each variable is assigned once, and every statement starts from the variable assigned just before
it, so that the answer needs them all.
"""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from distill.answer_format import AnswerFormat
from experiments import tasks
from experiments.tasks import Draft
from experiments.tasks.graders import exact

VARIABLES = "abcdefgh"
DIGITS = "123456789"  # adding 0 would be a statement without effect


class Settings(BaseModel):
    """`statements`: how many assignments a program has."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    statements: int = Field(3, ge=3, le=8)


class Task(tasks.Task):
    """Every such program; programs that differ in the names of their variables are one question."""

    name: ClassVar[str] = "trace"
    plateau_steps = 600  # docs/plateau.md
    format = AnswerFormat(steps=";", thinking="none")
    grader = exact.Grader(form="[0-9]")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = VARIABLES[: settings.statements]
        self.alphabet = "0123456789+-=;? #" + self.names
        self.size = 10 * settings.statements
        for earlier in range(1, settings.statements):
            self.size *= (settings.statements - earlier) * 2 * (len(DIGITS) + earlier - 1)

    @property
    def different(self) -> int:
        """Programs but for the names of their variables."""
        return self.size // math.factorial(self.settings.statements)

    def draft(self, index: int) -> Draft:
        """The program numbered `index`, in mixed radix: first value, then name, sign and operand of
        each statement.
        """
        index, value = divmod(index, 10)
        free = list(self.names)
        index, pick = divmod(index, len(free))
        last, values = free.pop(pick), dict[str, int]()
        program, steps = [f"{last}={value}"], [f"{last}={value}"]
        for _ in range(self.settings.statements - 1):
            operands = [
                *DIGITS,
                *values,
            ]  # a variable combined with itself would be no statement of its own
            values[last] = value
            index, pick = divmod(index, len(free))
            index, minus = divmod(index, 2)
            index, place = divmod(index, len(operands))
            target, sign, operand = free.pop(pick), "+-"[minus], operands[place]
            change = values[operand] if operand in values else int(operand)
            program.append(f"{target}={last}{sign}{operand}")
            result = (value + change if sign == "+" else value - change) % 10
            steps.append(f"{target}={value}{sign}{change}={result}")
            last, value = target, result
        text = ";".join(program) + f";{last}?"
        order = "".join(dict.fromkeys(letter for letter in text if letter in VARIABLES))
        canonical = text.translate(str.maketrans(order, VARIABLES[: len(order)]))
        return Draft(canonical, text, ";".join(steps), str(value))
