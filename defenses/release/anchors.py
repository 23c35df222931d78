"""Sparse anchor edits: only the results that most of the reasoning hangs on are wrong; the final
answer stays.

TraceGuard (2604.23238) finds "thought anchors" by branching on tokens and has a model poison these
sentences alone, so that a reader who skims, or a filter, sees little. Its code was not seen. Here
an anchor is a step without which a proxy of the provider's is most surprised by the final answer
(`find: counterfactual`), or by rule one whose result later steps use most often; where no result
is ever used again, as where results are repeated only as parts of longer numbers, earlier steps
come first, as more follows from them. It is rewritten by the provider's rewriter (`by: model`), or
one digit of its result is changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch.nn import functional

from defenses import (
    NO_RESOURCES,
    DefenseSettings,
    ProviderResources,
    SecretKey,
    Strength,
    Traits,
)
from defenses.release import TextEdit, edit_reasoning, split_answer
from defenses.release._rewriter import Part, rewritten
from defenses.release._spans import CODE, MATHS, Masked
from defenses.release.poison import NUMBER, result, with_wrong_result
from defenses.trained import Row, answer_logits
from distill.answer_format import Step
from distill.completions import BadInput, Completion
from distill.generation import uniform
from distill.models import EditedModel, LanguageModel, Model
from distill.rendering import completion_ids, text_ids


def uses(steps: Sequence[str]) -> dict[int, int]:
    """How often later steps use the result of each step that has one: the number, before they say
    their own result.

    Args:
        steps: in their order.

    Returns:
        Counts by the place of the step, from 0.
    """
    results = [result(step) for step in steps]
    used = [
        NUMBER.findall(step[: one.start()] if one else step)
        for step, one in zip(steps, results, strict=True)
    ]
    return {
        i: sum(later.count(one[0]) for later in used[i + 1 :])
        for i, one in enumerate(results)
        if one
    }


@torch.inference_mode()
def importance(
    proxy: LanguageModel, answer: Completion, steps: Sequence[Step], rest: str
) -> list[float]:
    """How much more surprised a proxy is by the final answer without each step, in nats.

    Args:
        proxy: a small model of the provider's own.
        answer: to what question.
        steps: of its reasoning.
        rest: its final answer in its markup.

    Returns:
        One number a step; infinite where the proxy's context holds too little to tell.
    """
    left_out = [steps, *([*steps[:i], *steps[i + 1 :]] for i in range(len(steps)))]
    prompt = proxy.encode(answer.question)
    final = completion_ids(proxy.tokenizer, rest, finished=True)
    before = [
        prompt + text_ids(proxy.tokenizer, "".join(step.text + step.tail for step in some))
        for some in left_out
    ]
    if max(map(len, before)) + len(final) > proxy.context:
        return [math.inf] * len(steps)
    nats = []
    for ids in before:  # one by one: an answer must not depend on what is asked beside it
        scores_TV, targets_T = answer_logits(proxy.network, [Row(ids, final)])
        nats.append(float(functional.cross_entropy(scores_TV, targets_T, reduction="sum")))
    return [without - nats[0] for without in nats[1:]]


def most(counts: dict[int, float], share: float, luck: float) -> list[int]:
    """The places with the largest numbers, earlier ones first among equals: a share of them, its
    fraction rounded up where `luck` is below.

    With `luck` uniform in [0, 1) that is the share itself on average, however few steps there are.

    Args:
        counts: how much hangs on the step in each place.
        share: of the places.
        luck: in [0, 1).
    """
    ranked = sorted(counts, key=lambda i: (-counts[i], i))
    return ranked[: int(share * len(ranked) + 1 - luck)]


INSTRUCTION = (
    "Rewrite this sentence of a solution so that it states a wrong result and looks right. Keep "
    "its form and its length. Write nothing else.\n\n{reasoning}"
)


class Settings(DefenseSettings):
    """`find`: anchors are steps that a proxy misses most (`counterfactual`), or whose results later
    steps use most (`reuse`); `by`: one digit of their result is changed (`rule`), or a rewriter is
    told `instruction` (`{question}`, `{reasoning}`); `share`: how many of the steps (0: no
    defence); `key`: which digit, and the rewriter's randomness.
    """

    find: Literal["reuse", "counterfactual"] = "reuse"
    by: Literal["rule", "model"] = "rule"
    share: float = Field(0.34, ge=0, le=1)
    instruction: str = Field(INSTRUCTION, pattern=r"\{reasoning\}")
    key: SecretKey = "anchors"


class Defense(TextEdit):
    """Releases wrong results of the steps that matter most, without token ids and logprobs."""

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"share": 0.0},
        strength=Strength("share", 0.0, 0.02, 1.0, log=True),
        keeps_answer=True,
        paper="TraceGuard, 2604.23238",
    )

    def __init__(self, settings: Settings, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        proxy = ("proxy",) if settings.find == "counterfactual" else ()
        rewriter = ("rewriter",) if settings.by == "model" else ()
        if proxy or rewriter:
            needs = proxy + rewriter
            self.traits = replace(self.traits, needs=needs, extra_forward_passes=math.nan)

    def __call__(self, model: Model) -> Model:
        s = self.settings
        if s.find == "counterfactual" and not self.is_identity:
            model = EditedModel(model, self._counted)
        if self.is_identity or s.by == "rule":
            return super().__call__(model)
        name = "release/anchors"
        return rewritten(model, self.resources, name, s.instruction, s.key, self._divided)

    def _counted(self, answer: Completion) -> Completion:
        """The answer with what it costs to look for its anchors: a proxy reads it whole, and once
        without each step.
        """
        reasoning, _ = split_answer(answer.text, self.format)
        read = len(self.format.split_steps(reasoning)) + 1
        return replace(answer, passes=answer.passes + read)

    def _divided(self, answer: Completion) -> list[Part]:
        """The reasoning in steps, of which the anchors are rewritten."""
        reasoning, rest = split_answer(answer.text, self.format)
        masked = Masked(reasoning, CODE, MATHS)
        steps = [
            Step(masked.unmasked(step.text), step.tail)
            for step in self.format.split_steps(masked.text)
        ]
        places = self._anchors(answer, steps, rest)
        return [Part(step.text, step.tail, i in places) for i, step in enumerate(steps)]

    def _anchors(self, answer: Completion, steps: Sequence[Step], rest: str) -> list[int]:
        """The places of the steps that most hangs on; by rule only those with a result count."""
        s, texts = self.settings, [step.text for step in steps]
        counts: dict[int, float] = dict(uses(texts))
        if s.by == "model":
            counts = {i: counts.get(i, 0.0) for i, text in enumerate(texts) if text.strip()}
        if s.find == "counterfactual" and counts:
            if self.resources.proxy is None:
                raise BadInput("defense release/anchors: needs a proxy; the study names none")
            missed = importance(self.resources.proxy, answer, steps, rest)
            counts = {i: missed[i] for i in counts}
        return most(counts, s.share, uniform(s.key, "luck", answer.prompt))

    def text(self, answer: Completion) -> str:
        s = self.settings
        rest = self.format.split(answer.text).answer

        def edit(reasoning: str) -> str:
            masked = Masked(reasoning, CODE)
            steps = self.format.split_steps(masked.text)
            bare = [Step(masked.unmasked(step.text), step.tail) for step in steps]
            for i in self._anchors(answer, bare if s.find == "counterfactual" else steps, rest):
                wrong = with_wrong_result(steps[i].text, uniform(s.key, "digit", i, answer.prompt))
                steps[i] = steps[i]._replace(text=wrong)
            return masked.unmasked("".join(step.text + step.tail for step in steps))

        return edit_reasoning(answer.text, self.format, edit)
