"""Generative adversarial distillation: the student's own answers are made likelier by how much they
look like the teacher's to a discriminator that learns beside it.

Ye et al. 2025 (2511.10643): the discriminator is a language model with one number for a whole
answer, trained so that a sold answer scores above the student's own (Bradley and Terry 1952); the
number is the reward of policy gradient on groups of the student's answers, as in GRPO; both go on
in turns, behind a warm-up of fine-tuning on sold answers. Here the discriminator is a model of the
student's kind, pretrained where that is, and a turn is a pass over answers to all questions and not
over a batch of them. No code was copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from distill.attackers import NOTHING, AttackerResources, Base, Part, sft
from distill.attackers.clean import groups
from distill.attackers.follow import copy_model, join_trainings, sample_completions
from distill.attackers.follow.grpo import Policy, advantages, policy_pass
from distill.completions import Completion
from distill.models import LanguageModel
from distill.objectives import Example
from distill.seeds import derived_seed
from distill.specs import TrainingConfig
from distill.trainer import Trained


class Discriminator(nn.Module):
    """A language model's decoder with one number for a whole answer, read off its last token.

    Args:
        network: a causal language model of transformers; changed as it learns.
        seed: of the number's weights.
    """

    def __init__(self, network: Any, seed: int) -> None:
        super().__init__()
        self.decoder = network.get_decoder()
        width = network.config.get_text_config().hidden_size
        weights = torch.randn(width, generator=torch.Generator().manual_seed(seed)) / width**0.5
        self.weights = nn.Parameter(weights.to(network.device))

    def forward(self, rows: Sequence[Example], pad: int) -> Tensor:
        """The number of each of B answers to their prompts `[B]`, any real one.

        Args:
            rows: with at least one answer token each.
            pad: id behind the shorter ones.
        """
        ids = [row.prompt_ids + row.answer_ids for row in rows]
        width = max(map(len, ids))
        padded = [one + [pad] * (width - len(one)) for one in ids]
        tokens_BT = torch.tensor(padded, device=self.weights.device)
        # Causal attention never looks right, so right padding needs no mask.
        states_BTH = self.decoder(input_ids=tokens_BT, use_cache=False).last_hidden_state
        last_B = torch.tensor([len(one) - 1 for one in ids], device=self.weights.device)
        states_BH = states_BTH[torch.arange(len(ids), device=self.weights.device), last_B]
        number_B: Tensor = states_BH.float() @ self.weights
        return number_B


def ranking_loss(sold_B: Tensor, drawn_B: Tensor) -> Tensor:
    """-log of the chance that a sold answer is ranked above the student's (Bradley and Terry), a
    mean over pairs `[]`, in nats.

    Args:
        sold_B: numbers of sold answers.
        drawn_B: numbers of the student's answers to the same questions.
    """
    return -functional.logsigmoid(sold_B - drawn_B).mean()


class Settings(Part):
    """`first`: share of the steps on sold answers; `rounds`: turns of discriminator and student;
    `samples`: the student's answers a question and round, at `temperature`; `judged`: steps of the
    discriminator a round; `rate`: of the student's policy gradient, times the recipe's learning
    rate; `clip`, `kl`: as in GRPO.
    """

    first: float = Field(0.8, gt=0, lt=1)
    rounds: int = Field(4, ge=1, le=1000)
    samples: int = Field(4, ge=2, le=1000)
    temperature: float = Field(1.0, gt=0)
    judged: int = Field(50, ge=1, le=1_000_000)
    rate: float = Field(0.02, gt=0)
    clip: float = Field(0.2, gt=0, lt=1)
    kl: float = Field(0.001, ge=0)


class Attacker(Base):
    needs = ("fresh",)
    paper = "Ye et al. 2025, 2511.10643"

    def train(
        self,
        completions: Sequence[Completion],
        model: LanguageModel,
        recipe: TrainingConfig,
        *,
        seed: int,
        resources: AttackerResources = NOTHING,
        checkpoint: Path | None = None,
    ) -> Trained:
        """Sold answers first, then rounds of discriminator and student, the recipe's steps in all
        at most: answers that score alike teach nothing.
        """
        s, sold = self.settings, [group[0] for group in groups(completions)]
        first = max(1, round(s.first * recipe.steps))
        begun = sft.Attacker(sft.Settings()).train(
            completions, model, recipe.model_copy(update={"steps": first}), seed=seed
        )
        student = replace(model, network=begun.network)
        start = copy_model(student).network
        assert resources.fresh is not None
        judge = Judge(Discriminator(resources.fresh(seed).network, seed), student, recipe)
        policy = Policy(max(1, (recipe.steps - first) // s.rounds), s.rate, s.clip, s.kl)
        trainings = [begun]
        for turn in range(s.rounds):
            turn_seed = derived_seed("gad", seed, turn)
            drawn = sample_completions(student, sold, s.samples, s.temperature, turn_seed)
            judge.learn(sold, drawn, s.judged, turn_seed)
            gains = advantages(judge.scores(drawn).reshape(-1, s.samples)).ravel()
            trainings.append(
                policy_pass(student, start, drawn, gains, recipe, policy, seed=turn_seed)
            )
        return join_trainings(trainings)


class Judge:
    """A discriminator in training, and how it reads answers.

    Args:
        discriminator: changed as it learns.
        student: whose tokens it reads.
        recipe: of the student; its learning rate and batch are the discriminator's.
    """

    def __init__(
        self, discriminator: Discriminator, student: LanguageModel, recipe: TrainingConfig
    ) -> None:
        self.discriminator, self.student, self.recipe = discriminator, student, recipe
        rate = recipe.learning_rate / 10  # of AdamW, where the recipe's may be Muon's
        self.optimizer = torch.optim.AdamW(discriminator.parameters(), lr=rate)

    def learn(
        self, sold: Sequence[Completion], drawn: Sequence[Completion], steps: int, seed: int
    ) -> None:
        """Steps on pairs of a sold answer and one that the student has drawn for its question.

        Args:
            sold: an answer a question.
            drawn: as many answers to each question, one behind the other.
            steps: of the optimiser.
            seed: of which pairs are drawn.
        """
        samples, rng = len(drawn) // len(sold), np.random.default_rng([seed, 7])
        self.discriminator.train()
        for _ in range(steps):
            places = rng.integers(len(drawn), size=max(1, self.recipe.batch_size // 2))
            pairs = [(sold[place // samples], drawn[place]) for place in places]
            rows = self._rows([one for pair in zip(*pairs, strict=True) for one in pair])
            scores_2B = self.discriminator(rows, self.student.tokenizer.pad_token_id)
            loss = ranking_loss(*scores_2B.view(2, -1))
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.recipe.clip)
            self.optimizer.step()

    @torch.inference_mode()
    def scores(self, answers: Sequence[Completion], size: int = 64) -> np.ndarray:
        """The number of each answer `[answers]`, float64.

        Args:
            answers: of anybody.
            size: rows that are scored together.
        """
        self.discriminator.eval()
        rows, pad = self._rows(answers), self.student.tokenizer.pad_token_id
        parts = [
            self.discriminator(rows[start : start + size], pad).cpu().numpy()
            for start in range(0, len(rows), size)
        ]
        return np.concatenate(parts).astype(float)

    def _rows(self, answers: Sequence[Completion]) -> list[Example]:
        """Answers as token ids; one of which nothing is left is its end alone."""
        rows = []
        for answer in answers:
            row = sft.example(answer, self.student.tokenizer, self.recipe.max_length)
            end = [self.student.tokenizer.eos_token_id]
            rows.append(row if row.answer_ids else replace(row, answer_ids=end))
        return rows
