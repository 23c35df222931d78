"""The training loop of everything that is trained: students, teachers by recipe, proxies, and, by
its inner part `descend`, the defences that tune weights. A network is trained where it is.

The order of the data and the batches are functions of the seed, so that arms that share a seed see
the same batches.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.completions import BadInput, write_bytes
from distill.models import finite
from distill.muon import Muon
from distill.objectives import Example, Loss, imitation
from distill.passes import Passes, Per, seeded
from distill.specs import TrainingConfig

LOG_EVERY = 20
MATRICES = 5.0  # Muon's learning rate in AdamW's
CHECKPOINT_EVERY = 200  # steps; a multiple of LOG_EVERY, so that no pending loss is lost
POOL = 8  # batches that are sorted by length together
BETAS = (0.9, 0.98)  # of AdamW
LEARNED = 0.5  # nats a token: what begins with less was trained before


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
    unscored: int = 0  # of these, asked for a score and without one that can be read
    steps: int = 0  # of the optimiser, really taken
    examples: int = 0  # that it was given to learn from
    cut: int = 0  # of these, cut to what fits


def warmup_steps(config: TrainingConfig) -> int:
    """Over how many steps the learning rate rises."""
    return max(1, round(config.warmup * config.steps))


def rate(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor of a step from 0: linear warm-up from 0, then linear to 0 behind the
    last step.

    Args:
        step: of the optimiser, from 0.
        steps: of the whole training.
        warmup: steps over which it rises.

    Returns:
        A factor in (0, 1].
    """
    if step < warmup:
        return (step + 1) / warmup
    return 1 - (step - warmup) / max(1, steps - warmup)


