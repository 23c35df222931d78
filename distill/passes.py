"""How a batch becomes gradients: in which numbers, in how many passes, in how many processes. The
one home of accelerate.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from distill.objectives import Example, Loss
from distill.specs import TrainingConfig

Group = Sequence[Example]
Per = Literal["token", "example", "batch"]
"""What a loss is a mean over: answer tokens, groups of examples, or nothing that can be divided."""
SHORT = 256
"""Tokens a row up to which plain attention is the faster one in bfloat16 on a CPU: the backward
pass of the fused one takes a quarter of a step at 57."""


class Passes:
    """A network in training. Where the program runs under torchrun, each process reads its share of
    every batch, and all take the same step.

    Args:
        network: of transformers; its weights that move are in float32 from here on. What reads
            batches is `working`, which is the network itself or its copy in bfloat16.
        config: precision, checkpointing and how many tokens a pass takes.
        pad: token id behind the shorter rows.
        loss: what is made small.
        per: what the loss is a mean over.
    """

    def __init__(self, network: Any, config: TrainingConfig, pad: int, loss: Loss, per: Per):
        self.network, self.pad, self.loss, self.per = network, pad, loss, per
        self.pass_tokens = config.pass_tokens
        self.weights = [weight for weight in network.parameters() if weight.requires_grad]
        for weight in self.weights:
            weight.data = weight.data.float()
        self.device = self.weights[0].device
        self.processes = _processes(self.device)
        if config.checkpointing:
            how = {"use_reentrant": False}  # frozen weights below an adapter need no gradient
            network.activation_checkpointing_enable(how)
        self.autocasts = config.precision == "auto" and _prefers_bfloat16(self.device)
        self.working = network
        if config.precision == "bfloat16":
            self.working = copy.deepcopy(network)
            round_weights(self.working)

    @property
    def is_first_process(self) -> bool:
        return self.processes is None or bool(self.processes.is_main_process)

    def train_mode(self) -> None:
        """Dropout, where the model has some."""
        self.network.train()
        self.working.train()

    def gradients(self, groups: Sequence[Group]) -> Tensor:
        """Leave the gradients of a batch's loss with the weights.

        Args:
            groups: the batch's examples, in groups that are read together.

        Returns:
            The loss `[]`, detached.
        """
        whole, total = _count(groups, self.per), torch.zeros((), device=self.device)
        for part in self._parts(groups):
            rows = [row for group in part for row in group]
            with self._autocast(), self._attention(rows):
                value = self.loss(self.working, rows, self.pad, self.device)
            if (share := _count(part, self.per) / whole) != 1:
                value = value * share  # so that no gradient depends on how the batch was split
            value.backward()
            total = total + value.detach()
        self._collect()
        return self._summed(total)

    def publish(self) -> None:
        """The working copy takes the weights as they are now."""
        if self.working is self.network:
            return
        with torch.no_grad():
            for weight, rounded in self._pairs():
                rounded.copy_(weight)

    def _parts(self, groups: Sequence[Group]) -> Iterator[Sequence[Group]]:
        """This process's groups, as many at once as fit into a pass."""
        if self.per == "batch":
            yield groups
            return
        local = groups
        if self.processes is not None:
            local = groups[self.processes.process_index :: self.processes.num_processes]
        part: list[Group] = []
        for group in local:
            if part and self.pass_tokens and _padded([*part, group]) > self.pass_tokens:
                yield part
                part = []
            part.append(group)
        if part:
            yield part

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The weights that move, each with its rounded copy."""
        both = zip(self.network.parameters(), self.working.parameters(), strict=True)
        return ((weight, rounded) for weight, rounded in both if weight.requires_grad)

    def _collect(self) -> None:
        """Bring the gradients of the working copy, and of all processes, to the weights."""
        if self.working is not self.network:
            for weight, rounded in self._pairs():
                weight.grad = None if rounded.grad is None else rounded.grad.float()
                rounded.grad = None
        if self.processes is None:
            return
        for weight in self.weights:
            # A process without examples takes part as well: the others would wait for it for ever.
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            weight.grad = self._summed(gradient)

    def _summed(self, value: Tensor) -> Tensor:
        """The sum over all processes; of a loss that each of them has whole, the mean."""
        if self.processes is None:
            return value
        how = "mean" if self.per == "batch" else "sum"
        return torch.as_tensor(self.processes.reduce(value, how))

    def _attention(self, rows: Sequence[Example]) -> contextlib.AbstractContextManager[Any]:
        short = max(len(row.prompt_ids) + len(row.answer_ids) for row in rows) <= SHORT
        if self.working is self.network or self.device.type != "cpu" or not short:
            return contextlib.nullcontext()
        return sdpa_kernel(SDPBackend.MATH)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if not self.autocasts:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


def _count(groups: Sequence[Group], per: Per) -> int:
    """By how much groups count in the loss of their batch."""
    if per == "token":
        return sum(len(row.answer_ids) for group in groups for row in group)
    return len(groups)


def round_weights(network: Any) -> None:
    """Put a network's weights into bfloat16, and nothing else of it: rotary frequencies would lose
    positions.

    Args:
        network: of transformers; changed in place.
    """
    for weight in network.parameters():
        weight.data = weight.data.bfloat16()


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's random numbers, which only dropout takes here, as functions of the seed.

    Args:
        seed: any whole number.
        device: whose random numbers are meant beside the CPU's.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _padded(groups: Sequence[Group]) -> int:
    """Tokens of groups as one pass reads them, with padding."""
    sizes = [len(row.prompt_ids) + len(row.answer_ids) for group in groups for row in group]
    return len(sizes) * max(sizes)


def _prefers_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def _processes(device: torch.device) -> Any:
    """accelerate's view of the processes that torchrun started, or None where there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from accelerate import Accelerator

    return Accelerator(cpu=device.type == "cpu")
