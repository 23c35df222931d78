"""Muon: the momentum of every matrix, orthogonalised, as its step (Jordan et al. 2024, a post on
the net).

The numbers are those of `torch.optim.Muon` in float32 instead of bfloat16. Matrices of one shape
are orthogonalised together, in few large kernels. Axes: M matrices of one shape, R rows, C columns,
R <= C.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

QUINTIC = 3.4445, -4.7750, 2.0315
"""Jordan's coefficients: five rounds bring singular values between 0.01 and 1 near 1, to about 0.7
to 1.2.
"""


def orthogonalised(g_MRC: Tensor, rounds: int = 5) -> Tensor:
    """Each matrix with its singular values near 1, by a Newton-Schulz iteration; a zero matrix
    stays zero.
    """
    a, b, c = QUINTIC
    x_MRC = g_MRC / (torch.linalg.matrix_norm(g_MRC, keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram_MRR = x_MRC @ x_MRC.mT
        x_MRC = torch.baddbmm(
            x_MRC, torch.baddbmm(gram_MRR, gram_MRR, gram_MRR, beta=b, alpha=c), x_MRC, beta=a
        )
    return x_MRC


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, then an orthogonal step of `lr` x sqrt(max(1, outputs / inputs));
    decoupled weight decay.
    """

    def __init__(
        self, matrices: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; matrices without a gradient stay."""
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for one in group["params"]:
                if one.grad is not None:
                    alike[min(one.shape), max(one.shape)].append(one)
            for matrices in alike.values():
                self._move(
                    matrices, **{name: group[name] for name in ("lr", "momentum", "weight_decay")}
                )

    def _move(
        self, matrices: list[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        grads = [one.grad for one in matrices if one.grad is not None]
        held = [self.state[one].setdefault("momentum", torch.zeros_like(one)) for one in matrices]
        torch._foreach_lerp_(held, grads, 1 - momentum)
        ahead = torch._foreach_lerp(grads, held, momentum)
        tall = [one.shape[0] > one.shape[1] for one in matrices]
        steps_MRC = orthogonalised(
            torch.stack(
                [one.mT if turned else one for one, turned in zip(ahead, tall, strict=True)]
            )
        )
        for one, step_RC, turned in zip(matrices, steps_MRC, tall, strict=True):
            if weight_decay:
                one.mul_(1 - lr * weight_decay)
            far = lr * max(1.0, one.shape[0] / one.shape[1]) ** 0.5
            one.add_(step_RC.mT if turned else step_RC, alpha=-far)
