"""A second model that rewrites reasoning, or parts of it, before it is released."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from defenses import ProviderResources
from defenses.release import split_answer
from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Completion, Interface, Prompt
from distill.generation import uniform
from distill.models import LanguageModel, Model, ReleasedModel, fits
from distill.rendering import text_ids


class Part(NamedTuple):
    """A part of a reasoning, what separates it from the next, and whether it is rewritten."""

    text: str
    tail: str = ""
    rewritten: bool = True


BY_MODEL: dict[str, Any] = {"needs": ("rewriter",), "extra_forward_passes": math.nan}
"""What the traits of a defence are while a rewriter does its work."""
Divide = Callable[[Completion], list[Part]]
"""An answer's reasoning as its parts; none where all of the answer is released as it is."""


def fill_template(template: str, **fields: str) -> str:
    """A template with `{name}` replaced for each of the fields; all other braces stay, as formulas
    are full of them.

    Args:
        template: with braces of any kind.
        **fields: text by name, at least one.
    """
    return re.sub("{(" + "|".join(fields) + ")}", lambda match: fields[match[1]], template)


def whole(form: AnswerFormat) -> Divide:
    """The reasoning as one part.

    Args:
        form: where reasoning is.
    """
    return lambda answer: [Part(text) for text in split_answer(answer.text, form)[:1] if text]


def segments(form: AnswerFormat, steps: int) -> Divide:
    """The reasoning in parts of so many steps.

    Args:
        form: where reasoning and steps are.
        steps: of each part, the last one may have fewer.
    """

    def divide(answer: Completion) -> list[Part]:
        every = form.split_steps(split_answer(answer.text, form)[0])
        groups = [every[i : i + steps] for i in range(0, len(every), steps)]
        texts = ["".join(step.text + step.tail for step in group) for group in groups]
        tails = [group[-1].tail for group in groups]
        return [
            Part(text[: len(text) - len(tail)], tail)
            for text, tail in zip(texts, tails, strict=True)
        ]

    return divide


@dataclass(frozen=True)
class RewrittenModel(ReleasedModel):
    """A model whose reasoning a second model rewrites before it is released, in one call for all
    answers of a call.

    What it writes is a function of (key, question, part). Its forward passes count per token of the
    answer that it rewrites, both in the rewriter's tokens; what was not rewritten cost nothing.
    Token ids and logprobs go. An answer is released with the text that it had, and is no defended
    one, where a part does not fit the rewriter's context, where nothing, the instruction or no end
    is written, or where what is written changes the final answer.
    """

    rewriter: LanguageModel
    instruction: str
    form: AnswerFormat
    key: str
    divide: Divide

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        return self.rewrite(self.model.generate(prompts, seed=seed, interface=interface))

    def rewrite(self, answers: Sequence[Completion]) -> list[Completion]:
        """Finished answers as they are released."""
        released = [replace(answer, token_ids=(), logprobs=None) for answer in answers]
        divided = {i: parts for i, answer in enumerate(answers) if (parts := self._parts(answer))}
        instructions = [
            self._instruction_for(answers[i], part)
            for i, parts in divided.items()
            for part in parts
            if part.rewritten
        ]
        seed = int(uniform(self.key, "rewriter") * 2**31)
        written = iter(self.rewriter.generate(instructions, seed=seed, interface=Interface()))
        for i, parts in divided.items():
            new = {place: next(written) for place, part in enumerate(parts) if part.rewritten}
            released[i] = self._put(released[i], parts, new)
        return released

    def _parts(self, answer: Completion) -> list[Part]:
        """What is rewritten of an answer; nothing where a part does not fit the rewriter."""
        parts = self.divide(answer)
        prompts = [self._instruction_for(answer, part) for part in parts if part.rewritten]
        return parts if prompts and all(fits(self.rewriter, prompt) for prompt in prompts) else []

    def _instruction_for(self, answer: Completion, part: Part) -> Prompt:
        final = split_answer(answer.text, self.form)[1].strip()
        fields = {"question": answer.prompt, "reasoning": part.text, "answer": final}
        text = fill_template(self.instruction, **fields)
        return Prompt(answer.prompt_id, text)

    def _put(
        self, answer: Completion, parts: list[Part], written: dict[int, Completion]
    ) -> Completion:
        """The answer with what was written of its parts, if all of that can be used."""
        length = len(text_ids(self.rewriter.tokenizer, answer.text)) + answer.finished
        tokens = sum(one.passes * (len(one.token_ids) + one.finished) for one in written.values())
        answer = replace(answer, passes=answer.passes + tokens / length)
        texts = [
            written[place].text.strip() if place in written else part.text
            for place, part in enumerate(parts)
        ]
        whole = all(one.finished for one in written.values())
        if not whole or any(self._repeats(texts[p], answer, parts[p]) for p in written):
            return answer
        reasoning = "".join(text + part.tail for text, part in zip(texts, parts, strict=True))
        released = reasoning + split_answer(answer.text, self.form)[1]
        if self.form.final(released) != self.form.final(answer.text):
            return answer
        return replace(answer, text=released)

    def _repeats(self, text: str, answer: Completion, part: Part) -> bool:
        """Whether nothing was written, or the instruction again."""
        return not text or text.startswith(self._instruction_for(answer, part).text.strip())


def rewritten(
    model: Model,
    resources: ProviderResources,
    name: str,
    instruction: str,
    key: str,
    divide: Divide,
) -> RewrittenModel:
    """A model whose reasoning the provider's rewriter rewrites.

    Args:
        model: whose answers are rewritten.
        resources: of the provider.
        name: of the defence, for its message.
        instruction: with `{reasoning}`, and `{question}` and `{answer}` where the rewriter is told
            them.
        key: of the rewriter's randomness.
        divide: an answer's reasoning into what is rewritten.

    Raises:
        BadInput: the provider has no rewriter.
    """
    if resources.rewriter is None:
        raise BadInput(
            f"defense {name}: by model needs a rewriter that follows instructions; the study "
            "names none"
        )
    return RewrittenModel(model, resources.rewriter, instruction, resources.format, key, divide)
