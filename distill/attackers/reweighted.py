"""Gradient-reweighted fine-tuning: answers whose gradient points where the attacker's own data does
count for more.

Distillation Game (2605.22737), Algorithm 1: with g the gradient of the loss on the attacker's data,
the value of an answer is v = -<g, grad log pi(y | x)>, and a batch is weighted by softmax(eta v).
Since grad L_i = -grad log pi, v is <g, grad L_i>: following that answer lowers the attacker's own
loss. The released code estimates (NLL(theta - eps g) - NLL(theta + eps g)) / 2 eps, which is -v,
and weights by exp(+beta times it): it weights down what the paper weights up. `sign` 1 is the
paper's, -1 the code's. `scope` batch is the paper's: a softmax over each batch, with g made again
every `every` steps; global is the code's: one softmax over all answers at the student's start. The
code takes g from clean answers of the teacher, which no attacker has; here it is that of worked
solutions which the attacker owns. Values are standardised, where the code clips them to +-10, so
that `beta` means the same for any task.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from distill.attackers import NOTHING, AttackerResources, Base, Part
from distill.attackers.sft import example
from distill.completions import Completion
from distill.models import LanguageModel
from distill.objectives import Example, Loss, score_answers
from distill.specs import TrainingConfig
from distill.trainer import Trained, train


def nats(network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
    """Mean negative log-likelihood of each row's answer, nats a token `[B]`.

    Args:
        network: a causal language model.
        rows: B answers to their prompts.
        pad: id behind the shorter ones.
        device: of the network.
    """
    seen = score_answers(network, rows, pad, device)
    each_N = torch.nn.functional.cross_entropy(
        seen.logits_NV.float(), seen.targets_N, reduction="none"
    )
    sums_B = torch.zeros(len(rows), device=device).index_add(0, seen.row_N, each_N)
    return sums_B / torch.tensor([len(row.answer_ids) for row in rows], device=device)


def gradient(network: Any, rows: list[Example], pad: int, device: torch.device) -> list[Tensor]:
    """Gradient of the mean loss on rows, one tensor `[...]` a parameter, divided by its length over
    all of them.

    Args:
        network: a causal language model.
        rows: B answers to their prompts.
        pad: id behind the shorter ones.
        device: of the network.
    """
    weights = [p for p in network.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(nats(network, rows, pad, device).mean(), weights)
    length = torch.sqrt(torch.stack([(one**2).sum() for one in gradients]).sum()).clamp(min=1e-12)
    return [one / length for one in gradients]


def values(
    network: Any,
    direction: list[Tensor],
    rows: list[Example],
    pad: int,
    device: torch.device,
    eps: float,
) -> Tensor:
    """<direction, grad L_i> for each row `[B]`, by a central difference of its loss; the network is
    left as it was.

    Args:
        network: a causal language model.
        direction: one tensor `[...]` a parameter, of length 1 together.
        rows: B answers to their prompts.
        pad: id behind the shorter ones.
        device: of the network.
        eps: step along the direction.
    """
    moved, ends = copy.deepcopy(network), []
    with torch.no_grad():
        for sign in (1, -1):
            for p, start, d in zip(
                moved.parameters(), network.parameters(), direction, strict=True
            ):
                p.copy_(start + sign * eps * d)
            ends.append(nats(moved, rows, pad, device))
    return (ends[0] - ends[1]) / (2 * eps)


def softmax_weights(values_B: Tensor, beta: float) -> Tensor:
    """Softmax of beta x standardised values, with mean 1 `[B]`; equal values weigh the same.

    Args:
        values_B: one an answer.
        beta: 0 weighs all the same.
    """
    spread = values_B.std(correction=0).clamp(min=1e-12)
    return torch.softmax(beta * (values_B - values_B.mean()) / spread, 0) * len(values_B)


def weighted_loss(network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
    """Mean over answers of weight x nats a token `[]`.

    Args:
        network: a causal language model.
        rows: B answers with their weights.
        pad: id behind the shorter ones.
        device: of the network.
    """
    weights_B = torch.tensor([row.weight for row in rows], device=device)
    return (weights_B * nats(network, rows, pad, device)).mean()


class Settings(Part):
    """`every` is read by scope batch."""

    sign: Literal[1, -1] = 1
    scope: Literal["batch", "global"] = "batch"
    beta: float = Field(0.5, ge=0)
    every: int = Field(5, ge=1, le=1000)
    held_out: int = Field(32, ge=1, le=1_000_000)
    eps: float = Field(1e-2, gt=0)


class Attacker(Base):
    needs = ("worked",)
    paper = "Distillation Game 2026, 2605.22737"

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
        """Fine-tune with weights that are a function of the weights, the batch and the attacker's
        own data.
        """
        s, pad = self.settings, model.tokenizer.pad_token_id
        examples = [example(one, model.tokenizer, recipe.max_length) for one in completions]
        own_rows = [
            example(one, model.tokenizer, recipe.max_length)
            for one in resources.worked[: s.held_out]
        ]
        if not s.beta:
            return train(model.network, examples, recipe, seed=seed, pad=pad, checkpoint=checkpoint)
        if s.scope == "global":
            weighted = self._once(model.network, own_rows, examples, pad, recipe.batch_size)
            return train(
                model.network,
                weighted,
                recipe,
                seed=seed,
                pad=pad,
                loss=weighted_loss,
                per="example",
                checkpoint=checkpoint,
            )
        # A loss with a memory of its own cannot go on from a checkpoint, so there is none.
        return train(
            model.network,
            examples,
            recipe,
            seed=seed,
            pad=pad,
            loss=self._every_batch(own_rows),
            per="batch",
        )

    def _once(
        self, network: Any, own_rows: list[Example], examples: list[Example], pad: int, size: int
    ) -> list[Example]:
        """The answers that have a token, with weights of mean 1 by their values at the student's
        start.
        """
        s, device = self.settings, network.device
        direction = gradient(network, own_rows, pad, device)
        learnable = [one for one in examples if one.answer_ids]
        parts = [learnable[start : start + size] for start in range(0, len(learnable), size)]
        values_A = torch.cat(
            [values(network, direction, part, pad, device, s.eps) for part in parts]
        )
        weights = softmax_weights(s.sign * values_A, s.beta).tolist()
        return [replace(one, weight=weight) for one, weight in zip(learnable, weights, strict=True)]

    def _every_batch(self, own_rows: list[Example]) -> Loss:
        s, step, direction = self.settings, -1, list[Tensor]()

        def loss(network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
            nonlocal step, direction
            step += 1
            if step % s.every == 0:
                direction = gradient(network, own_rows, pad, device)
            weights_B = softmax_weights(
                s.sign * values(network, direction, rows, pad, device, s.eps), s.beta
            )
            return (weights_B * nats(network, rows, pad, device)).mean()

        return loss
