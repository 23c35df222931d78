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


def orthogonalise(g_MRC: Tensor, rounds: int = 5) -> Tensor:
    """Each matrix with its singular values near 1, by a Newton-Schulz iteration; a zero matrix
    stays zero.

    Args:
        g_MRC: M matrices, R <= C.
        rounds: of the iteration.

    Returns:
        `[M, R, C]`.
    """
    a, b, c = QUINTIC
    # The Frobenius norm is no less than any singular value; the iteration diverges from large ones.
    x_MRC: Tensor = g_MRC / (torch.linalg.matrix_norm(g_MRC, keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram_MRR = x_MRC @ x_MRC.mT
        x_MRC = torch.baddbmm(
            x_MRC, torch.baddbmm(gram_MRR, gram_MRR, gram_MRR, beta=b, alpha=c), x_MRC, beta=a
        )
    return x_MRC


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, then an orthogonal step of `lr` x sqrt(max(1, outputs / inputs));
    decoupled weight decay.

    Args:
        matrices: weights of two dimensions, or groups of them as torch's optimisers take.
        lr: step size.
        momentum: share of the old direction that is kept, 0 to 1.
        weight_decay: share of a weight that a step of `lr` 1 takes away.
    """

    def __init__(
        self, matrices: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; matrices without a gradient stay.

        Args:
            closure: not used; torch's optimisers have it.
        """
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[min(matrix.shape), max(matrix.shape)].append(matrix)
            for matrices in alike.values():
                self._move(
                    matrices, **{name: group[name] for name in ("lr", "momentum", "weight_decay")}
                )

    def _move(
        self, matrices: list[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        grads = [matrix.grad for matrix in matrices if matrix.grad is not None]
        momenta = [
            self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
            for matrix in matrices
        ]
        torch._foreach_lerp_(momenta, grads, 1 - momentum)
        ahead = torch._foreach_lerp(grads, momenta, momentum)
        # Turned so that R <= C: the Gram matrix is the small one, and W and W' go together.
        tall = [matrix.shape[0] > matrix.shape[1] for matrix in matrices]
        steps_MRC = orthogonalise(
            torch.stack(
                [
                    matrix.mT if turned else matrix
                    for matrix, turned in zip(ahead, tall, strict=True)
                ]
            )
        )
        for matrix, step_RC, turned in zip(matrices, steps_MRC, tall, strict=True):
            if weight_decay:
                matrix.mul_(1 - lr * weight_decay)
            far = lr * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
            matrix.add_(step_RC.mT if turned else step_RC, alpha=-far)
