"""Preference learning from sold answers: what the student says in agreement with the teacher, over
what does not agree.

DPO (Rafailov et al. 2023, 2305.18290, equation 7), after fine-tuning on the sold answers, whose
network is the reference. Preferences ask the provider nothing more: of two answers that the student
samples to a question, the one whose final answer is the teacher's is preferred; where neither's is,
the teacher's own answer is preferred to the first of them. The reference's log-probabilities are
computed once, before training. A sum over tokens is compared, as in the paper, and not a mean, so
that long answers weigh more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from distill.attackers import NOTHING, AttackerResources, Base, Part, sft
from distill.attackers._policy import (
    reference_logprobs,
    token_logprobs,
    totals,
    with_reference_logprobs,
)
from distill.attackers.clean import groups
from distill.attackers.follow import join_trainings, sample_completions
from distill.completions import Completion
from distill.models import LanguageModel
from distill.objectives import Example
from distill.specs import TrainingConfig
from distill.trainer import Trained, train


def preference(
    sold: Completion, drawn: Sequence[Completion], final: Callable[[Completion], str | None]
) -> tuple[Completion, Completion] | None:
    """A preferred answer and one that is not; None where all agree or the sold answer has no final
    answer.

    Args:
        sold: the answer that was sold.
        drawn: the student's answers to the same question.
        final: the final answer in a text.
    """
    wanted = final(sold)
    agree = [one for one in drawn if final(one) == wanted]
    differ = [one for one in drawn if final(one) != wanted]
    return ([*agree, sold][0], differ[0]) if differ and wanted is not None else None


def margins(values_B: Tensor, reference_B: Tensor, beta: float) -> Tensor:
    """beta x (log ratio of the preferred answer - that of the other), the argument of DPO's sigmoid
    (2305.18290, eq. 7): one a pair `[B / 2]`, no unit.

    Args:
        values_B: log-probabilities of whole answers, preferred and other in turns.
        reference_B: the same under the frozen network.
        beta: above 0.
    """
    ratios_P2 = (values_B - reference_B).view(-1, 2)
    return beta * (ratios_P2[:, 0] - ratios_P2[:, 1])


class Settings(Part):
    """`first`: share of the steps on sold answers; preferences follow at `rate` times the recipe's
    learning rate.
    """

    first: float = Field(0.9, gt=0, lt=1)
    beta: float = Field(1.0, gt=0)
    rate: float = Field(0.05, gt=0)
    temperature: float = Field(1.0, gt=0)


class Attacker(Base):
    paper = "Rafailov et al. 2023, 2305.18290"

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
        """Sold answers first, then preferences, the recipe's steps in all and as many answers a
        step.

        Where nothing disagrees there is no second part, and only `first` of the steps are made.
        """
        s = self.settings
        first = max(1, round(s.first * recipe.steps))
        begun = sft.Attacker(sft.Settings()).train(
            completions, model, recipe.model_copy(update={"steps": first}), seed=seed
        )
        student = replace(model, network=begun.network)
        pairs = self._pairs(student, completions, resources, seed)
        how = Preferences(s.first, s.beta, s.rate)
        return prefer(begun, student, pairs, recipe, how, seed=seed)

    def _pairs(
        self,
        student: LanguageModel,
        completions: Sequence[Completion],
        resources: AttackerResources,
        seed: int,
    ) -> list[tuple[Completion, Completion]]:
        sold = [group[0] for group in groups(completions)]
        drawn = sample_completions(student, sold, 2, self.settings.temperature, seed)
        preferences = [
            preference(one, drawn[2 * i : 2 * i + 2], resources.final) for i, one in enumerate(sold)
        ]
        return [pair for pair in preferences if pair]


class Preferences(NamedTuple):
    """How pairs are learned from, behind a share of the steps on sold answers: DPO's beta, and the
    share of the recipe's learning rate.
    """

    first: float
    beta: float
    rate: float


def prefer(
    begun: Trained,
    student: LanguageModel,
    pairs: Sequence[tuple[Completion, Completion]],
    recipe: TrainingConfig,
    how: Preferences,
    *,
    seed: int,
) -> Trained:
    """A fine-tuned student that goes on to learn from pairs, itself as the reference.

    Args:
        begun: its training so far; all there is where there are no pairs.
        student: as it is now; its network is changed.
        pairs: the preferred answer first.
        recipe: of all of its training, of whose steps these are the rest.
        how: they are learned from.
        seed: of the order of the pairs.
    """
    pad, tokenizer = student.tokenizer.pad_token_id, student.tokenizer
    first = max(1, round(how.first * recipe.steps))
    examples = [[sft.example(one, tokenizer, recipe.max_length) for one in pair] for pair in pairs]
    remembered = with_reference_logprobs(examples, [student.network], pad)
    if not remembered or first >= recipe.steps:
        return begun
    rest = recipe.model_copy(
        update={
            "steps": recipe.steps - first,
            "batch_size": max(1, recipe.batch_size // 2),
            "learning_rate": how.rate * recipe.learning_rate,
        }
    )

    def loss(network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
        return preference_loss(network, rows, pad, device, how.beta)

    learned = train(student.network, remembered, rest, seed=seed, pad=pad, loss=loss, per="example")
    return join_trainings([begun, learned])


def preference_loss(
    network: Any, rows: list[Example], pad: int, device: torch.device, beta: float
) -> Tensor:
    """DPO's loss of pairs, preferred and other in turns, with the reference's log-probabilities
    noted beside their tokens; a mean over pairs `[]`, in nats.

    Args:
        network: that learns.
        rows: as `with_reference_logprobs` left them.
        pad: id behind the shorter ones.
        device: of the network.
        beta: above 0.
    """
    values_N, row_N = token_logprobs(network, rows, pad, device)
    now_B, reference_B = (
        totals(one, row_N, len(rows)) for one in (values_N, reference_logprobs(rows, device)[:, 0])
    )
    return -functional.logsigmoid(margins(now_B, reference_B, beta)).mean()
