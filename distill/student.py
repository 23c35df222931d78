"""The training loop of every student, and of teachers by recipe; the one home of accelerate.

Loss falls on answer tokens alone, and only their positions are projected to the vocabulary. The
order of the data and the batches are functions of the seed, so that arms that share a seed see the
same batches. Axes: B rows, T positions, N positions that carry loss, K released entries, V
vocabulary.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from distill import lean
from distill.completions import BadInput, Logprobs, write_bytes
from distill.models import finite
from distill.muon import Muon

LOG_EVERY = 20
MATRICES = 5.0  # Muon's learning rate in AdamW's
CHECKPOINT_EVERY = 200  # steps; a multiple of LOG_EVERY, so that no pending loss is lost


class StudentSettings(BaseModel):
    """The shape and the recipe; `max_length` counts prompt, answer and end-of-text.

    `optimizer` muon is for the matrices between the embedding and the head, at `MATRICES` times the
    learning rate; all else is AdamW's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    hidden_size: int = Field(64, ge=8, le=100_000)
    intermediate_size: int = Field(256, description="width of the MLPs", ge=8, le=1_000_000)
    num_layers: int = Field(2, ge=1, le=1000)
    num_heads: int = Field(4, ge=1, le=1000)
    max_length: int = Field(192, ge=16, le=1_000_000)
    steps: int = Field(300, ge=0, le=10_000_000)
    batch_size: int = Field(32, ge=1, le=100_000)
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(4e-3, gt=0, le=1000)
    warmup: float = Field(0.05, ge=0, le=1)
    clip: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.0, ge=0, le=1000)


@dataclass(frozen=True)
class Example:
    """A prompt and the answer to learn; `answer_ids` ends with end-of-text if the answer was
    finished.

    `cut` says whether something of the answer is missing because it did not fit.
    """

    prompt_ids: list[int]
    answer_ids: list[int]
    logprobs: Logprobs | None = None
    weight: float = 1.0
    cut: bool = False


@dataclass
class Trained:
    """A trained network; a diverged one is an outcome and keeps its last weights. One that had
    nothing to learn from, as no answer had a token, took no step.
    """

    network: Any
    losses: list[float] = field(default_factory=list)
    diverged: bool = False
    tokens: int = 0  # that carried loss
    positions: int = 0  # that went through the network, padding left out
    asked: int = 0  # exchanges with the provider while it learned
    steps: int = 0  # of the optimiser, really taken
    examples: int = 0  # that it was given to learn from
    cut: int = 0  # of these, cut to what fits


@dataclass
class _State:
    """Where training is, beside weights and optimiser: all that a resumed run continues from."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    diverged: bool = False
    tokens: int = 0
    positions: int = 0


def rate(step: int, settings: StudentSettings) -> float:
    """Learning-rate factor: linear warm-up from 0, then linear to 0 behind the last step."""
    warm = max(1, round(settings.warmup * settings.steps))
    if step < warm:
        return (step + 1) / warm
    return 1 - (step - warm) / max(1, settings.steps - warm)


def optimizers(network: Any, settings: StudentSettings) -> list[torch.optim.Optimizer]:
    """AdamW of all weights, or Muon of the matrices and AdamW of the rest, each group with its
    `share` of the rate.
    """
    weights = [p for p in network.parameters() if p.requires_grad]
    tokens = {
        one.num_embeddings for one in network.modules() if isinstance(one, torch.nn.Embedding)
    }
    # What has a row a token, the embedding and the head, is a table and no map: each row has a
    # scale of its own.
    inner = (
        [p for p in weights if p.dim() == 2 and p.shape[0] not in tokens]
        if settings.optimizer == "muon"
        else []
    )
    known = {id(p) for p in inner}
    rest = [{"params": [p for p in weights if id(p) not in known], "share": 1.0}]
    told: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    adamw = torch.optim.AdamW(rest, betas=(0.9, 0.98), fused=True, **told)
    return [adamw, Muon([{"params": inner, "share": MATRICES}], **told)] if inner else [adamw]


def batches(lengths: Sequence[int], batch_size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of indices: each epoch is shuffled, and sorted by length within pools of
    eight batches.
    """
    epoch = 0
    while True:
        rng = random.Random(f"{seed}/{epoch}")
        order = rng.sample(range(len(lengths)), len(lengths))
        pools = [order[i : i + 8 * batch_size] for i in range(0, len(order), 8 * batch_size)]
        rows = [sorted(pool, key=lambda i: lengths[i]) for pool in pools]
        cut = [pool[i : i + batch_size] for pool in rows for i in range(0, len(pool), batch_size)]
        yield from rng.sample(cut, len(cut))
        epoch += 1


