"""What a student minimises; pure functions of tensors. N loss positions, V vocabulary, K released entries; nats."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Mean negative log-likelihood of the targets, nats a token."""
    return functional.cross_entropy(logits_NV.float(), targets_N)


def weighted_cross_entropy(logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor) -> Tensor:
    """Weighted mean negative log-likelihood; weights of any sign, divided by their number and not by their sum."""
    nats_N = functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    return (weights_N * nats_N).mean()


def forward_kl_tail(logits_NV: Tensor, ids_NK: Tensor, logprobs_NK: Tensor, tail_N: Tensor | None = None) -> Tensor:
    """Mean KL(teacher || student) over K + 1 categories: the released tokens, and one bucket for all others.

    A valid KL and a lower bound of the full one (data processing); equal to it when K = V. Withheld entries have
    id -1 and logprob -inf. Released mass above one (a rounding defence) is renormalised. `tail_N` is the log of the
    mass left out, where a cache kept it at more precision than the rounded logprobs give; None derives it.
    """
    kept_NK = ids_NK >= 0
    student_NK = (
        torch.log_softmax(logits_NV.float(), -1).gather(-1, ids_NK.clamp(min=0)).masked_fill(~kept_NK, -torch.inf)
    )
    mass_N1 = logprobs_NK.logsumexp(-1, keepdim=True)
    teacher_NK = logprobs_NK - mass_N1.clamp(min=0)
    known = torch.where(kept_NK & (teacher_NK > -torch.inf), teacher_NK.exp() * (teacher_NK - student_NK), 0.0)
    tail_N = -torch.expm1(mass_N1.squeeze(-1).clamp(max=0)) if tail_N is None else tail_N.exp()
    left_N = (1 - student_NK.exp().sum(-1)).clamp(min=1e-9)
    # Below fp32 resolution the tail is rounding error of the sum, not probability.
    tail = torch.where(tail_N > 1e-6, tail_N * (tail_N.clamp(min=1e-9).log() - left_N.log()), 0.0)
    return (known.sum(-1) + tail).mean()
