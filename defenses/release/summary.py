"""Summary: the caller sees what the reasoning came to, and the final answer, as vendors of
reasoning models show it.

By rule, a share of the steps is kept, each cut down to its conclusion; by model, a rewriter is
asked for a summary. It bites where a student cannot fill in what is left out: pretrained students
of three vendors' summaries came close to those of whole traces on GSM8K, and an inverter trained on
other traces writes the reasoning back (Zhang, Morris and Shmatikov, 2603.07267).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from pydantic import Field

from defenses import NO_RESOURCES, DefenseSettings, ProviderResources, SecretKey, Strength, Traits
from defenses.release import TextEdit, join_steps, split_answer
from defenses.release._rewriter import BY_MODEL, fill_template, rewritten, whole
from defenses.release._spans import CODE, MATHS, Masked
from distill.answer_format import AnswerFormat
from distill.completions import Completion
from distill.models import Model

INSTRUCTION = (
    "Summarise this reasoning in at most {percent} % of its length. Give results, not how they "
    "were found. "
    "Write nothing else.\n\n{reasoning}"
)
TARGET = re.compile(r"\s*[A-Za-z][\w ]*")
ANNOTATION = re.compile("<<[^<>]*>>")


def conclusion(step: str) -> str:
    """What a step comes to: `a=3+4=7` is `a=7`, `48/2 = 24 clips` is `24 clips`; a step without `=`
    is all conclusion.

    GSM8K's calculator notes (`<<48/2=24>>`) are no part of it.
    """
    *before, value = ANNOTATION.sub("", step).split("=")
    return f"{before[0]}={value}" if before and TARGET.fullmatch(before[0]) else value.strip()


def evenly_spaced(total: int, keep: float) -> list[int]:
    """Which of `total` places are kept: keep * total of them (rounded, half up), evenly spread, the
    last among them.

    Args:
        total: places.
        keep: share, in [0, 1].
    """
    count = int(keep * total + 0.5)
    return [i for i in range(total) if i * count // total < (i + 1) * count // total]


def summary(text: str, form: AnswerFormat, keep: float) -> str:
    """The conclusions of a share of the steps, and the final answer; keep 0 is the final answer
    alone.

    Args:
        text: an answer.
        form: where its reasoning and final answer are.
        keep: share of the steps.
    """
    reasoning, rest = split_answer(text, form)
    masked = Masked(ANNOTATION.sub("", reasoning), CODE, MATHS)
    steps = form.split_steps(masked.text)
    shown = [
        steps[i]._replace(text=conclusion(steps[i].text)) for i in evenly_spaced(len(steps), keep)
    ]
    return masked.unmasked(join_steps(shown)) + rest if shown else rest.lstrip()


class Settings(DefenseSettings):
    """`keep`: share of the steps that are kept (None: no defence), as `{percent}` in the
    instruction of a rewriter.

    `instruction` and `key`: what a rewriter is asked (`{question}`, `{reasoning}`) and its
    randomness.
    """

    by: Literal["rule", "model"] = "rule"
    keep: float | None = Field(0.5, ge=0, le=1)
    instruction: str = Field(INSTRUCTION, pattern=r"\{reasoning\}")
    key: SecretKey = "summary"


class Defense(TextEdit):
    """Releases a summary of the reasoning, without token ids and logprobs."""

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"keep": None},
        strength=Strength("keep", None, 1.0, 0.0),
        keeps_answer=True,
        paper="DistillGuard, 2603.07835; Zhang et al., 2603.07267",
    )

    def __init__(self, settings: Settings, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        if settings.by == "model":
            self.traits = replace(self.traits, **BY_MODEL)

    def __call__(self, model: Model) -> Model:
        if self.is_identity or self.settings.by == "rule":
            return super().__call__(model)
        s = self.settings
        assert s.keep is not None  # that would be no defence
        instruction = fill_template(s.instruction, percent=f"{100 * s.keep:g}")
        parts = whole(self.format)
        return rewritten(model, self.resources, "release/summary", instruction, s.key, parts)

    def text(self, answer: Completion) -> str:
        s = self.settings
        assert s.keep is not None  # that would be no defence
        return summary(answer.text, self.format, s.keep)
