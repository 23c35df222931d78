"""Perturbed sampling: with probability eps, the next token is one that the provider picked.

The token is drawn from (1 - eps) p + eps e_j, where j is keyed-random (the random control of prediction poisoning,
Orekondy et al. 2020; Mazeika et al. 2022, there with eps/2) or adversarial, the least likely token under p.
The L1 distance to p is 2 eps (1 - p_j), so never above 2 eps, and reaches that bound where j had no mass.
Axes: B rows, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from defenses import Base, Knob, Part, with_scores
from distill.models import Model, Step, uniform


def mixture(logprobs_BV: Tensor, tokens_B: Tensor, eps: float) -> Tensor:
    """log((1 - eps) p + eps e_token) in nats, a row each; L1 to p is 2 eps (1 - p_token); eps 0 is p itself."""
    if eps == 0:
        return logprobs_BV
    added = torch.tensor(eps, dtype=torch.float64)
    scaled_BV = logprobs_BV + (-added).log1p()
    kept_B1 = scaled_BV.gather(-1, tokens_B[:, None])
    return scaled_BV.scatter(-1, tokens_B[:, None], torch.logaddexp(kept_B1, added.log().to(kept_B1)))


def random_tokens(uniforms_B: Tensor, size: int) -> Tensor:
    """One of `size` token ids a row, by a number in [0, 1)."""
    return (uniforms_B * size).long()


def least_likely(logprobs_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """The least likely token id of each row; among equals, the one that a number in [0, 1) points at."""
    # Greedy decoding leaves one token with mass and all others equal, so this choice is the rule and not the exception.
    ranks_BV = (logprobs_BV == logprobs_BV.amin(-1, keepdim=True)).cumsum(-1)
    wanted_B = (uniforms_B * ranks_BV[:, -1]).long()
    return (ranks_BV <= wanted_B[:, None]).sum(-1)


class Settings(Part):
    """`eps`: probability of the provider's token (0: no defence); `token`: which one it is; `key`: the provider's."""

    eps: float = Field(0.1, ge=0, le=1)
    token: Literal["random", "adversarial"] = "random"
    key: str = "perturbed"


class Defense(Base):
    """Mixes a keyed token into every next-token distribution."""

    point = "decoding"
    scores = True
    identity = {"eps": 0.0}
    knob = Knob("eps", 0.0, 1e-3, 1.0, log=True)
    paper = "Orekondy et al. 2020; Mazeika et al. 2022 (the random control)"

    def __call__(self, model: Model) -> Model:
        scored = with_scores(model, "decoding/perturbed")
        if self.off:  # an edit, even one that does nothing, would turn greedy ties into draws
            return scored
        # Networks may have more rows than their tokenizer has tokens; the rows beyond it spell nothing.
        size = len(scored.tokenizer)
        return replace(scored, edits=(*scored.edits, lambda step, logprobs_BV: self.edit(step, logprobs_BV, size)))

    def edit(self, step: Step, logprobs_BV: Tensor, size: int) -> Tensor:
        """Mix one of the first `size` tokens into each row."""
        numbers = [uniform(self.settings.key, "perturbed", key, step.index) for key in step.keys]
        uniforms_B = torch.tensor(numbers, dtype=torch.float64, device=logprobs_BV.device)
        if self.settings.token == "random":
            tokens_B = random_tokens(uniforms_B, size)
        else:
            tokens_B = least_likely(logprobs_BV[:, :size], uniforms_B)
        return mixture(logprobs_BV, tokens_B, self.settings.eps)
