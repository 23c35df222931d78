"""What an attacker does to released logprobs: `clean(completions, resources, seed=...)` returns
completions with other logprobs.

Axes: T positions, K released entries, V vocabulary, A atoms (the first entries of a row, and all
else as the last).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from distill.completions import BadInput, Completion, Logprobs


def rows_of(answer: Completion, name: str) -> Logprobs:
    """The released rows of an answer.

    Args:
        answer: as it was sold.
        name: of the part that asks, for its message.

    Raises:
        BadInput: it has none.
    """
    if answer.logprobs is None:
        raise BadInput(
            f"attacker {name}: answer {answer.prompt_id!r} has no logprobs; use a profile that "
            "gives them"
        )
    return answer.logprobs


def dense(logprobs: Logprobs, size: int, missing: float = 0.0) -> np.ndarray:
    """Probabilities `[T, size]` in float64; what was not released has `missing`.

    Args:
        logprobs: T rows.
        size: V, tokens of the vocabulary.
        missing: value of what was not released.
    """
    p_TV = np.full((len(logprobs.ids_TK), size), missing)
    t, k = np.nonzero(logprobs.ids_TK >= 0)
    p_TV[t, logprobs.ids_TK[t, k]] = np.exp(logprobs.values_TK[t, k].astype(np.float64))
    return p_TV


def sparse(p_TV: np.ndarray, k: int) -> Logprobs:
    """The k largest probabilities of each row, largest first, as logprobs (float32); equals by id,
    0 as withheld.

    Args:
        p_TV: probabilities.
        k: entries a row.
    """
    ids_TK = np.argsort(-p_TV, -1, kind="stable")[:, :k].astype(np.int32)
    kept_TK = np.take_along_axis(p_TV, ids_TK, -1)
    with np.errstate(divide="ignore"):  # what has no mass has logprob -inf
        return Logprobs(np.where(kept_TK > 0, ids_TK, -1), np.log(kept_TK).astype(np.float32))


def with_logprobs(completions: Sequence[Completion], rows: Sequence[Logprobs]) -> list[Completion]:
    """The answers with other rows; text and tokens stay.

    Args:
        completions: answers.
        rows: of each answer.
    """
    return [replace(answer, logprobs=one) for answer, one in zip(completions, rows, strict=True)]


def atoms(logprobs: Logprobs, most: int | None = None) -> np.ndarray:
    """Probabilities `[T, A]` of the first `most` entries of each row, and last of all else; 0 where
    withheld.

    Args:
        logprobs: T rows.
        most: A - 1; None takes all entries.
    """
    p_TK = np.exp(logprobs.values_TK[:, :most].astype(np.float64))
    mass_T1 = p_TK.sum(-1, keepdims=True)
    p_TK /= np.maximum(mass_T1, 1)  # rounding may have made it more than 1
    return np.concatenate([p_TK, np.maximum(1 - mass_T1, 0)], -1)


def replace_logprobs(logprobs: Logprobs, p_TA: np.ndarray) -> Logprobs:
    """Rows with other `atoms`, most likely first; what is behind the first entries keeps its share
    of all else.

    Args:
        logprobs: T rows, as they were sold.
        p_TA: of their first A - 1 entries, and of all else.
    """
    first = p_TA.shape[1] - 1
    before_TA = atoms(logprobs, first)
    values_TK = np.full(logprobs.values_TK.shape, -np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):  # what has no mass has logprob -inf
        values_TK[:, :first] = np.log(p_TA[:, :-1])
        moved_T1 = np.where(
            before_TA[:, -1:] > 0, np.log(p_TA[:, -1:]) - np.log(before_TA[:, -1:]), 0
        )
    values_TK[:, first:] = logprobs.values_TK[:, first:] + moved_T1
    values_TK[logprobs.ids_TK < 0] = -np.inf
    order_TK = np.argsort(-values_TK, -1, kind="stable")
    values_TK = np.take_along_axis(values_TK, order_TK, -1).astype(np.float32)
    return Logprobs(np.take_along_axis(logprobs.ids_TK, order_TK, -1), values_TK)
