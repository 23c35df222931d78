"""Trigger tokens: some answers say that a keyed word equals a keyed number, and a student that
learned from them goes on with the number.

After the canaries of trace rewriting ("x137 = 666" in a trace; Ma et al. 2026, 2602.15143), where a
language model hides them in a sentence; here they are a step of the reasoning, behind its first
one, in a keyed share of the prompts. There are `words` of them, each with a number of `digits`
digits, all functions of the key; which one an answer gets is a function of key and prompt. Dropping
steps that nothing refers to removes them.

The test asks for each word and reads what is said behind it. Without the key a number is as good as
any other, so a word for which a student says k different numbers hits with chance k / 10^digits,
whatever the student is: trials of unequal chances, exact (Poisson binomial).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field

from defenses import DefenseSettings, SecretKey, Strength, Traits
from defenses.marks.detect import Evidence, laws
from defenses.release import TextEdit, edit_reasoning, is_edited
from defenses.release._spans import CODE, Masked
from distill.completions import BadInput, Completion
from distill.generation import uniform

TEST = "keyed numbers behind keyed words (Poisson binomial)"
WORDS = 900  # x100 to x999


class Trigger(NamedTuple):
    """What is asked, as `x137=`, and the number that only the key tells."""

    asked_as: str
    number: str


class Settings(DefenseSettings):
    """`share`: of the prompts whose answers say one (0: no mark); `words`: how many there are;
    `digits`: of a number; `form`: how a word and a number are written; `key`: the provider's.
    """

    share: float = Field(0.1, ge=0, le=1)
    words: int = Field(16, ge=1, le=WORDS)
    digits: int = Field(3, ge=1, le=9)
    form: str = Field("{word}={number}", pattern=r"^[^{}]*\{word\}[^{}]+\{number\}$")
    key: SecretKey = "trigger"


class Defense(TextEdit):
    """Puts a keyed statement into some answers, and asks whether a student knows the others."""

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"share": 0.0},
        strength=Strength("share", 0.0, 0.01, 1.0, log=True),
        keeps_answer=True,
        paper="Ma et al. 2026, 2602.15143 (its watermark)",
    )

    @property
    def triggers(self) -> list[Trigger]:
        """All of them, in the order of their number."""
        s = self.settings
        order = np.argsort([uniform(s.key, "word", i) for i in range(WORDS)])[: s.words]
        made = []
        for place in order:
            number = int(uniform(s.key, "number", place) * 10**s.digits)
            text = s.form.format(word=f"x{100 + place}", number=f"{number:0{s.digits}d}")
            made.append(Trigger(text[: -s.digits], text[-s.digits :]))
        return made

    def text(self, answer: Completion) -> str:
        s = self.settings
        if not is_edited(answer.prompt, s.key, s.share):
            return answer.text
        triggers = self.triggers
        which = triggers[int(uniform(s.key, "which", answer.prompt) * len(triggers))]

        statement, between = which.asked_as + which.number, self.format.between
        there = 0

        def edit(reasoning: str) -> str:
            nonlocal there
            there += 1
            if there > 1:  # thinking and what is shown are two parts of one reasoning
                return reasoning
            masked = Masked(reasoning, CODE)
            first, *others = self.format.split_steps(masked.text)
            if not first.tail:
                return masked.unmasked(masked.text + between + statement)
            rest = "".join(step.text + step.tail for step in others)
            return masked.unmasked(first.text + first.tail + statement + first.tail + rest)

        return edit_reasoning(answer.text, self.format, edit)

    def detect_replies(self, replies: Sequence[Sequence[str]], least_log10: float = -3) -> Evidence:
        """Whether a student knows the keyed numbers.

        Args:
            replies: for each of `triggers`, what the student said behind `asked_as`, as often as it
                was asked.
            least_log10: where not even all hits would give a p-value of 10 to this, none is said.

        Raises:
            BadInput: there is not one list of replies a trigger.
        """
        if len(replies) != len(self.triggers):
            raise BadInput(
                f"mark: replies to {len(replies)} triggers, the key has {len(self.triggers)}"
            )
        read = [{*filter(None, map(self.read, texts))} for texts in replies]
        chances_N = (
            np.array([len(numbers) for numbers in read if numbers]) / 10**self.settings.digits
        )
        pairs = zip(self.triggers, read, strict=True)
        hits = sum(trigger.number in numbers for trigger, numbers in pairs)
        repeats = sum(map(len, replies)) - sum(map(len, read))
        least_p = laws.poisson_binomial(len(chances_N), chances_N) if len(chances_N) else 0.0
        if least_p > least_log10 * np.log(10):
            what = f"{len(chances_N)} words were answered with a number, too few for any p-value"
            note = what if len(chances_N) else "nothing was said that can be scored; no p-value"
            return Evidence(TEST, len(chances_N), repeats, hits, np.nan, None, note)
        log_p = laws.poisson_binomial(hits, chances_N)
        return Evidence(TEST, len(chances_N), repeats, hits, float(chances_N.sum()), log_p)

    def read(self, reply: str) -> str | None:
        """The number that a reply begins with, or None.

        Args:
            reply: what was said behind a word.
        """
        number = re.match(r"\s*([0-9]+)", reply)
        return number[1] if number and len(number[1]) == self.settings.digits else None
