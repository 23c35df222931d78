"""What an attacker does to released logprobs: `clean(said, own, seed=...)` returns answers with other logprobs.

Axes: T positions, K released entries, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from distill.answers import Answer, BadInput, Logprobs


def rows_of(answer: Answer, name: str) -> Logprobs:
    """The released rows of an answer; BadInput for a part `name` where there are none."""
    if answer.logprobs is None:
        raise BadInput(f"attacker {name}: answer {answer.prompt_id!r} has no logprobs; use a profile that gives them")
    return answer.logprobs


def dense(logprobs: Logprobs, size: int, missing: float = 0.0) -> np.ndarray:
    """Probabilities (T, size) in float64; what was not released has `missing`."""
    p_TV = np.full((len(logprobs.ids_TK), size), missing)
    t, k = np.nonzero(logprobs.ids_TK >= 0)
    p_TV[t, logprobs.ids_TK[t, k]] = np.exp(logprobs.values_TK[t, k].astype(np.float64))
    return p_TV


def sparse(p_TV: np.ndarray, k: int) -> Logprobs:
    """The k largest probabilities of each row, largest first, as logprobs (float32); equals by id, 0 as withheld."""
    ids_TK = np.argsort(-p_TV, -1, kind="stable")[:, :k].astype(np.int32)
    kept_TK = np.take_along_axis(p_TV, ids_TK, -1)
    with np.errstate(divide="ignore"):  # what has no mass has logprob -inf
        return Logprobs(np.where(kept_TK > 0, ids_TK, -1), np.log(kept_TK).astype(np.float32))


def with_rows(said: Sequence[Answer], rows: Sequence[Logprobs]) -> list[Answer]:
    """The answers with other rows; text and tokens stay."""
    return [replace(answer, logprobs=one) for answer, one in zip(said, rows, strict=True)]
