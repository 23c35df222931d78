"""Following a chain of look-ups: `ac be cd da eb;a+2?` is `ac;cd # d`.

The keys form one cycle, so that each occurs once as a key and once as a value, no path comes back
to where it began, and neither how often nor where a letter is written says anything about the
answer.
"""

from __future__ import annotations

import math
import random
from string import ascii_lowercase
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from distill.answer_format import AnswerFormat
from experiments import tasks
from experiments.tasks import Draft
from experiments.tasks.graders import exact


class Settings(BaseModel):
    """`keys`: pairs in a table; `letters`: how many letters keys are drawn from; `min_hops`,
    `max_hops`: look-ups.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    keys: int = Field(5, ge=3, le=10)
    letters: int = Field(16, ge=3, le=26)
    min_hops: int = Field(2, ge=1, le=9)
    max_hops: int = Field(3, ge=1, le=9)

    @model_validator(mode="after")
    def _possible(self) -> Settings:
        if not self.min_hops <= self.max_hops < self.keys <= self.letters:
            raise ValueError("must have min_hops <= max_hops < keys <= letters")
        return self


class Task(tasks.Task):
    """Every cycle of `keys` letters with a start and a number of hops; the order of the pairs makes
    no new question.
    """

    name: ClassVar[str] = "lookup"
    plateau_steps = 2400  # docs/plateau.md
    format = AnswerFormat(steps=";", thinking="none")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        letters = ascii_lowercase[: settings.letters]
        self.alphabet = letters + "0123456789+;? #"
        self.grader = exact.Grader(form=f"[{letters}]")
        self.size = math.perm(settings.letters, settings.keys) * (
            settings.max_hops - settings.min_hops + 1
        )

    def draft(self, index: int) -> Draft:
        """The question numbered `index`: the cycle is spelt from its start, so the answer stands
        `hops` further on.
        """
        index, extra = divmod(index, self.settings.max_hops - self.settings.min_hops + 1)
        hops, free, cycle = (
            self.settings.min_hops + extra,
            list(ascii_lowercase[: self.settings.letters]),
            "",
        )
        for _ in range(self.settings.keys):
            index, pick = divmod(index, len(free))
            cycle += free.pop(pick)
        pairs = [f"{key}{value}" for key, value in zip(cycle, cycle[1:] + cycle[0], strict=True)]
        steps = ";".join(pairs[:hops])
        canonical = f"{cycle}+{hops}"
        random.Random(canonical).shuffle(pairs)
        return Draft(canonical, f"{' '.join(pairs)};{cycle[0]}+{hops}?", steps, cycle[hops])
