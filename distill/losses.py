"""Divergences of released logprobs; pure functions of tensors. N loss positions, V vocabulary, K
entries; nats.

A divergence of released logprobs is two choices. `categories` says what is compared, because a
released row is only a part of a distribution: two log-distributions over C categories. `divergence`
says how. docs/losses.md has the formulas, and what other frameworks mean by the same names. All
values are true divergences: the teacher's entropy is included.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from distill.completions import BadInput

Divergence = Literal["forward", "reverse", "jsd", "skew", "skew_reverse", "tvd"]
Semantics = Literal["tail", "renorm_teacher", "conditional", "truncated"]

NOTHING = -100.0
"""Stands for log 0 where a logarithm must be finite: e**-100 is below float32's normal range."""
RESOLUTION = 1e-6
"""A tail below it may be rounding of the row's float32 values."""


def kl(p_NC: Tensor, q_NC: Tensor) -> Tensor:
    """KL(p || q) of each row of two log-distributions, nats `[N]`.

    Args:
        p_NC: without infinities.
        q_NC: without infinities.
    """
    return (p_NC.exp() * (p_NC - q_NC)).sum(-1)


def mixture(p_NC: Tensor, q_NC: Tensor, weight: float) -> Tensor:
    """log(weight p + (1 - weight) q) of two log-distributions.

    Args:
        p_NC: log-distributions.
        q_NC: log-distributions.
        weight: of p, in (0, 1).

    Returns:
        Log-probabilities `[N, C]`.
    """
    return torch.logaddexp(p_NC + math.log(weight), q_NC + math.log1p(-weight))


def divergence(
    kind: Divergence,
    teacher_NC: Tensor,
    student_NC: Tensor,
    *,
    beta: float = 0.5,
    skew: float = 0.1,
) -> Tensor:
    """How far each row of two log-distributions is apart `[N]`; total variation in [0, 1], all
    others in nats.

    Source: `forward` is that of soft targets (Hinton et al. 2015, 1503.02531), `reverse` MiniLLM's
    `single_step_reg`, `tvd` DistillKit's; docs/losses.md has the formulas.

    Args:
        kind: divergence.
        teacher_NC: log-distributions.
        student_NC: log-distributions.
        beta: the teacher's share of the mixture in `jsd` (2306.13649; TRL's convention: 0 is
            forward KL, 1 reverse).
        skew: share of the first argument in the mixture of `skew` and `skew_reverse` (2402.03898),
            in (0, 1).
    """
    p, q = teacher_NC, student_NC
    match kind:
        case "forward":
            return kl(p, q)
        case "reverse":
            return kl(q, p)
        case "skew":
            return kl(p, mixture(p, q, skew))
        case "skew_reverse":
            return kl(q, mixture(q, p, skew))
        case "tvd":
            return 0.5 * (p.exp() - q.exp()).abs().sum(-1)
        case "jsd" if beta in (0, 1):  # the formula itself would give 0
            return kl(q, p) if beta else kl(p, q)
        case "jsd":
            between_NC = mixture(p, q, beta)
            return beta * kl(p, between_NC) + (1 - beta) * kl(q, between_NC)


