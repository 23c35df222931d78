"""Buckets of an encoder's vectors, learned without labels: k-means (Lloyd 1982), begun as k-means++
begins (Arthur and Vassilvitskii 2007).
"""

from __future__ import annotations

import numpy as np

from distill.campaigns import stream

ROUNDS = 100  # at most; it has long come to rest by then
STARTS = 8  # of which the one is kept whose vectors lie nearest to their centres


def learn_buckets(x_NE: np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """Centres of buckets, the same bytes for the same vectors.

    Args:
        x_NE: vectors, at least one.
        most: buckets at most; there are no more than different vectors.
        seed: of the first centres.

    Returns:
        `[K, E]`, float64.
    """
    x_NE = x_NE.astype(np.float64)
    runs = [_settled(x_NE, _first(x_NE, most, rng)) for rng in _streams(seed)]
    return min(runs, key=lambda centres_KE: _apart(x_NE, centres_KE))


def _streams(seed: int) -> list[np.random.Generator]:
    return [stream(seed, "buckets", start) for start in range(STARTS)]


def _settled(x_NE: np.ndarray, centres_KE: np.ndarray) -> np.ndarray:
    """Centres moved to the means of what is nearest to them until nothing changes."""
    bucket_N = np.full(len(x_NE), -1)
    for _ in range(ROUNDS):
        before, bucket_N = bucket_N, nearest_bucket(x_NE, centres_KE)
        if (before == bucket_N).all():
            break
        for bucket in np.unique(bucket_N):  # one that nothing is nearest to stays where it is
            centres_KE[bucket] = x_NE[bucket_N == bucket].mean(axis=0)
    return centres_KE


def _apart(x_NE: np.ndarray, centres_KE: np.ndarray) -> float:
    """Sum of squared distances of vectors from their centres."""
    return float(((x_NE - centres_KE[nearest_bucket(x_NE, centres_KE)]) ** 2).sum())


def _first(x_NE: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Vectors drawn in proportion to their squared distance from those drawn before."""
    chosen_at = [int(rng.integers(len(x_NE)))]
    near_N = np.full(len(x_NE), np.inf)
    while len(chosen_at) < most:
        near_N = np.minimum(near_N, ((x_NE - x_NE[chosen_at[-1]]) ** 2).sum(axis=1))
        total = near_N.sum()
        if not total > 0:
            break
        chosen_at.append(int(rng.choice(len(x_NE), p=near_N / total)))
    return x_NE[chosen_at]


def nearest_bucket(x_NE: np.ndarray, centres_KE: np.ndarray) -> np.ndarray:
    """The bucket whose centre is nearest, the first of equals.

    Args:
        x_NE: vectors.
        centres_KE: of the buckets.

    Returns:
        Numbers `[N]`.
    """
    gaps_NK = (centres_KE**2).sum(axis=1) - 2 * x_NE.astype(np.float64) @ centres_KE.T
    nearest: np.ndarray = gaps_NK.argmin(axis=1)
    return nearest
