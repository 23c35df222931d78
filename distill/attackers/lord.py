"""LoRD: the student's own answers that training has made likelier are preferred to those it has
made less likely.

Locality Reinforced Distillation (Liang et al. 2024, 2409.02718), text alone, variant VI. In
periods: two answers y1, y2 to every question are sampled from the student as the last period left
it. Another period later delta_i = log P_t(y_i) - log P_{t-1}(y_i) says which of them learning has
moved towards the teacher; y+ is the one with the larger delta, unless it is neither likely (P below
`tau`) nor gained (delta below `tau_delta`): then the sold answer stands for it. The loss of a
question is sigmoid(-m(sold) - m(y+) + 2 m(y-)), m the mean log-probability of a token. In the first
period there is no delta and the sold answer is y+.

What differs: P is the geometric mean over tokens, before and after. The released code
(train_pod2.py, where variant VI has this loss) takes the difference of P and not of log P, of an
arithmetic mean before and a geometric one after, and swaps by P_t and not by delta. Its m is the
mean over prompt, answer and padding; here it is over the answer's tokens and its end. A student
that starts untrained has nothing to say, so a share of the steps is fine-tuning; every period
covers all questions. Where y- is the sold answer, word for word, the loss would make it unlikely,
so such a question is left out: with one right answer and a student that often finds it, what the
paper does unlearns it. A period in which all are left out has no steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from distill.attackers import NOTHING, AttackerResources, Base, Part, sft
from distill.attackers._policy import means, token_logprobs, with_reference_logprobs
from distill.attackers.clean import groups
from distill.attackers.follow import join_trainings, sample_completions
from distill.completions import Completion
from distill.models import LanguageModel
from distill.objectives import Example
from distill.seeds import derived_seed
from distill.specs import TrainingConfig
from distill.trainer import Trained, train


def order(
    before: Sequence[float], now: Sequence[float], tau: float, tau_delta: float
) -> tuple[int | None, int]:
    """Which of two answers is y+ (None: the sold one) and which y-, from their mean
    log-probabilities a token.

    Args:
        before: of the two answers, under the student of the period before.
        now: of the two, under the student.
        tau: probability from which the better one is taken as it is.
        tau_delta: gain from which it is.
    """
    deltas = [b - a for a, b in zip(before, now, strict=True)]
    plus = 0 if deltas[0] >= deltas[1] else 1
    is_likely = math.exp(now[plus]) >= tau or deltas[plus] >= tau_delta
    return plus if is_likely else None, 1 - plus


def loss(network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
    """Mean of sigmoid(-m(sold) - m(y+) + 2 m(y-)) over questions `[]`; rows come as
    sold, y+, y-. m is the mean log-probability of an answer's tokens, nats.

    Args:
        network: that moves.
        rows: three a question.
        pad: id behind the shorter rows.
        device: of the network.
    """
    sold_Q, plus_Q, minus_Q = (
        means(*token_logprobs(network, rows, pad, device), len(rows)).view(-1, 3).unbind(-1)
    )
    return torch.sigmoid(2 * minus_Q - sold_Q - plus_Q).mean()


class Settings(Part):
    """`first`: share of the steps on sold answers, the rest is divided among the periods."""

    periods: int = Field(3, ge=1, le=1000)
    first: float = Field(0.9, gt=0, lt=1)
    tau: float = Field(0.8, ge=0, le=1)
    tau_delta: float = -0.1
    rate: float = Field(0.01, gt=0)
    temperature: float = Field(1.0, gt=0)


class Attacker(Base):
    paper = "Liang et al. 2024, 2409.02718"

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
        """Sold answers first, then periods, the recipe's steps in all and as many
        answers a step.
        """
        s, pad = self.settings, model.tokenizer.pad_token_id
        first = max(1, round(s.first * recipe.steps))
        rest = recipe.steps - first
        trainings = [
            sft.Attacker(sft.Settings()).train(
                completions, model, recipe.model_copy(update={"steps": first}), seed=seed
            )
        ]
        student = replace(model, network=trainings[0].network)
        sold = [answers[0] for answers in groups(completions)]
        last: list[list[Example]] = []
        for period in range(s.periods):
            period_seed = derived_seed("lord", seed, period)
            drawn = sample_completions(student, sold, 2, s.temperature, period_seed)
            texts = [[one, *drawn[2 * i : 2 * i + 2]] for i, one in enumerate(sold)]
            rows = [
                [sft.example(one, model.tokenizer, recipe.max_length) for one in three]
                for three in texts
            ]
            fresh = with_reference_logprobs(rows, [student.network], pad)
            triples = self._judge(last, with_reference_logprobs(last, [student.network], pad)) or [
                [a, a, c] for a, _, c in fresh
            ]
            useful = [three for three in triples if three[0].answer_ids != three[2].answer_ids]
            each = recipe.model_copy(
                update={
                    "steps": rest // s.periods + (period < rest % s.periods),
                    "batch_size": max(1, recipe.batch_size // 3),
                    "learning_rate": s.rate * recipe.learning_rate,
                }
            )
            if useful:
                trained = train(
                    student.network,
                    useful,
                    each,
                    seed=period_seed,
                    pad=pad,
                    loss=loss,
                    per="example",
                )
                trainings.append(trained)
            last = fresh
        return join_trainings(trainings)

    def _judge(self, before: list[list[Example]], now: list[list[Example]]) -> list[list[Example]]:
        """The last period's answers as sold, y+ and y-, by what the two networks gave them."""
        triples = []
        for old, new in zip(before, now, strict=True):
            then = [_level(example) for example in old[1:]]
            since = [_level(example) for example in new[1:]]
            plus, minus = order(then, since, self.settings.tau, self.settings.tau_delta)
            triples.append([old[0], old[0 if plus is None else 1 + plus], old[1 + minus]])
        return triples


def _level(example: Example) -> float:
    assert example.logprobs is not None
    return float(example.logprobs.values_TK.mean())
