"""Answer poisoning: with probability p, an answer is released with a number in it that is wrong.

The data poisoning of DistillGuard (2603.07835), there done by a language model to 5 to 30 % of the
answers. Here a rewriter does it to the reasoning (`by: model`), with an instruction of our own, or
a rule, so that what is wrong is known: one digit of the final answer, of a step's conclusion, or of
both. Which answers are poisoned, and how, is a function of (key, prompt), so that
asking again does not tell the two apart. An honest user gets a wrong final answer as often as the
thief, p of the time; the thief may drop answers that contradict their steps.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from pydantic import Field

from defenses import NO_RESOURCES, DefenseSettings, ProviderResources, SecretKey, Strength, Traits
from defenses.release import TextEdit, edit_reasoning, is_edited
from defenses.release._rewriter import BY_MODEL, Part, rewritten, whole
from defenses.release._spans import CODE, Masked
from distill.answer_format import final_spans
from distill.completions import Completion
from distill.generation import uniform
from distill.models import Model

DIGITS = "0123456789"
NUMBER = re.compile("[0-9]+(?:[.,][0-9]+)*")


def wrong(number: str, place: float) -> str:
    """The number with one digit changed; `place` in [0, 1) says which of all such numbers, each as
    likely.

    It is as long, and starts with 0 only if the number did, so that its form gives nothing away.

    Args:
        number: digits, with what else is in a number.
        place: in [0, 1).
    """
    others = [
        number[:i] + digit + number[i + 1 :]
        for i, old in enumerate(number)
        for digit in DIGITS
        if old in DIGITS and digit != old and not (i == 0 < len(number) - 1 and "0" in (digit, old))
    ]
    return others[int(place * len(others))]


def with_wrong_answer(rest: str, place: float) -> str:
    """The final answer with its first number wrong; an answer without a number stays.

    Args:
        rest: of an answer, behind its reasoning.
        place: in [0, 1), which wrong number it becomes.
    """
    return NUMBER.sub(lambda match: wrong(match[0], place), rest, count=1)


def result(step: str) -> re.Match[str] | None:
    """The number that a step comes to: the first after its last `=`; the last one of a step without
    `=`.
    """
    start = step.rfind("=") + 1
    numbers = list(NUMBER.finditer(step, start))
    return numbers[0 if start else -1] if numbers else None


def with_wrong_result(step: str, place: float) -> str:
    """The step with its result wrong there and wherever it is said again after it; one without a
    result stays.

    Args:
        step: text.
        place: in [0, 1), which wrong number it becomes.
    """
    match = result(step)
    if match is None:
        return step
    replacement = wrong(match[0], place)
    again = NUMBER.sub(
        lambda other: replacement if other[0] == match[0] else other[0], step[match.start() :]
    )
    return step[: match.start()] + again


INSTRUCTION = (
    "Rewrite this reasoning with one mistake that is hard to see and that changes what it comes "
    "to. Keep its form and its length. Write nothing else.\n\n{reasoning}"
)


class Settings(DefenseSettings):
    """`p`: how likely an answer is poisoned (0: no defence), by `key` and prompt; `where`: what is
    wrong in it; `by`: how reasoning is made wrong, by one digit or by a rewriter that is told
    `instruction` (`{question}`, `{reasoning}`).
    """

    p: float = Field(0.2, ge=0, le=1)
    by: Literal["rule", "model"] = "rule"
    where: Literal["answer", "reasoning", "both"] = "answer"
    instruction: str = Field(INSTRUCTION, pattern=r"\{reasoning\}")
    key: SecretKey = "poison"


class Defense(TextEdit):
    """Releases some answers with a wrong number, and all without token ids and logprobs."""

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"p": 0.0},
        strength=Strength("p", 0.0, 0.01, 1.0, log=True),
        paper="DistillGuard, 2603.07835",
    )

    def __init__(self, settings: Settings, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        if self._asks:
            self.traits = replace(self.traits, **BY_MODEL)

    @property
    def _asks(self) -> bool:
        """Whether a rewriter makes the reasoning wrong."""
        return self.settings.by == "model" and self.settings.where != "answer"

    def __call__(self, model: Model) -> Model:
        if self._asks and not self.is_identity:
            parts, s = whole(self.format), self.settings

            def divided(answer: Completion) -> list[Part]:
                return parts(answer) if is_edited(answer.prompt, s.key, s.p) else []

            name = "release/poison"
            model = rewritten(model, self.resources, name, s.instruction, s.key, divided)
        return super().__call__(model)

    def text(self, answer: Completion) -> str:
        s = self.settings

        def number(what: str) -> float:
            return uniform(s.key, what, answer.prompt)

        if not is_edited(answer.prompt, s.key, s.p):
            return answer.text

        def edit(reasoning: str) -> str:
            masked = Masked(reasoning, CODE)
            steps = self.format.split_steps(masked.text)
            telling = [i for i, step in enumerate(steps) if result(step.text)]
            if telling:
                i = telling[int(number("step") * len(telling))]
                wrong = with_wrong_result(steps[i].text, number("digit of a step"))
                steps[i] = steps[i]._replace(text=wrong)
            return masked.unmasked("".join(step.text + step.tail for step in steps))

        text = answer.text
        if s.where != "answer" and not self._asks:
            text = edit_reasoning(text, self.format, edit)
        if s.where != "reasoning":
            for start, end in final_spans(self.format, text):
                wrong = with_wrong_answer(text[start:end], number("digit of the answer"))
                if wrong != text[start:end]:
                    text = text[:start] + wrong + text[end:]
                    break
        return text
