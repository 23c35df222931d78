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
from distill.attackers._policy import (
    means,
    reference_logprobs,
    token_logprobs,
    with_reference_logprobs,
)
from distill.attackers.follow import copy_model, join_trainings, questions, sample_completions
from distill.completions import Completion
from distill.models import LanguageModel
from distill.objectives import Example
from distill.specs import TrainingConfig
from distill.trainer import Trained, train


def advantages(rewards_GK: np.ndarray) -> np.ndarray:
    """(r - mean) / standard deviation over each group of K answers; 0 where all are alike."""
    spread_G1 = rewards_GK.std(1, keepdims=True)
    centred_GK = rewards_GK - rewards_GK.mean(1, keepdims=True)
    out_GK: np.ndarray = np.zeros_like(centred_GK)
    np.divide(centred_GK, spread_G1, out=out_GK, where=spread_G1 > 0)
    return out_GK


def surrogate(now_N: Tensor, old_N: Tensor, gains_N: Tensor, clip: float) -> Tensor:
    """min(ratio x gain, clipped ratio x gain) of each token (N), ratio = e**(now - old), clipped to
    1 +- `clip`: PPO's (1707.06347, eq. 7), as GRPO has it (2402.03300).

    Args:
        now_N: log-probabilities under the network that moves.
        old_N: the same when the answers were drawn.
        gains_N: advantage of each token's answer.
        clip: epsilon.
    """
    ratio_N = (now_N - old_N).exp()
    return torch.minimum(ratio_N * gains_N, ratio_N.clamp(1 - clip, 1 + clip) * gains_N)


def kl(now_N: Tensor, start_N: Tensor) -> Tensor:
    """e**(start - now) - (start - now) - 1 of each token (N), at least 0; its mean over draws is
    KL(now || start) (2402.03300, eq. 4).

    Args:
        now_N: log-probabilities under the network that moves.
        start_N: the same under the one that it began as.
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

    def steps(self, recipe: TrainingConfig) -> int:
        """The most of all rounds; groups without a difference make them fewer."""
        return int(self.settings.rounds * self.settings.steps)

    def follow(
        self,
        model: LanguageModel,
        recipe: TrainingConfig,
        resources: AttackerResources,
        *,
        seed: int,
    ) -> Trained:
        """Rounds of policy gradient; one in which every group agrees with itself
        changes nothing.
        """
        s, student, start = self.settings, copy_model(model), copy_model(model).network
        trainings = [Trained(student.network)]
        assert resources.check is not None
        for turn in range(s.rounds):
            completions = sample_completions(
                student, questions(resources), s.samples, s.temperature, seed + turn
            )
            rewards = np.array([resources.check(one) for one in completions], float).reshape(
                -1, s.samples
            )
            trainings.append(
                self._pass(
                    student, start, completions, advantages(rewards).ravel(), recipe, seed + turn
                )
            )
        return join_trainings(trainings)

    def _pass(
        self,
        student: LanguageModel,
        start: Any,
        completions: Sequence[Completion],
        gains: np.ndarray,
        recipe: TrainingConfig,
        seed: int,
    ) -> Trained:
        s, pad = self.settings, student.tokenizer.pad_token_id
        examples = [
            [replace(sft.example(one, student.tokenizer, recipe.max_length), weight=float(gain))]
            for one, gain in zip(completions, gains, strict=True)
            if gain
        ]
        scored = with_reference_logprobs(
            examples, [student.network, start] if s.kl else [student.network], pad
        )
        if not scored:
            return Trained(student.network)
        steps = min(s.steps, -(-len(scored) // recipe.batch_size))
        once = recipe.model_copy(
            update={"steps": steps, "learning_rate": s.rate * recipe.learning_rate, "warmup": 0.0}
        )
        return train(
            student.network, scored, once, seed=seed, pad=pad, loss=self._loss, per="example"
        )

    def _loss(self, network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
        s, held_NA = self.settings, reference_logprobs(rows, device)
        now_N, row_N = token_logprobs(network, rows, pad, device)
        gains_N = torch.tensor([one.weight for one in rows], device=device)[row_N]
        gained_N = surrogate(now_N, held_NA[:, 0], gains_N, s.clip)
        if s.kl:
            gained_N = gained_N - s.kl * kl(now_N, held_NA[:, 1])
        return -means(gained_N, row_N, len(rows)).mean()