Loss = Callable[[Any, list[Example], int, torch.device], Tensor]
"""The loss of one batch, of (network, rows, padding token, device)."""


def train(
    network: Any,
    examples: Sequence[Example | Sequence[Example]],
    settings: StudentSettings,
    *,
    seed: int,
    pad: int = 0,
    loss: Loss | None = None,
    log: Callable[[int, float], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
) -> Trained:
    """Train `network` in place on `examples`, with exact resume from `checkpoint` if that file is
    whole.

    `loss` is `imitation` unless told otherwise. Examples of a group, such as a chosen and a
    rejected answer, come in the same batch, one behind the other.
    """
    from accelerate import Accelerator

    if settings.steps == 0:
        return Trained(network)
    if not examples:
        raise BadInput("student: there is no answer to learn from; at least one is needed")
    groups = [[one] if isinstance(one, Example) else list(one) for one in examples]
    given: dict[str, Any] = {
        "examples": sum(map(len, groups)),
        "cut": sum(e.cut for group in groups for e in group),
    }
    # A cut-off answer of which nothing is left has no position that carries loss.
    groups = [group for group in groups if all(e.answer_ids for e in group)]
    if not groups:
        return Trained(network, **given)
    lengths = [max(len(e.prompt_ids) + len(e.answer_ids) for e in group) for group in groups]
    too_long = max(lengths)
    if too_long > settings.max_length:
        raise BadInput(
            f"student: an example has {too_long} tokens; max_length is {settings.max_length}"
        )
    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no")
    network, *used = accelerator.prepare(network, *optimizers(network, settings))
    state = _State()
    if checkpoint:
        _resume(checkpoint, network, used, state)
    plan = batches(lengths, settings.batch_size, seed)
    for _ in range(state.step):
        next(plan)
    pending = torch.zeros((), device=accelerator.device)
    network.train()
    for step in range(state.step, settings.steps):
        state.step = step + 1
        rows = [e for i in next(plan) for e in groups[i]]
        state.tokens += sum(len(e.answer_ids) for e in rows)
        state.positions += sum(len(e.prompt_ids) + len(e.answer_ids) for e in rows)
        for one in used:
            for group in one.param_groups:
                group["lr"] = group["share"] * settings.learning_rate * rate(step, settings)
        with accelerator.autocast():
            value = (loss or imitation)(network, rows, pad, accelerator.device)
        network.zero_grad(set_to_none=True)
        accelerator.backward(value)
        accelerator.clip_grad_norm_(network.parameters(), settings.clip)
        for one in used:
            one.step()
        pending = pending + value.detach()
        if (step + 1) % LOG_EVERY and step + 1 < settings.steps:
            continue
        # One synchronisation for LOG_EVERY steps.
        state.losses.append(float(pending) / (step % LOG_EVERY + 1))
        pending = torch.zeros_like(pending)
        if log:
            log(step + 1, state.losses[-1])
        if _diverged(state.losses):
            state.diverged = True
            break
        if checkpoint and (step + 1) % checkpoint_every == 0 and step + 1 < settings.steps:
            _save(checkpoint, network, used, state)
    network = accelerator.unwrap_model(network)
    state.diverged = state.diverged or not finite(
        network
    )  # the last steps may break what their losses do not show
    done: dict[str, Any] = {
        "tokens": state.tokens,
        "positions": state.positions,
        "steps": state.step,
    }
    return Trained(network, state.losses, state.diverged, **done, **given)


def _diverged(losses: list[float]) -> bool:
    """Not finite, or twice in a row above three times the first mean, where that is
    a likelihood's.
    """
    return not math.isfinite(losses[-1]) or (
        len(losses) > 2 and min(losses[-2:]) > 3 * losses[0] > 0
    )


@dataclass(frozen=True)
class Read:
    """One batch as the network reads it: scores of the N positions that carry loss, their targets,
    and their rows.
    """

    logits_NV: Tensor
    targets_N: Tensor
    row_N: Tensor


def read(network: Any, rows: list[Example], pad: int, device: torch.device) -> Read:
    """Right-padded rows through the network; token t of an answer is predicted at the position
    before it.
    """
    width = max(len(e.prompt_ids) + len(e.answer_ids) for e in rows)
    full = [(e.prompt_ids + e.answer_ids) for e in rows]
    tokens_BT = torch.tensor([ids + [pad] * (width - len(ids)) for ids in full], device=device)
    index = [
        b * width + len(e.prompt_ids) - 1 + t
        for b, e in enumerate(rows)
        for t in range(len(e.answer_ids))
    ]
    targets_N = torch.tensor([token for e in rows for token in e.answer_ids], device=device)
    row_N = torch.tensor([b for b, e in enumerate(rows) for _ in e.answer_ids], device=device)
    decoder, kept_N = network.get_decoder(), torch.tensor(index, device=device)
    if lean.fits(decoder):
        kept_NH = lean.states(decoder, tokens_BT, kept_N)
    else:  # Causal attention never looks right, so right padding needs no mask.
        kept_NH = decoder(input_ids=tokens_BT).last_hidden_state.flatten(0, 1)[kept_N]
    return Read(network.get_output_embeddings()(kept_NH), targets_N, row_N)


def cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Mean negative log-likelihood of the targets, nats a token."""
    return functional.cross_entropy(logits_NV.float(), targets_N)


def weighted_cross_entropy(logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor) -> Tensor:
    """Weighted mean negative log-likelihood; weights of any sign, divided by their number and not
    by their sum.
    """
    nats_N = functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    return (weights_N * nats_N).mean()


def imitation(network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
    """Cross-entropy of the answers' tokens, nats a token; each token counts with its example's
    weight.
    """
    seen = read(network, rows, pad, device)
    if all(e.weight == 1 for e in rows):
        return cross_entropy(seen.logits_NV, seen.targets_N)
    weights_N = torch.tensor([e.weight for e in rows], device=device)[seen.row_N]
    return weighted_cross_entropy(seen.logits_NV, seen.targets_N, weights_N)


def signals(rows: list[Example], device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """What was released for the positions that carry loss: ids (N, K), logprobs (N, K), log tail
    (N) if known.
    """
    kept = [e.logprobs for e in rows if e.logprobs is not None]
    if len(kept) < len(rows):
        raise BadInput(
            "student: a divergence needs logprobs in every answer; the interface profile gave none"
        )
    ids_NK = torch.from_numpy(np.concatenate([k.ids_TK for k in kept]).astype(np.int64)).to(device)
    values_NK = torch.from_numpy(np.concatenate([k.values_TK for k in kept]).astype(np.float32)).to(
        device
    )
    tails = [k.tail_T for k in kept if k.tail_T is not None]
    if len(tails) < len(kept):
        return ids_NK, values_NK, None
    return ids_NK, values_NK, torch.from_numpy(np.concatenate(tails).astype(np.float32)).to(device)


def _save(path: Path, network: Any, used: Sequence[Any], state: _State) -> None:
    buffer = io.BytesIO()
    optimizers = [one.state_dict() for one in used]
    torch.save(
        {"network": network.state_dict(), "optimizers": optimizers, "state": vars(state)}, buffer
    )
    write_bytes(path, hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())


def _resume(path: Path, network: Any, used: Sequence[Any], state: _State) -> None:
    """Load a checkpoint if there is a whole one; a damaged one is named and not used."""
    if not path.is_file():
        return
    data = path.read_bytes()
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        warnings.warn(f"{path}: checkpoint is damaged; training starts again", stacklevel=3)
        return
    kept = torch.load(io.BytesIO(data[32:]), weights_only=True)
    network.load_state_dict(kept["network"])
    for one, held in zip(used, kept["optimizers"], strict=True):
        one.load_state_dict(held)
    vars(state).update(kept["state"])
