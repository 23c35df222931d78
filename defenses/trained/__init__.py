"""What a provider does with weights: batches of its own traces, gradients, and tuning a copy of a network.

Axes: B rows, T positions, N positions that carry loss (those of answers), V vocabulary.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from distill.answers import Answer, Prompt
from distill.models import LanguageModel


class Row(NamedTuple):
    """A prompt and the answer to it as token ids; the answer ends with end-of-text if it was finished."""

    prompt_ids: list[int]
    answer_ids: list[int]


def rows(model: LanguageModel, answers: Iterable[Answer]) -> list[Row]:
    """Answers as the model's own token ids, its chat template included; answers of which nothing is left fall out."""
    held = []
    for answer in answers:
        ids = list(answer.token_ids) or list(model.tokenizer(answer.text, add_special_tokens=False).input_ids)
        ids += [model.tokenizer.eos_token_id] * answer.finished
        if ids:
            held.append(Row(model.encode(Prompt(answer.prompt_id, answer.prompt)), ids))
    return held


def answer_logits(network: Any, batch: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Scores (N, V) in float32 at the positions before each answer token, and these tokens (N), row after row."""
    width = max(len(row.prompt_ids) + len(row.answer_ids) for row in batch)
    full = [row.prompt_ids + row.answer_ids for row in batch]
    # Causal attention never looks right, so right padding needs no mask.
    tokens_BT = torch.tensor([ids + [0] * (width - len(ids)) for ids in full], device=network.device)
    index = [b * width + len(row.prompt_ids) - 1 + t for b, row in enumerate(batch) for t in range(len(row.answer_ids))]
    targets_N = torch.tensor([token for row in batch for token in row.answer_ids], device=network.device)
    logits_BTV = network(input_ids=tokens_BT).logits
    return logits_BTV.reshape(-1, logits_BTV.shape[-1])[index].float(), targets_N


def loss(network: Any, batch: Sequence[Row]) -> Tensor:
    """Mean negative log-likelihood of the answers' tokens, nats a token."""
    return functional.cross_entropy(*answer_logits(network, batch))


def gradient(network: Any, held: Sequence[Row], batch_size: int = 32) -> dict[str, Tensor]:
    """Gradient of the mean `loss` over all answer tokens by parameter name, float32; the network is left as it was."""
    twin = copied(network).float()
    total = sum(len(row.answer_ids) for row in held)
    for start in range(0, len(held), batch_size):
        batch = held[start : start + batch_size]
        (loss(twin, batch) * sum(len(row.answer_ids) for row in batch) / total).backward()
    return {name: p.grad for name, p in twin.named_parameters() if p.grad is not None}


def copied(network: Any) -> Any:
    """A copy whose weights may change, without dropout and outside inference mode."""
    with torch.inference_mode(False):
        return copy.deepcopy(network).eval().requires_grad_(True)


def changed(network: Any, weights: Mapping[str, Tensor]) -> Any:
    """A copy with some parameters replaced, by name."""
    twin = copied(network)
    named = dict(twin.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            named[name].copy_(value)
    return twin.requires_grad_(False)


def tune(
    parameters: Iterable[Tensor],
    objective: Callable[[Sequence[Row]], Tensor],
    held: Sequence[Row],
    *,
    steps: int,
    learning_rate: float,
    batch_size: int,
    seed: int = 0,
    clip: float = 1.0,
) -> list[float]:
    """Minimise `objective(batch)` by AdamW with a warm-up of a tenth and a linear decay; the loss of every step."""
    moving = list(parameters)
    optimizer = torch.optim.AdamW(moving, learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    rng, losses = random.Random(seed), []
    warm = max(1, steps // 10)
    with torch.inference_mode(False), torch.enable_grad():
        for step in range(steps):
            share = (step + 1) / warm if step < warm else 1 - (step - warm) / max(1, steps - warm)
            optimizer.param_groups[0]["lr"] = learning_rate * share
            value = objective(rng.sample(list(held), min(batch_size, len(held))))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(moving, clip)
            optimizer.step()
            losses.append(float(value.detach()))
    return losses
