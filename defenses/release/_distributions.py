"""A released row as a distribution over atoms: its K tokens, and the tail, which is all that was
not released.

So what a posterior defence costs depends on K, and not on the vocabulary. Axes: T positions, K
released entries, A atoms (A = K + 1, the tail last).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from distill.completions import Logprobs

RESOLUTION = 1e-6  # a tail below it may be rounding of the row's float32 values, and no tail at all
FEW_RISES = 0.01  # share of values larger than the one before them
# Entries of all rows that are worked on together: what is in between should stay in the cache.
AT_ONCE = 1 << 18


def blocks(count: int, width: int) -> Iterator[slice]:
    """Slices that divide `count` rows of this width into as many as are worked on together.

    Args:
        count: rows.
        width: entries of a row.
    """
    step = max(1, AT_ONCE // max(1, width))
    return (slice(first, first + step) for first in range(0, count, step))


def atom_probabilities(logprobs: Logprobs) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (T, A) in float64, and which atoms there are: not withheld entries, nor a tail
    below 1e-6.

    Args:
        logprobs: T released rows, with or without their tail.

    Returns:
        Probabilities `[T, A]` and a mask `[T, A]`; A is the entries and the tail.
    """
    p_TK = np.exp(logprobs.values_TK.astype(np.float64))
    tails_T = (
        1 - p_TK.sum(-1) if logprobs.tail_T is None else np.exp(logprobs.tail_T.astype(np.float64))
    )
    tails_T1 = np.where(tails_T > RESOLUTION, tails_T, 0)[:, None]
    return np.concatenate([p_TK, tails_T1], -1), np.concatenate(
        [logprobs.ids_TK >= 0, tails_T1 > 0], -1
    )


def take_along(values_TK: np.ndarray, order_TK: np.ndarray) -> np.ndarray:
    """`np.take_along_axis` over rows of one length, which takes a third of its time.

    Args:
        values_TK: T rows of K values.
        order_TK: places in each row, 0 to K - 1.

    Returns:
        `[T, K]` in the dtype of the values.
    """
    firsts_T1 = np.arange(len(order_TK))[:, None] * values_TK.shape[1]
    taken_TK: np.ndarray = np.ascontiguousarray(values_TK).ravel().take(order_TK + firsts_T1)
    return taken_TK


def argsort_ascending(keys_TK: np.ndarray) -> np.ndarray:
    """The order `[T, K]` of each row's 32-bit keys from the smallest on, as unsigned numbers,
    equals in their old order.

    Two passes of numpy's radix sort, which is for 16 bits: at 128,000 keys a fifth of the time that
    sorting takes.

    Args:
        keys_TK: T rows of K keys.
    """
    low_TK = np.argsort(keys_TK.astype(np.uint16), -1, kind="stable")
    high_TK = take_along((keys_TK.view(np.uint32) >> 16).astype(np.uint16), low_TK)
    return take_along(low_TK, np.argsort(high_TK, -1, kind="stable"))


def argsort_descending(values_TK: np.ndarray) -> np.ndarray:
    """The order `[T, K]` of each row's values from the largest on, equals in their old order.

    Rows with few rises are sorted run by run; others of float32 by their bits, which order as the
    values do once negative ones are turned round.

    Args:
        values_TK: T rows of K finite or infinite values.
    """
    few = np.count_nonzero(values_TK[:, 1:] > values_TK[:, :-1]) <= FEW_RISES * values_TK.size
    if few or values_TK.dtype != np.float32:
        return np.argsort(-values_TK, -1, kind="stable")
    keys_TK = (0 - values_TK).view(np.uint32)  # of either zero the positive one, as they are equal
    keys_TK ^= (keys_TK.view(np.int32) >> 31).view(np.uint32) | np.uint32(1 << 31)
    return argsort_ascending(keys_TK)


def sort_descending(ids_TK: np.ndarray, values_TK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids and values of each row from the largest value on, equals in their old order.

    Args:
        ids_TK: T rows of K token ids.
        values_TK: of each id.

    Returns:
        Ids and values, `[T, K]` each.
    """
    sorted_ids_TK, sorted_TK = np.empty_like(ids_TK), np.empty_like(values_TK)
    for rows in blocks(*values_TK.shape):
        order_TK = argsort_descending(values_TK[rows])
        sorted_ids_TK[rows] = take_along(ids_TK[rows], order_TK)
        sorted_TK[rows] = take_along(values_TK[rows], order_TK)
    return sorted_ids_TK, sorted_TK


def replace_probabilities(logprobs: Logprobs, p_TA: np.ndarray) -> Logprobs:
    """The row with these probabilities instead, most likely first, equals in their old order, in
    the old dtype.

    Args:
        logprobs: T rows of A - 1 entries.
        p_TA: probabilities of the entries, and last of all else.
    """
    with np.errstate(divide="ignore"):  # what has no mass has logprob -inf
        values_TK = np.log(p_TA[:, :-1]).astype(logprobs.values_TK.dtype)
        tail_T = (
            None if logprobs.tail_T is None else np.log(p_TA[:, -1]).astype(logprobs.tail_T.dtype)
        )
    return Logprobs(*sort_descending(logprobs.ids_TK, values_TK), tail_T)
