"""Rewritten reasoning: a second model writes it again, so that less can be learned from it.

Trace rewriting (Ma et al., 2602.15143). With `rounds: 0` the rewriter follows one instruction, the
paper's semantic variant in words of our own. Else the instruction is searched for as in OPRO (Yang
et al. 2023, 2309.03409): candidates rewrite the provider's traces, a copy of the proxy is tuned on
each and scored on held-out answers, and the rewriter itself reads the best so far with their scores
and proposes the next ones. The released code measures how right answers stay by having a much
larger rewriter answer again, with the question before it; here the final answer is the teacher's,
letter by letter, and what would change it is not released.

With `search: gradient` no rewriter writes: tokens of each reasoning are substituted by the gradient
of a proxy's held-out loss (_substitution.py). The paper's two searches by gradients move a trace's
token embeddings so that a proxy's loss rises, project them to tokens, and mask the answer; neither
their code nor their equations were to be had. This is HotFlip (Ebrahimi et al. 2018, 1712.06751)
with the choice of GCG (Zou et al. 2023, 2307.15043) for the same aim, and says nothing of meaning:
what it writes is seen to be garbled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from defenses import (
    NO_RESOURCES,
    BaseDefense,
    ProviderResources,
    SecretKey,
    Strength,
    Traits,
)
from defenses.release import is_edited
from defenses.release._rewriter import BY_MODEL, Part, RewrittenModel, rewritten, whole
from defenses.release._scoring import ProxySettings, hurt, scoring_proxy, split_traces
from defenses.release._substitution import held_out_direction, substitution
from distill.completions import BadInput, Completion, Interface, Prompt
from distill.generation import uniform
from distill.models import EditedModel, LanguageModel, Model, fits

INSTRUCTION = (
    "Rewrite this reasoning so that it stays correct but is as hard to imitate as possible: "
    "dense, formal, with steps left implicit. Write nothing else.\n\n{reasoning}"
)
PROPOSAL = (
    "A teacher rewrites its solutions by an instruction before students see them. They must stay "
    "correct, and a student that learns from them must learn as little as possible. These "
    "instructions were tried; a higher score means that students learned less.\n\n{tried}\n\n"
    "Write one new instruction that differs from all of them and scores higher. Write the "
    "instruction alone, in one paragraph."
)
SHOWN = 10  # of the best candidates, as in OPRO
PLACE = "{reasoning}"


def with_place(instruction: str) -> str:
    """An instruction that says where the reasoning stands; behind it, where it says nothing."""
    text = instruction.strip()
    return text if PLACE in text else f"{text}\n\n{PLACE}"


def proposal(scores: Mapping[str, float], shown: int = SHOWN) -> str:
    """What the rewriter is asked for the next instruction: the best so far, the best of them last.

    Args:
        scores: of the instructions that were tried, larger is better.
        shown: how many of the best, at least 1.
    """
    best = sorted(scores, key=lambda instruction: scores[instruction])[-shown:]
    words = {instruction: instruction.replace(PLACE, "").strip() for instruction in best}
    lines = [f"Instruction: {words[one]}\nScore: {100 * scores[one]:.1f}" for one in best]
    return PROPOSAL.replace("{tried}", "\n\n".join(lines))


def opro(
    score: Callable[[str], float],
    propose: Callable[[Mapping[str, float], int], list[str]],
    first: str,
    rounds: int,
    samples: int,
) -> dict[str, float]:
    """Scores of all instructions that were tried (Yang et al. 2023, 2309.03409).

    Args:
        score: of an instruction, larger is better.
        propose: so many further instructions, from the scores of those that were tried.
        first: the instruction that is tried before any is proposed.
        rounds: of proposals.
        samples: proposals a round.

    Returns:
        A score each, in the order in which they were tried.
    """
    scores = {first: score(first)}
    for _ in range(rounds):
        for text in propose(scores, samples):
            candidate = with_place(text)
            if text.strip() and candidate not in scores:
                scores[candidate] = score(candidate)
    return scores


class InstructionSettings(ProxySettings):
    """`share`: how many of the answers are rewritten (0: no defence), which of them by `key` and
    prompt.

    `instruction`: what the rewriter is told (`{question}`, `{reasoning}`, `{answer}`). The search
    starts from it: `rounds` (0: none) of `samples` proposals, each scored by a copy of the proxy.
    """

    share: float = Field(1.0, ge=0, le=1)
    instruction: str = Field(INSTRUCTION, pattern=r"\{reasoning\}")
    rounds: int = Field(0, ge=0, le=1000)
    samples: int = Field(3, ge=1, le=1000)
    key: SecretKey = "rewrite"


class InstructionDefense(BaseDefense):
    """Has the reasoning of some answers rewritten by an instruction, and releases all without token
    ids and logprobs.
    """

    NAME = "release/rewrite"
    settings: InstructionSettings
    traits = Traits(
        acts_on="text",
        identity={"share": 0.0},
        strength=Strength("share", 0.0, 0.05, 1.0),
        keeps_answer=True,
        paper="Ma et al. 2026, 2602.15143",
        **BY_MODEL,
    )

    def __init__(
        self, settings: InstructionSettings, resources: ProviderResources = NO_RESOURCES
    ) -> None:
        super().__init__(settings, resources)
        if settings.rounds:
            needs = ("rewriter", "proxy", "traces")
            self.traits = replace(self.traits, learns=True, needs=needs)

    def __call__(self, model: Model) -> Model:
        return model if self.is_identity else self.rewriting(model, self.instruction)

    def rewriting(self, model: Model, instruction: str) -> RewrittenModel:
        """A model whose answers are rewritten by an instruction.

        Args:
            model: the teacher.
            instruction: a template with `{reasoning}`.

        Raises:
            BadInput: the provider has no rewriter.
        """
        parts, s = whole(self.resources.format), self.settings

        def divided(answer: Completion) -> list[Part]:
            return parts(answer) if is_edited(answer.prompt, s.key, s.share) else []

        return rewritten(model, self.resources, self.NAME, instruction, s.key, divided)

    @property
    def instruction(self) -> str:
        """The instruction of the settings, or else the one that the search found.

        Raises:
            BadInput: it has not searched yet.
        """
        if not self.settings.rounds:
            return self.settings.instruction
        if "instruction" not in self.resources.learned:
            raise BadInput(
                f"defense {self.NAME}: no instruction; let it learn one first, or set rounds to 0"
            )
        return bytes(self.resources.learned["instruction"].tolist()).decode()

    def learn(self, model: Model) -> Mapping[str, Tensor]:
        """`instruction`: the best candidate, as bytes of UTF-8; `scores` `[N]` of all, in the order
        in which they were tried.
        """
        if not self.traits.learns or self.is_identity:
            return {}
        s = self.settings
        scores = opro(self._score(model), self._propose, s.instruction, s.rounds, s.samples)
        best = max(scores, key=lambda instruction: scores[instruction])
        return {
            "instruction": torch.tensor([*best.encode()], dtype=torch.uint8),
            "scores": torch.tensor(list(scores.values()), dtype=torch.float64),
        }

    def _score(self, model: Model) -> Callable[[str], float]:
        """How little a proxy knows of held-out answers once it is tuned on the traces as an
        instruction has them rewritten.
        """
        proxy = scoring_proxy(self.resources, self.NAME)
        shown, held_out = split_traces(self.resources, self.NAME)

        def score(instruction: str) -> float:
            new = self.rewriting(model, instruction).rewrite(shown)
            return hurt(proxy, new, held_out, self.resources.format, self.settings)

        return score

    def _propose(self, scores: Mapping[str, float], samples: int) -> list[str]:
        """What the rewriter, sampled, makes of as many of the best as it can read."""
        rewriter = self.resources.rewriter
        assert rewriter is not None  # it has rewritten traces before
        texts = (proposal(scores, shown) for shown in range(SHOWN, 0, -1))
        text = next((text for text in texts if fits(rewriter, Prompt("proposal", text))), None)
        if text is None:
            raise BadInput(
                f"defense {self.NAME}: the rewriter's context of {rewriter.context:g} tokens holds "
                "no request for another instruction; take a longer one, or set rounds to 0"
            )
        prompts = [Prompt("proposal", text, attempt=attempt) for attempt in range(samples)]
        seed = int(uniform(self.settings.key, "proposals", text) * 2**31)
        sampled: LanguageModel = replace(rewriter, temperature=1.0)
        answers = sampled.generate(prompts, seed=seed, interface=Interface())
        return [answer.text for answer in answers]


OPRO: Literal["opro"] = "opro"
SUBSTITUTED = 0.1


class Settings(InstructionSettings):
    __doc__ = f"""{InstructionSettings.__doc__}

    `search`: by what rewriting is made worse to learn from; `gradient` substitutes tokens of each
    answer, with no rewriter and no instruction: a share `substituted` of its reasoning at most,
    each the best of `samples` that rank first.
    """

    # Not written where they are as ever: addresses of before are those of today.
    search: Literal["opro", "gradient"] = Field(OPRO, exclude_if=lambda value: value == OPRO)
    substituted: float = Field(
        SUBSTITUTED, gt=0, le=1, exclude_if=lambda value: value == SUBSTITUTED
    )

    @model_validator(mode="after")
    def _check_rounds(self) -> Self:
        if self.search == "gradient" and self.rounds:
            raise ValueError("rounds are of instructions, and search: gradient has none; set it 0")
        return self


class Defense(InstructionDefense):
    """Has the reasoning of some answers rewritten by an instruction, or its tokens substituted, and
    releases all without token ids and logprobs.
    """

    settings: Settings

    def __init__(self, settings: Settings, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        if self.by_gradient:
            self.traits = replace(self.traits, learns=True, needs=("proxy", "traces"))

    @property
    def by_gradient(self) -> bool:
        """Whether it substitutes tokens, in place of having a rewriter write."""
        return self.settings.search == "gradient"

    def __call__(self, model: Model) -> Model:
        if self.is_identity or not self.by_gradient:
            return super().__call__(model)
        s = self.settings
        substitute = substitution(self.resources, self.NAME, s.substituted, s.samples)

        def edit(answer: Completion) -> Completion:
            if is_edited(answer.prompt, s.key, s.share):
                return substitute(answer)
            return replace(answer, token_ids=(), logprobs=None)

        return EditedModel(model, edit, keeps_logprobs=False)

    def learn(self, model: Model) -> Mapping[str, Tensor]:
        """With `search: gradient`, the direction by the proxy's parameter names, float32, and the
        gradient's norm as `gradient_norm`; else as the search for an instruction does.
        """
        if self.is_identity or not self.by_gradient:
            return super().learn(model)
        return held_out_direction(self.resources, self.NAME, self.settings.batch_size)
