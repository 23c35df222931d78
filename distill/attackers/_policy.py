"""What learners from a student's own answers share: the log-probabilities that networks give to an
answer's tokens.

Axes: B rows, N positions that carry loss, A networks that are asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from distill.completions import Logprobs
from distill.objectives import Example, released_logprobs, score_answers


def token_logprobs(
    network: Any, rows: list[Example], pad: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The log-probability of each answer token `[N]`, nats, and the row that it is in `[N]`.

    Args:
        network: a causal language model.
        rows: B answers to their prompts.
        pad: id behind the shorter ones.
        device: of the network.
    """
    seen = score_answers(network, rows, pad, device)
    return -functional.cross_entropy(
        seen.logits_NV.float(), seen.targets_N, reduction="none"
    ), seen.row_N


def totals(values_N: Tensor, row_N: Tensor, count: int) -> Tensor:
    """The sum of the values of each row `[B]`.

    Args:
        values_N: one a token.
        row_N: the row that each is in.
        count: B.
    """
    return torch.zeros(count, device=values_N.device).index_add(0, row_N, values_N)


def means(values_N: Tensor, row_N: Tensor, count: int) -> Tensor:
    """The mean of the values of each row `[B]`, every row with at least one.

    Args:
        values_N: one a token.
        row_N: the row that each is in.
        count: B.
    """
    return totals(values_N, row_N, count) / torch.bincount(row_N, minlength=count)


@torch.no_grad()
def with_reference_logprobs(
    groups: Sequence[Sequence[Example]], networks: Sequence[Any], pad: int, size: int = 64
) -> list[list[Example]]:
    """The groups with what each of A networks gives to every token, in `logprobs` (A columns of the
    token's own id).

    Groups in which an answer has no token are left out, as in training.

    Args:
        groups: rows that belong together, such as a pair.
        networks: A frozen ones.
        pad: id behind the shorter rows.
        size: rows that are scored together.
    """
    whole = [list(group) for group in groups if all(one.answer_ids for one in group)]
    rows = [one for group in whole for one in group]
    values = []
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        values_NA = (
            torch.stack([token_logprobs(n.eval(), batch, pad, n.device)[0] for n in networks], -1)
            .cpu()
            .numpy()
        )
        values += np.split(values_NA, np.cumsum([len(one.answer_ids) for one in batch])[:-1])
    noted = (
        replace(one, logprobs=_of(one, values_TA))
        for one, values_TA in zip(rows, values, strict=True)
    )
    return [[next(noted) for _ in group] for group in whole]


def _of(example: Example, values_TA: np.ndarray) -> Logprobs:
    ids_T1 = np.array(example.answer_ids, np.int32)[:, None]
    return Logprobs(ids_T1.repeat(values_TA.shape[1], 1), values_TA.astype(np.float32))


def reference_logprobs(rows: list[Example], device: torch.device) -> Tensor:
    """What `with_reference_logprobs` noted for the answers' tokens `[N, A]`, in the order of
    `token_logprobs`.

    Args:
        rows: as `with_reference_logprobs` left them.
        device: of the result.
    """
    return released_logprobs(rows, device)[1]