def optimizers(network: Any, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW of all weights, or Muon of the matrices and AdamW of the rest; each group names the
    `peak` of its learning rate.

    Args:
        network: whose weights that ask for gradients are trained.
        config: learning rate, weight decay and which optimiser.
    """
    weights = [p for p in network.parameters() if p.requires_grad]
    inner = _inner_matrices(network, weights) if config.optimizer == "muon" else []
    is_inner = {id(p) for p in inner}
    rest = [p for p in weights if id(p) not in is_inner]
    adamw = torch.optim.AdamW(
        [{"params": rest, "peak": config.learning_rate}],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=BETAS,
        fused=True,
    )
    if not inner:
        return [adamw]
    muon = Muon(
        [{"params": inner, "peak": MATRICES * config.learning_rate}],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    return [adamw, muon]


def _inner_matrices(network: Any, weights: Sequence[Tensor]) -> list[Tensor]:
    """The matrices that map states to states.

    What has a row a token, the embedding and the head, is a table and no map: each row has a scale
    of its own.
    """
    tables = {m.num_embeddings for m in network.modules() if isinstance(m, torch.nn.Embedding)}
    return [p for p in weights if p.dim() == 2 and p.shape[0] not in tables]


def batches(lengths: Sequence[int], batch_size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of indices: each epoch is shuffled, and sorted by length within pools.

    Args:
        lengths: tokens of each example.
        batch_size: examples of a batch.
        seed: of the order.
    """
    epoch = 0
    while True:
        rng = random.Random(f"{seed}/{epoch}")
        order = rng.sample(range(len(lengths)), len(lengths))
        size = POOL * batch_size
        pools = [
            sorted(order[start : start + size], key=lambda i: lengths[i])
            for start in range(0, len(order), size)
        ]
        cut = [
            pool[start : start + batch_size]
            for pool in pools
            for start in range(0, len(pool), batch_size)
        ]
        yield from rng.sample(cut, len(cut))
        epoch += 1


def descend(
    gradients: Callable[[], Tensor],
    weights: Sequence[Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
    rates: Iterable[float],
    *,
    clip: float,
) -> Iterator[Tensor]:
    """Gradient descent: the one loop of all trainings.

    Args:
        gradients: leaves the gradients of the next batch's loss with the weights, and returns the
            loss `[]`, detached.
        weights: what moves, `[...]` each; their gradients are clipped to norm `clip` together.
        optimizers: of these weights; each group names the `peak` of its learning rate.
        rates: the share of the peak in each step, as many as there are steps.
        clip: see `weights`.

    Yields:
        The loss `[]` of each step, once the step is taken.
    """
    for factor in rates:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        for weight in weights:
            weight.grad = None
        value = gradients()
        torch.nn.utils.clip_grad_norm_(weights, clip)
        for optimizer in optimizers:
            optimizer.step()
        yield value


@dataclass
class _State:
    """Where training is, beside weights and optimiser: all that a resumed run continues from."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    diverged: bool = False
    tokens: int = 0
    positions: int = 0

    def count(self, groups: Sequence[Sequence[Example]]) -> None:
        """Note what a batch takes."""
        rows = [row for group in groups for row in group]
        answers = sum(len(row.answer_ids) for row in rows)
        self.tokens += answers
        self.positions += answers + sum(len(row.prompt_ids) for row in rows)


class _Data:
    """Examples in groups, each of which comes in one batch."""

    def __init__(self, examples: Sequence[Example | Sequence[Example]]) -> None:
        groups = [[one] if isinstance(one, Example) else list(one) for one in examples]
        self.examples = sum(map(len, groups))
        self.cut = sum(row.cut for group in groups for row in group)
        # A cut-off answer of which nothing is left has no position that carries loss.
        self.groups = [group for group in groups if all(row.answer_ids for row in group)]
        self.lengths = [
            max(len(row.prompt_ids) + len(row.answer_ids) for row in group) for group in self.groups
        ]

    def check(self, max_length: int) -> None:
        """BadInput where an example does not fit."""
        longest = max(self.lengths)
        if longest > max_length:
            raise BadInput(f"student: an example has {longest} tokens; max_length is {max_length}")

    def batches(self, batch_size: int, seed: int, skip: int) -> Iterator[list[list[Example]]]:
        """Endless batches of groups, behind the first `skip`."""
        indices = batches(self.lengths, batch_size, seed)
        for _ in range(skip):
            next(indices)
        return ([self.groups[i] for i in batch] for batch in indices)


def train(
    network: Any,
    examples: Sequence[Example | Sequence[Example]],
    config: TrainingConfig,
    *,
    seed: int,
    pad: int = 0,
    loss: Loss = imitation,
    per: Per = "token",
    log: Callable[[int, float], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
) -> Trained:
    """Train `network` in place on `examples`, with exact resume from `checkpoint` if that file is
    whole.

    Args:
        network: a causal language model; its weights that move are in float32.
        examples: or groups of them, such as a chosen and a rejected answer; a group comes in one
            batch, one behind the other.
        config: how.
        seed: of the order of the data.
        pad: the token id that fills rows up.
        loss: of a batch.
        per: what it is a mean over, by which a batch is divided into passes.
        log: called every `LOG_EVERY` steps with the step and the mean loss since the last call.
        checkpoint: a file that outlives a killed training.
        checkpoint_every: steps between two writings of it, a multiple of `LOG_EVERY`.

    Raises:
        BadInput: there is no example, or one that does not fit.
    """
    if config.steps == 0:
        return Trained(network)
    if not examples:
        raise BadInput("student: there is no answer to learn from; at least one is needed")
    data = _Data(examples)
    if not data.groups:
        return Trained(network, examples=data.examples, cut=data.cut)
    data.check(config.max_length)
    passes, used = Passes(network, config, pad, loss, per), optimizers(network, config)
    with seeded(seed, passes.device):
        state = _resumed(checkpoint, network, used)
        for _ in _means(_steps(passes, used, data, config, seed, state), state, config.steps):
            if log:
                log(state.step, state.losses[-1])
            if checkpoint and passes.is_first_process:
                _note(checkpoint, state)
            if state.diverged:
                break
            due = state.step % checkpoint_every == 0 and state.step < config.steps
            if checkpoint and due and passes.is_first_process:
                _save(checkpoint, network, used, state)
    return _result(network, state, data)


def _steps(
    passes: Passes,
    used: Sequence[torch.optim.Optimizer],
    data: _Data,
    config: TrainingConfig,
    seed: int,
    state: _State,
) -> Iterator[Tensor]:
    """The losses of the steps from where training is."""
    plan = data.batches(config.batch_size, seed, state.step)

    def gradients() -> Tensor:
        groups = next(plan)
        state.count(groups)
        return passes.gradients(groups)

    passes.train_mode()
    passes.publish()
    rates = _rates(config, state.step)
    for value in descend(gradients, passes.weights, used, rates, clip=config.clip):
        passes.publish()
        yield value


def _note(checkpoint: Path, state: _State) -> None:
    """Add the last loss to those beside a checkpoint, for whoever watches a long training."""
    with checkpoint.with_suffix(".losses").open("a", encoding="utf-8") as file:
        file.write(f"{state.step} {state.losses[-1]}\n")


def _result(network: Any, state: _State, data: _Data) -> Trained:
    return Trained(
        network,
        state.losses,
        # The last steps may break what their losses do not show.
        state.diverged or not finite(network),
        tokens=state.tokens,
        positions=state.positions,
        steps=state.step,
        examples=data.examples,
        cut=data.cut,
    )


def _rates(config: TrainingConfig, start: int) -> Iterator[float]:
    """The learning-rate factors of the steps from `start` on."""
    warmup = warmup_steps(config)
    return (rate(step, config.steps, warmup) for step in range(start, config.steps))


def _means(losses: Iterable[Tensor], state: _State, steps: int) -> Iterator[None]:
    """Take steps, and stop every `LOG_EVERY` of them to note their mean loss.

    Losses stay on the device until then: one synchronisation for many steps.
    """
    total: Tensor | float = 0.0
    count = 0
    for value in losses:
        state.step += 1
        total, count = total + value, count + 1
        if state.step % LOG_EVERY and state.step < steps:
            continue
        state.losses.append(float(total) / count)
        state.diverged = _has_diverged(state.losses)
        total, count = 0.0, 0
        yield


def _has_diverged(losses: list[float]) -> bool:
    """Not finite, or twice in a row above three times the first mean, where that is
    a likelihood's.

    A network that was trained before begins near 0, and three times that is noise.
    """
    return not math.isfinite(losses[-1]) or (
        len(losses) > 2 and losses[0] > 0 and min(losses[-2:]) > 3 * max(losses[0], LEARNED)
    )


def _save(path: Path, network: Any, used: Sequence[Any], state: _State) -> None:
    moving = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    saved = {
        "network": moving,
        "optimizers": [optimizer.state_dict() for optimizer in used],
        "state": vars(state),
        "random": _random_states(),
    }
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    write_bytes(path, hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())


def _random_states() -> list[Tensor]:
    """Of torch, on the CPU and on the GPU where there is one: dropout takes from it."""
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *cuda]


def _resumed(path: Path | None, network: Any, used: Sequence[Any]) -> _State:
    """Where training is: at its beginning, or where a whole checkpoint has it; a damaged one is
    named and not used.
    """
    state = _State()
    if path is None or not path.is_file():
        return state
    data = path.read_bytes()
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        warnings.warn(f"{path}: checkpoint is damaged; training starts again", stacklevel=3)
        return state
    saved = torch.load(io.BytesIO(data[32:]), weights_only=True)
    network.load_state_dict(saved["network"], strict=False)  # frozen weights are not in it
    for optimizer, its_state in zip(used, saved["optimizers"], strict=True):
        optimizer.load_state_dict(its_state)
    cpu, *cuda = saved["random"]
    torch.set_rng_state(cpu)
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state(cuda[0])
    vars(state).update(saved["state"])
    return state
