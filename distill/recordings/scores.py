"""Recorded logprobs, held to what a model's can be: token ids, and nats that are finite, at most 0
and no more than all of the probability; most likely first.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from distill.completions import BadInput, Completion, Logprobs

MOST = 2**31 - 1  # the largest token id that answer files hold
ABOVE = 0.01  # by which rounding may lift a row's probabilities above 1
FIT = "token_ids and logprobs do not fit together"

ScoredRow = Sequence[tuple[Any, Any]]
"""What was released of one position: pairs of a token id and its logarithm, in any order."""


def token_ids(where: str, value: Any) -> tuple[int, ...]:
    """A list of token ids; none where there is nothing.

    Args:
        where: file and row, for messages.
        value: as JSON gave it.

    Raises:
        BadInput: it is anything else.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadInput(f"{where}: {FIT} ({reprlib.repr(value)} where a list should be)")
    for token in value:
        _check_id(where, token)
    return tuple(value)


def released(where: str, rows: Iterable[ScoredRow], closing: bool = False) -> Logprobs:
    """Rows of one width as arrays, each sorted.

    Args:
        where: the place that errors begin with.
        rows: by position, logprobs in nats by token.
        closing: whether a row for end-of-text is missing, of which a server says nothing: one whose
            entries are withheld is put behind the others.

    Raises:
        BadInput: a row can be no model's, or widths differ.
    """
    ordered = [_ordered(where, row) for row in rows]
    widths = sorted({len(row) for row in ordered})
    if len(widths) != 1 or not widths[0]:
        raise BadInput(f"{where}: {FIT} (rows of {widths or 'no'} entries)")
    ids_TK = np.array([[token for token, _ in row] for row in ordered], "i4")
    with np.errstate(over="ignore"):
        values_TK = np.array([[value for _, value in row] for row in ordered], "f4")
    if closing:
        ids_TK = np.pad(ids_TK, ((0, 1), (0, 0)), constant_values=-1)
        values_TK = np.pad(values_TK, ((0, 1), (0, 0)), constant_values=-np.inf)
    return Logprobs(ids_TK, values_TK)


def _ordered(where: str, row: ScoredRow) -> list[tuple[int, float]]:
    """A row, most likely first."""
    for token, value in row:
        _check_id(where, token)
        if type(value) not in (int, float):
            raise BadInput(f"{where}: {FIT} ({reprlib.repr(value)} where a number should be)")
    ids = [token for token, _ in row]
    if len({*ids}) < len(ids):
        raise BadInput(f"{where}: {FIT} (token {max(ids, key=ids.count)} is twice in a row)")
    return sorted(row, key=lambda pair: -pair[1])


def _check_id(where: str, token: Any) -> None:
    if type(token) is not int:
        raise BadInput(f"{where}: {FIT} ({reprlib.repr(token)} where a whole number should be)")
    if not 0 <= token <= MOST:
        raise BadInput(f"{where}: token_ids and logprobs: a token id is 0 to {MOST}, got {token}")


def check(where: str, answer: Completion) -> Completion:
    """The answer, if its token ids and logprobs can be a model's.

    Args:
        where: file and row, for messages.
        answer: as it was read.

    Raises:
        BadInput: they cannot.
    """
    for token in answer.token_ids:
        _check_id(where, token)
    logprobs = answer.logprobs
    if logprobs is None:
        return answer
    ids_TK, values_TK = logprobs.ids_TK, logprobs.values_TK
    rows, tokens = len(ids_TK), len(answer.token_ids) + answer.finished
    if ids_TK.shape != values_TK.shape or ids_TK.ndim != 2 or rows != tokens or not ids_TK.size:
        raise BadInput(
            f"{where}: {FIT} ({rows} rows of logprobs for {tokens} predicted tokens, end-of-text "
            "with them)"
        )
    _check_values(where, ids_TK, values_TK)
    return answer


def _check_values(where: str, ids_TK: np.ndarray, values_TK: np.ndarray) -> None:
    withheld_TK = (ids_TK == -1) & np.isneginf(values_TK)
    sound_TK = (ids_TK >= 0) & (values_TK <= 0) & np.isfinite(values_TK)
    if not (sound_TK | withheld_TK).all():
        raise BadInput(
            f"{where}: token_ids and logprobs: ids must be at least 0, and values finite and at "
            "most 0"
        )
    mass_T = np.exp(values_TK.astype(np.float64)).sum(-1)
    if mass_T.max() > 1 + ABOVE:
        raise BadInput(
            f"{where}: token_ids and logprobs: the probabilities of row {int(mass_T.argmax())} sum "
            f"to {mass_T.max():.4g}, more than 1; values are natural logarithms"
        )
