"""GRPO on a verifiable reward: the student's own answers, the right ones of a group made likelier, the others less.

Shao et al. 2024 (2402.03300): the advantage of answer i of a group is (r_i - mean r) / sd r, and groups without a
difference teach nothing. Each round is one pass over freshly sampled groups, so that the ratio to the sampling policy
is 1 where its gradient is taken and clipping has nothing to clip; there is no KL term (as in later recipes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from distill.answers import Answer
from distill.attackers import Base, Own, Part, sft
from distill.attackers.follow import copied, joined, questions, sampled
from distill.models import LanguageModel
from distill.student import StudentSettings, Trained, train


def advantages(rewards_GK: np.ndarray) -> np.ndarray:
    """(r - mean) / standard deviation over each group of K answers; 0 where all are alike."""
    spread_G1 = rewards_GK.std(1, keepdims=True)
    centred_GK = rewards_GK - rewards_GK.mean(1, keepdims=True)
    return np.divide(centred_GK, spread_G1, out=np.zeros_like(centred_GK), where=spread_G1 > 0)


class Settings(Part):
    """`rate` is times the recipe's learning rate; a round's batches hold `recipe.batch_size` answers."""

    rounds: int = Field(4, ge=1)
    samples: int = Field(4, ge=2)
    temperature: float = Field(1.0, gt=0)
    rate: float = Field(0.02, gt=0)


class Attacker(Base):
    needs = ("check", "worked")
    paper = "Shao et al. 2024, 2402.03300"

    def follow(self, model: LanguageModel, recipe: StudentSettings, own: Own, *, seed: int) -> Trained:
        """Rounds of policy gradient; one in which every group agrees with itself changes nothing."""
        s, here, done = self.settings, copied(model), [Trained(copied(model).network)]
        assert own.check is not None
        for turn in range(s.rounds):
            said = sampled(here, questions(own), s.samples, s.temperature, seed + turn)
            rewards = np.array([own.check(one) for one in said], float).reshape(-1, s.samples)
            done.append(self._pass(here, said, advantages(rewards).ravel(), recipe, seed + turn))
        return joined([done[0], *(one for one in done[1:] if one.positions)])

    def _pass(self, here: LanguageModel, said: Sequence[Answer], gains: np.ndarray, recipe: StudentSettings, seed: int
              ) -> Trained:  # fmt: skip
        examples = [
            replace(sft.example(one, here.tokenizer, recipe.max_length), weight=float(gain))
            for one, gain in zip(said, gains, strict=True) if gain
        ]  # fmt: skip
        if not examples:
            return Trained(here.network)
        steps = -(-len(examples) // recipe.batch_size)
        rate = self.settings.rate * recipe.learning_rate
        once = recipe.model_copy(update={"steps": steps, "learning_rate": rate, "warmup": 0.0})
        return train(here.network, examples, once, seed=seed, pad=here.tokenizer.pad_token_id)
