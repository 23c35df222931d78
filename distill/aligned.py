"""Logprobs of one vocabulary beside a student of another: which positions are compared, and how.

Axes: P pairs of positions, V the student's vocabulary, K released entries.

Sources: `sorted_distance` is that of Universal Logit Distillation (Boizard et al. 2024,
2402.12030); `byte_spans`, the product over a span and `hybrid_distance` are ports of TRL 1.16's
GOLD trainer (`ULDLoss`, merge strategy `bayesian`), whose matched tokens are those of equal names
and here those of equal bytes. Where only a part of a row was released, the rest is one bucket
(`sorted_distance`) or left out (`hybrid_distance`), which neither source has.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from distill.losses import divergence

LEAST = 1e-8
"""A probability below it counts as it, as GOLD has it."""
Span = tuple[int, int]


def token_ends(lengths: Sequence[int], finished: bool) -> list[int]:
    """Where each token of a text ends, in bytes; the end of a finished text counts as one more.

    Args:
        lengths: bytes of each token, without an end-of-text.
        finished: whether the text ends with end-of-text.
    """
    return list(accumulate([*lengths, *[1] * finished]))


def byte_spans(first: Sequence[int], second: Sequence[int]) -> list[tuple[Span, Span]]:
    """The shortest spans of tokens, from and up to, that begin and end at the same bytes.

    Args:
        first: where each token of one tokenization ends; rising, but for tokens of no bytes.
        second: the same of the other.

    What is left behind the last byte at which both have a boundary is in no span.
    """
    spans, a, b, begun = list[tuple[Span, Span]](), 0, 0, (0, 0)
    while a < len(first) and b < len(second):
        end = first[a], second[b]
        a += end[0] <= end[1]
        b += end[1] <= end[0]
        if end[0] == end[1]:
            spans.append(((begun[0], a), (begun[1], b)))
            begun = a, b
    return spans


def sorted_distance(student_PV: Tensor, teacher_PK: Tensor, tail_P: Tensor) -> Tensor:
    """L1 between the probabilities of each pair in falling order `[P]`, whatever tokens
    they are of.

    Args:
        student_PV: probabilities.
        teacher_PK: released probabilities, in any order; 0 where withheld.
        tail_P: the probability that was not released, which is compared in one bucket.
    """
    size = min(student_PV.shape[-1], teacher_PK.shape[-1])
    ours_PV = student_PV.sort(-1, descending=True).values
    theirs_PK = teacher_PK.sort(-1, descending=True).values
    # Where the teacher has more tokens than the student, these are compared with 0.
    beyond_P = theirs_PK[:, size:].sum(-1)
    within_P = (ours_PV[:, :size] - theirs_PK[:, :size]).abs().sum(-1)
    rest_P = (ours_PV[:, size:].sum(-1) - tail_P).abs()
    return within_P + beyond_P + rest_P


def hybrid_distance(
    student_PV: Tensor,
    teacher_PK: Tensor,
    ids_PK: Tensor,
    matched_V: Tensor,
    *,
    share: float,
    beta: float,
    whole: bool,
) -> Tensor:
    """GOLD's hybrid `[P]`: a generalised JSD of tokens that both vocabularies have, and sorted L1
    of the others.

    Args:
        student_PV, teacher_PK: probabilities of spans, which need not sum to 1.
        ids_PK: the student's token that spells the same; -1 where there is none or it was withheld.
        matched_V: whether a token of the teacher spells what the student's does.
        share: the weight of the JSD; the others have the rest.
        beta: of the JSD, the teacher's share of the mixture.
        whole: whether all of the teacher's tokens were released.
    """
    known_PK = ids_PK >= 0
    ours_PK = student_PV.gather(-1, ids_PK.clamp(min=0))
    p_PK1, q_PK1 = (each.clamp_min(LEAST).log()[..., None] for each in (teacher_PK, ours_PK))
    jsd_PK = divergence("jsd", p_PK1, q_PK1, beta=beta).masked_fill(~known_PK, 0)
    others_PV = student_PV.masked_fill(matched_V, 0)
    theirs_PK = teacher_PK.masked_fill(known_PK, 0)
    tail_P = torch.zeros_like(theirs_PK[:, 0])
    if not whole:  # of what was not released, nothing is compared
        others_PV = others_PV.topk(min(theirs_PK.shape[-1], others_PV.shape[-1]), -1).values
    return share * jsd_PK.sum(-1) + (1 - share) * sorted_distance(others_PV, theirs_PK, tail_P)
