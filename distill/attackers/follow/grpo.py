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
from typing import Any, NamedTuple

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
from distill.seeds import derived_seed
from distill.specs import TrainingConfig
from distill.trainer import Trained, train


def advantages(rewards_GK: np.ndarray) -> np.ndarray:
    """(r - mean) / standard deviation over each group of K answers; 0 where all are alike.

    Args:
        rewards_GK: G groups of K answers each, any unit.

    Returns:
        `[G, K]`, in standard deviations of the group.
    """
    spread_G1 = rewards_GK.std(1, keepdims=True)
    centred_GK = rewards_GK - rewards_GK.mean(1, keepdims=True)
    out_GK: np.ndarray = np.zeros_like(centred_GK)
    np.divide(centred_GK, spread_G1, out=out_GK, where=spread_G1 > 0)
    return out_GK


def surrogate(now_N: Tensor, old_N: Tensor, gains_N: Tensor, clip: float) -> Tensor:
    """min(ratio x gain, clipped ratio x gain) of each token `[N]`, ratio = e**(now - old), clipped
    to 1 +- `clip`: PPO's (1707.06347, eq. 7), as GRPO has it (2402.03300).

    Args:
        now_N: log-probabilities under the network that moves.
        old_N: the same when the answers were drawn.
        gains_N: advantage of each token's answer.
        clip: epsilon.
    """
    ratio_N = (now_N - old_N).exp()
    return torch.minimum(ratio_N * gains_N, ratio_N.clamp(1 - clip, 1 + clip) * gains_N)


def kl(now_N: Tensor, start_N: Tensor) -> Tensor:
    """e**(start - now) - (start - now) - 1 of each token `[N]`, at least 0; its mean over draws is
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
            turn_seed = derived_seed("grpo", seed, turn)
            completions = sample_completions(
                student, questions(resources), s.samples, s.temperature, turn_seed
            )
            rewards = np.array([resources.check(one) for one in completions], float).reshape(
                -1, s.samples
            )
            gains = advantages(rewards).ravel()
            policy = Policy(s.steps, s.rate, s.clip, s.kl)
            trainings.append(
                policy_pass(student, start, completions, gains, recipe, policy, seed=turn_seed)
            )
        return join_trainings(trainings)


class Policy(NamedTuple):
    """What a pass of policy gradient is told: its most steps, the share of the recipe's learning
    rate, how its ratio is clipped, and the weight of KL.
    """

    steps: int
    rate: float
    clip: float
    kl: float


def policy_pass(
    student: LanguageModel,
    start: Any,
    completions: Sequence[Completion],
    gains: np.ndarray,
    recipe: TrainingConfig,
    policy: Policy,
    *,
    seed: int,
) -> Trained:
    """One pass over answers that a student has drawn, in place.

    Args:
        student: changed in place.
        start: the network that KL is to.
        completions: of the student.
        gains: the advantage of each `[completions]`; those of 0 teach nothing.
        recipe: of the student.
        policy: how it learns from them.
        seed: of the order.
    """
    pad = student.tokenizer.pad_token_id
    examples = [
        [replace(sft.example(one, student.tokenizer, recipe.max_length), weight=float(gain))]
        for one, gain in zip(completions, gains, strict=True)
        if gain
    ]
    networks = [student.network, start] if policy.kl else [student.network]
    scored = with_reference_logprobs(examples, networks, pad)
    if not scored:
        return Trained(student.network)
    steps = min(policy.steps, -(-len(scored) // recipe.batch_size))
    rate = policy.rate * recipe.learning_rate
    once = recipe.model_copy(update={"steps": steps, "learning_rate": rate, "warmup": 0.0})

    def loss(network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
        return policy_loss(network, rows, pad, device, policy)

    return train(student.network, scored, once, seed=seed, pad=pad, loss=loss, per="example")


def policy_loss(
    network: Any, rows: list[Example], pad: int, device: torch.device, policy: Policy
) -> Tensor:
    """The clipped surrogate of answers with their advantage as weight, less KL: a mean over each
    answer's tokens and then over answers.

    Args:
        network: that learns.
        rows: as `with_reference_logprobs` left them.
        pad: id behind the shorter ones.
        device: of the network.
        policy: whose `clip` and `kl` count.

    Returns:
        `[]`, to be made small.
    """
    held_NA = reference_logprobs(rows, device)
    now_N, row_N = token_logprobs(network, rows, pad, device)
    gains_N = torch.tensor([one.weight for one in rows], device=device)[row_N]
    gained_N = surrogate(now_N, held_NA[:, 0], gains_N, policy.clip)
    if policy.kl:
        gained_N = gained_N - policy.kl * kl(now_N, held_NA[:, 1])
    return -means(gained_N, row_N, len(rows)).mean()
