"""GRPO on a verifiable reward: the student's own answers, the right ones of a group made likelier,
the others less.

Shao et al. 2024 (2402.03300), equation 3: the advantage of answer i of a group is (r_i - mean r) /
sd r, the same for all of its tokens, and groups without a difference teach nothing. A round is one
pass over freshly sampled groups; all its steps but the first are taken by a student that is no
longer the one that was sampled, hence the ratio of the two, clipped. The loss is a mean over each
answer's tokens and then over answers. The KL term to the student that was given is off unless asked
for, as in later recipes; it is the paper's unbiased estimator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from distill.attackers import AttackerResources, Base, Part, sft
from distill.attackers._policy import means, recalled, remembered, spoken
from distill.attackers.follow import copied, joined, questions, sampled
from distill.completions import Completion
from distill.models import LanguageModel
from distill.student import Example, StudentSettings, Trained, train


def advantages(rewards_GK: np.ndarray) -> np.ndarray:
    """(r - mean) / standard deviation over each group of K answers; 0 where all are alike."""
    spread_G1 = rewards_GK.std(1, keepdims=True)
    centred_GK = rewards_GK - rewards_GK.mean(1, keepdims=True)
    return np.divide(centred_GK, spread_G1, out=np.zeros_like(centred_GK), where=spread_G1 > 0)


def surrogate(now_N: Tensor, old_N: Tensor, gains_N: Tensor, clip: float) -> Tensor:
    """min(ratio x gain, clipped ratio x gain) of each token (N), ratio = e**(now - old), clipped to
    1 +- `clip`.
    """
    ratio_N = (now_N - old_N).exp()
    return torch.minimum(ratio_N * gains_N, ratio_N.clamp(1 - clip, 1 + clip) * gains_N)


def kl(now_N: Tensor, start_N: Tensor) -> Tensor:
    """e**(start - now) - (start - now) - 1 of each token (N), at least 0; its mean over draws is
    KL(now || start).
    """
    gap_N = start_N - now_N
    return gap_N.exp() - gap_N - 1


class Settings(Part):
    """`rate` is times the recipe's learning rate; a round's batches hold `recipe.batch_size`
    answers.

    A round is one pass over what was sampled for it, or `steps` batches of it where there are more.
    """

    rounds: int = Field(4, ge=1, le=1000)
    samples: int = Field(4, ge=2, le=1000)
    temperature: float = Field(1.0, gt=0)
    steps: int = Field(250, ge=1, le=1_000_000)
    rate: float = Field(0.02, gt=0)
    clip: float = Field(0.2, gt=0, lt=1)
    kl: float = Field(0.0, ge=0)


class Attacker(Base):
    needs = ("check", "worked")
    paper = "Shao et al. 2024, 2402.03300"

    def steps(self, recipe: StudentSettings) -> int:
        """The most of all rounds; groups without a difference make them fewer."""
        return int(self.settings.rounds * self.settings.steps)

    def follow(
        self, model: LanguageModel, recipe: StudentSettings, own: AttackerResources, *, seed: int
    ) -> Trained:
        """Rounds of policy gradient; one in which every group agrees with itself
        changes nothing.
        """
        s, here, start = self.settings, copied(model), copied(model).network
        done = [Trained(here.network)]
        assert own.check is not None
        for turn in range(s.rounds):
            said = sampled(here, questions(own), s.samples, s.temperature, seed + turn)
            rewards = np.array([own.check(one) for one in said], float).reshape(-1, s.samples)
            done.append(
                self._pass(here, start, said, advantages(rewards).ravel(), recipe, seed + turn)
            )
        return joined(done)

    def _pass(
        self,
        here: LanguageModel,
        start: Any,
        said: Sequence[Completion],
        gains: np.ndarray,
        recipe: StudentSettings,
        seed: int,
    ) -> Trained:
        s, pad = self.settings, here.tokenizer.pad_token_id
        examples = [
            [replace(sft.example(one, here.tokenizer, recipe.max_length), weight=float(gain))]
            for one, gain in zip(said, gains, strict=True)
            if gain
        ]
        known = remembered(examples, [here.network, start] if s.kl else [here.network], pad)
        if not known:
            return Trained(here.network)
        steps = min(s.steps, -(-len(known) // recipe.batch_size))
        once = recipe.model_copy(
            update={"steps": steps, "learning_rate": s.rate * recipe.learning_rate, "warmup": 0.0}
        )
        return train(here.network, known, once, seed=seed, pad=pad, loss=self._loss)

    def _loss(self, network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
        s, held_NA = self.settings, recalled(rows, device)
        now_N, row_N = spoken(network, rows, pad, device)
        gains_N = torch.tensor([one.weight for one in rows], device=device)[row_N]
        gained_N = surrogate(now_N, held_NA[:, 0], gains_N, s.clip)
        if s.kl:
            gained_N = gained_N - s.kl * kl(now_N, held_NA[:, 1])
        return -means(gained_N, row_N, len(rows)).mean()
