"""Summary: the caller sees what the reasoning came to, and the final answer, as vendors of
reasoning models show it.

By rule, a share of the steps is kept, each cut down to its conclusion; by model, a rewriter is
asked for a summary. It bites where a student cannot fill in what is left out: pretrained students
of three vendors' summaries came close to those of whole traces on GSM8K, and an inverter trained on
other traces writes the reasoning back (Zhang, Morris and Shmatikov, 2603.07267). `RewrittenModel`
here is what rewrites by model in obfuscate as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from defenses import NO_RESOURCES, DefenseSettings, ProviderResources, SecretKey, Strength, Traits
from defenses.release import TextEdit, join_steps, split_answer
from defenses.release._spans import CODE, MATHS, Masked
from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Completion, Interface, Prompt
from distill.generation import uniform
from distill.models import LanguageModel, Model, ReleasedModel
from distill.rendering import text_ids

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


def fill_template(template: str, **fields: str) -> str:
    """A template with `{name}` replaced for each of the fields; all other braces stay, as formulas
    are full of them.
    """
    return re.sub("{(" + "|".join(fields) + ")}", lambda match: fields[match[1]], template)


@dataclass(frozen=True)
class RewrittenModel(ReleasedModel):
    """A model whose reasoning a second model rewrites before it is released, in one call for all
    answers of a call.

    What it writes is a function of (key, question, reasoning). Its forward passes count per token
    of the answer that it rewrites, both in the rewriter's tokens; what was not rewritten cost
    nothing. Token ids and logprobs go.
    """

    rewriter: LanguageModel
    instruction: str
    form: AnswerFormat
    key: str
    is_rewritten: Callable[[Completion], bool] = lambda answer: True

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        answers = self.model.generate(prompts, seed=seed, interface=interface)
        places = [
            i
            for i, answer in enumerate(answers)
            if split_answer(answer.text, self.form)[0] and self.is_rewritten(answer)
        ]
        instructions = [self._instruction_for(answers[i]) for i in places]
        written = self.rewriter.generate(
            instructions, seed=int(uniform(self.key, "rewriter") * 2**31), interface=Interface()
        )
        released = [replace(answer, token_ids=(), logprobs=None) for answer in answers]
        for i, rewritten in zip(places, written, strict=True):
            released[i] = self._put(released[i], rewritten)
        return released

    def _instruction_for(self, answer: Completion) -> Prompt:
        reasoning, _ = split_answer(answer.text, self.form)
        return Prompt(
            answer.prompt_id,
            fill_template(self.instruction, question=answer.prompt, reasoning=reasoning),
        )

    def _put(self, answer: Completion, written: Completion) -> Completion:
        _, rest = split_answer(answer.text, self.form)
        length = len(text_ids(self.rewriter.tokenizer, answer.text)) + answer.finished
        extra = written.passes * (len(written.token_ids) + written.finished) / length
        text = written.text.strip()
        return replace(
            answer, text=text + rest if text else rest.lstrip(), passes=answer.passes + extra
        )


def require_rewriter(resources: ProviderResources, name: str) -> LanguageModel:
    """The provider's rewriter.

    Args:
        resources: of the provider.
        name: of the defence, for its message.

    Raises:
        BadInput: there is none.
    """
    if resources.rewriter is None:
        raise BadInput(
            f"defense {name}: by model needs a rewriter that follows instructions; the study "
            "names none"
        )
    return resources.rewriter


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
            self.traits = replace(self.traits, needs=("rewriter",))

    def __call__(self, model: Model) -> Model:
        if self.is_identity or self.settings.by == "rule":
            return super().__call__(model)
        s = self.settings
        assert s.keep is not None  # that would be no defence
        instruction = fill_template(s.instruction, percent=f"{100 * s.keep:g}")
        rewriter = require_rewriter(self.resources, "release/summary")
        return RewrittenModel(model, rewriter, instruction, self.format, s.key)

    def text(self, answer: Completion) -> str:
        s = self.settings
        assert s.keep is not None  # that would be no defence
        return summary(answer.text, self.format, s.keep)
