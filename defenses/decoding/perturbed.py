"""Perturbed sampling: with probability eps, the next token is one that the provider picked, within
budgets.

The token is drawn from (1 - eps) p + eps e_j, where j is keyed-random (the random control of
prediction poisoning, Orekondy et al. 2020; Mazeika et al. 2022, there with eps/2) or adversarial,
the least likely token under p. The L1 distance to p is 2 eps (1 - p_j), so never above 2 eps, and
reaches that bound where j had no mass.

An edit at L1 distance d changes the token that is drawn with probability d/2 at most (maximal
coupling). So a budget of flips an answer is one on the sum of d/2 along what was said: where it
would run out, eps shrinks, and then is 0. Axes: B rows, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from defenses import (
    BaseDefense,
    DefenseSettings,
    SecretKey,
    Strength,
    Traits,
    require_language_model,
)
from distill.generation import DecodingStep, uniform
from distill.models import Model


def mixture(logprobs_BV: Tensor, tokens_B: Tensor, eps: float | Tensor) -> Tensor:
    """log((1 - eps) p + eps e_token) in nats, an eps a row or one for all; L1 to p is 2 eps (1 -
    p_token).

    Args:
        logprobs_BV: natural-log probabilities, a row a text.
        tokens_B: the token that each row moves to.
        eps: share that moves, one number or `[B]`.

    Returns:
        Log-probabilities `[B, V]`.
    """
    added_B1 = torch.as_tensor(eps, dtype=torch.float64, device=logprobs_BV.device).expand(
        len(tokens_B)
    )[:, None]
    scaled_BV = logprobs_BV + (-added_B1).log1p().to(logprobs_BV)
    token_B1 = scaled_BV.gather(-1, tokens_B[:, None])
    return scaled_BV.scatter(
        -1, tokens_B[:, None], torch.logaddexp(token_B1, added_B1.log().to(token_B1))
    )


def within(eps: float, others_B: Tensor, l1_B: Tensor) -> Tensor:
    """The largest eps a row, up to `eps`, with L1 within `l1`; all tokens but the picked one hold
    `others`.

    Args:
        eps: the most.
        others_B: probability of all tokens but the picked one.
        l1_B: budget of each row.

    Returns:
        Shares `[B]`.
    """
    return (l1_B / (2 * others_B).clamp(min=1e-30)).clamp(max=eps)


def random_tokens(uniforms_B: Tensor, size: int) -> Tensor:
    """A token id a row `[B]`, all equally likely.

    Args:
        uniforms_B: numbers in [0, 1).
        size: of the vocabulary.
    """
    return (uniforms_B * size).long()


def least_likely(logprobs_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """The least likely token id of each row `[B]`; among equals, the one that a number in [0, 1)
    points at.

    Args:
        logprobs_BV: log-distributions.
        uniforms_B: numbers in [0, 1).
    """
    # Greedy decoding leaves one token with mass and all others equal, so this choice is the rule
    # and not the exception.
    ranks_BV = (logprobs_BV == logprobs_BV.amin(-1, keepdim=True)).cumsum(-1)
    wanted_B = (uniforms_B * ranks_BV[:, -1]).long()
    return (ranks_BV <= wanted_B[:, None]).sum(-1)


class Settings(DefenseSettings):
    """`eps`: probability of the provider's token (0: no defence); `token`: which one it is; `key`:
    the provider's.

    Budgets, None for none: `l1` a token, `flips` an answer, the expected number of tokens that come
    out differently.
    """

    eps: float = Field(0.1, ge=0, le=1)
    token: Literal["random", "adversarial"] = "random"
    l1: float | None = Field(None, ge=0, le=2)
    flips: float | None = Field(None, ge=0)
    key: SecretKey = "perturbed"


class Defense(BaseDefense):
    """Mixes a keyed token into every next-token distribution."""

    settings: Settings
    traits = Traits(
        acts_on="decoding",
        identity={"eps": 0.0},
        strength=Strength("eps", 0.0, 1e-4, 1.0, log=True),
        requires_logits=True,
        paper="Orekondy et al. 2020; Mazeika et al. 2022 (the random control)",
    )

    def __call__(self, model: Model) -> Model:
        scored = require_language_model(model, "decoding/perturbed")
        if (
            self.is_identity
        ):  # an edit, even one that does nothing, would turn greedy ties into draws
            return scored
        # Networks may have more rows than their tokenizer has tokens; the rows beyond it spell
        # nothing.
        size, spending = len(scored.tokenizer), object()

        def edit(step: DecodingStep, logprobs_BV: Tensor) -> Tensor:
            # A step edits the sampled distribution first and then, at most, the released one, from
            # which nothing is drawn: it gets the token that the first got, with what the first had
            # left to spend, and spends nothing.
            index, tokens_B, before_B, after_B = step.memory.get(spending, (-1, None, None, 0.0))
            first = index < step.index
            if first:
                tokens_B, before_B = self.tokens(step, logprobs_BV[:, :size]), after_B
            others_B = 1 - logprobs_BV.gather(-1, tokens_B[:, None])[:, 0].double().exp()
            eps_B = within(
                self.settings.eps, others_B, self.budget(before_B + torch.zeros_like(others_B))
            )
            if first:
                step.memory[spending] = step.index, tokens_B, before_B, before_B + eps_B * others_B
            return mixture(logprobs_BV, tokens_B, eps_B)

        return replace(scored, edits=(*scored.edits, edit))

    def tokens(self, step: DecodingStep, logprobs_BV: Tensor) -> Tensor:
        """The provider's token of each row.

        Args:
            step: whose keys and place the randomness is a function of.
            logprobs_BV: of the teacher.

        Returns:
            Token ids `[B]`.
        """
        numbers = [uniform(self.settings.key, "perturbed", key, step.index) for key in step.keys]
        uniforms_B = torch.tensor(numbers, dtype=torch.float64, device=logprobs_BV.device)
        if self.settings.token == "random":
            return random_tokens(uniforms_B, logprobs_BV.shape[-1])
        return least_likely(logprobs_BV, uniforms_B)

    def budget(self, spent_B: Tensor) -> Tensor:
        """The L1 distance that a row may go at a step, of whose answer so many expected flips are
        spent.

        Args:
            spent_B: expected flips so far, of each answer.

        Returns:
            `[B]`; infinite where nothing bounds it.
        """
        token = torch.full_like(
            spent_B, torch.inf if self.settings.l1 is None else self.settings.l1
        )
        return (
            token
            if self.settings.flips is None
            else torch.minimum(token, 2 * (self.settings.flips - spent_B))
        )