def categories(
    semantics: Semantics,
    logits_NV: Tensor,
    ids_NK: Tensor,
    logprobs_NK: Tensor,
    tail_N: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Teacher and student as log-distributions over what is compared: the released tokens, and a
    bucket for the rest.

    `tail`: K + 1 categories, the last one all that was not released; no bucket where a row names
    all V tokens. `renorm_teacher`: the same, but the teacher's released tokens are made to sum to 1
    and its bucket is empty. `conditional`: K categories, both made to sum to 1. `truncated`: K
    categories as they are; these sum to less than 1. Withheld entries (id -1, logprob -inf) are
    categories of no mass on either side. Under `tail`, mass above 1 is made 1 and a teacher's
    bucket is at least RESOLUTION, which leaves reverse KL finite and a lower bound of the full one.

    Source: `tail` and `conditional` are the two of TRL's server (`loss_add_tail`), `renorm_teacher`
    is DistillKit's default, `truncated` verl's `forward_kl_topk`; docs/losses.md has what differs.

    Args:
        semantics: one of the four.
        logits_NV: the student's scores.
        ids_NK: released token ids.
        logprobs_NK: their logprobs in nats.
        tail_N: log of the mass left out; None derives it.

    Returns:
        Two log-distributions `[N, C]`, the teacher's first.
    """
    kept_NK = ids_NK >= 0
    all_NV = torch.log_softmax(logits_NV.float(), -1)
    student_NK = all_NV.gather(-1, ids_NK.clamp(min=0)).masked_fill(~kept_NK, NOTHING)
    # Of -inf, 0 x log 0 in `kl` would be no number.
    teacher_NK = logprobs_NK.clamp(min=NOTHING)
    mass_N1 = teacher_NK.logsumexp(-1, keepdim=True)
    whole_N1 = kept_NK.sum(-1, keepdim=True) == logits_NV.shape[-1]
    if semantics in ("conditional", "renorm_teacher"):
        teacher_NK = teacher_NK - mass_N1
    elif semantics == "tail":
        # Mass below 1 is short of the tail, and stays so; only a row of all V tokens has no tail.
        teacher_NK = teacher_NK - torch.where(whole_N1, mass_N1, mass_N1.clamp(min=0))
    teacher_NK = teacher_NK.masked_fill(~kept_NK, NOTHING)
    if semantics == "conditional":
        student_NK = (student_NK - student_NK.logsumexp(-1, keepdim=True)).masked_fill(
            ~kept_NK, NOTHING
        )
    if semantics in ("conditional", "truncated"):
        return teacher_NK, student_NK
    # Summed over the tokens that were not released: 1 minus the others would be rounding error
    # where it is small.
    size = logits_NV.shape[-1]
    named_NV = ids_NK.new_zeros(len(ids_NK), size + 1, dtype=torch.bool)
    named_NV = named_NV.scatter(-1, ids_NK.where(kept_NK, size), True)[:, :-1]
    left_N1 = (
        all_NV.masked_fill(named_NV, -torch.inf).logsumexp(-1, keepdim=True).clamp(min=NOTHING)
    )
    # 1 - e**mass has no digits left where the tail is small; expm1 keeps them.
    rest_N1 = (-torch.expm1(mass_N1.clamp(max=0))).log() if tail_N is None else tail_N[:, None]
    rest_N1 = rest_N1.clamp(min=math.log(RESOLUTION)).masked_fill(
        whole_N1 | (semantics != "tail"), NOTHING
    )
    return torch.cat([teacher_NK, rest_N1], -1), torch.cat([student_NK, left_N1], -1)


def check(kind: Divergence, semantics: Semantics, beta: float = 0.5) -> None:
    """Refuse a divergence that a student could lower by leaving the released tokens, or an infinite
    one.

    Args:
        kind: divergence.
        semantics: what of the released rows is compared.
        beta: the teacher's share in `jsd`.

    Raises:
        BadInput: `truncated` with another than forward KL, or reverse KL without `tail`.
    """
    if semantics == "truncated" and kind != "forward":
        raise BadInput(
            f"divergence {kind}: semantics truncated is for forward alone, got truncated"
        )
    if semantics != "tail" and (kind == "reverse" or (kind == "jsd" and beta == 1)):
        raise BadInput(
            f"divergence {kind}: reverse KL on released rows needs semantics tail, got {semantics}"
        )


def released_divergence(
    kind: Divergence,
    semantics: Semantics,
    logits_NV: Tensor,
    ids_NK: Tensor,
    logprobs_NK: Tensor,
    tail_N: Tensor | None = None,
    *,
    beta: float = 0.5,
    skew: float = 0.1,
) -> Tensor:
    """Mean divergence of released rows and the student, nats a position; total variation in [0, 1].

    Args:
        kind: divergence.
        semantics: what of the released rows is compared, see `categories`.
        logits_NV: the student's scores.
        ids_NK: released token ids; -1 is withheld.
        logprobs_NK: their logprobs in nats; -inf is withheld.
        tail_N: log of the mass left out; None derives it.
        beta: the teacher's share in `jsd`.
        skew: share of the first argument in `skew` and `skew_reverse`.

    Returns:
        `[]`.

    Raises:
        BadInput: a pair of divergence and semantics that `check` refuses.
    """
    check(kind, semantics, beta)
    pair = categories(semantics, logits_NV, ids_NK, logprobs_NK, tail_N)
    return divergence(kind, *pair, beta=beta, skew=skew).mean()


def forward_kl_tail(
    logits_NV: Tensor, ids_NK: Tensor, logprobs_NK: Tensor, tail_N: Tensor | None = None
) -> Tensor:
    """Mean KL(teacher || student) over K + 1 categories: the released tokens, and one bucket for
    all others.

    A valid KL and a lower bound of the full one (data processing); equal to it when K = V. Withheld
    entries have id -1 and logprob -inf. Released mass above one (a rounding defence) is
    renormalised.

    Args:
        logits_NV: the student's scores.
        ids_NK: released token ids.
        logprobs_NK: their logprobs in nats.
        tail_N: log of the mass left out, where a cache has it at more precision than the rounded
            logprobs give; None derives it.

    Returns:
        `[]`, nats a position.
    """
    pair = categories("tail", logits_NV, ids_NK, logprobs_NK, tail_N)
    return divergence("forward", *pair).mean()
