"""Contrasts of arms with the two-way (seed x item) variance. An arm is an S x N array of scores in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Refuse(ValueError):
    """There is nothing to measure here, and why."""


class Estimate(NamedTuple):
    """A value with its standard error, degrees of freedom and interval; `se` 0 means that the outputs never varied."""

    value: float
    se: float
    df: float
    lo: float
    hi: float


class _Parts(NamedTuple):
    items_N: np.ndarray
    seed_variance: float
    residual: float
    seeds: int


def _parts(scores_SN: np.ndarray) -> _Parts:
    Y = np.asarray(scores_SN, float)
    if Y.ndim != 2 or Y.shape[0] < 1 or Y.shape[1] < 2:
        raise Refuse(f"an arm is seeds x items with at least two items, got shape {Y.shape}")
    if not np.isfinite(Y).all():
        raise Refuse("a score is not finite; a crashed run or a failed extraction must be resolved first")
    S, N = Y.shape
    items, seeds = Y.mean(0), Y.mean(1)
    if S == 1:
        return _Parts(items, 0.0, 0.0, 1)
    square = ((Y - seeds[:, None] - items + Y.mean()) ** 2).sum() / ((S - 1) * (N - 1))
    return _Parts(items, float(seeds.var(ddof=1)) / S, float(square) / (S * N), S)


def contrast(arms: Sequence[np.ndarray], weights: Sequence[float], *, alpha: float = 0.05) -> Estimate:
    """Sum of weighted arm means, paired over items, with Satterthwaite's t interval.

    Source: two-way random-effects variance (Owen 2007); V = sum c^2 V_seed + V_item - sum c^2 R, bounded below by each
    of its two parts. An arm of one seed counts as deterministic. Raises Refuse on misaligned or non-finite scores.
    """
    parts = [_parts(arm) for arm in arms]
    if len({len(part.items_N) for part in parts}) != 1:
        raise Refuse(f"arms were scored on different items: {[len(part.items_N) for part in parts]}")
    N = len(parts[0].items_N)
    line_N = sum(c * part.items_N for c, part in zip(weights, parts, strict=True))
    value, item = float(np.mean(line_N)), float(np.var(line_N, ddof=1)) / N
    seed = [c * c * part.seed_variance for c, part in zip(weights, parts, strict=True)]
    residual = [c * c * part.residual for c, part in zip(weights, parts, strict=True)]
    variance = max(sum(seed) + item - sum(residual), sum(seed), item)
    if variance <= 0:
        return Estimate(value, 0.0, np.inf, value, value)
    free = item**2 / (N - 1)
    for s, r, part in zip(seed, residual, parts, strict=True):
        if part.seeds > 1:
            free += s**2 / (part.seeds - 1) + r**2 / ((part.seeds - 1) * (N - 1))
    df, se = max(variance**2 / free, 1.0), variance**0.5
    half = float(stats.t.ppf(1 - alpha / 2, df)) * se
    return Estimate(value, se, df, value - half, value + half)


def arm_mean(scores_SN: np.ndarray, *, alpha: float = 0.05) -> Estimate:
    """Mean of one arm; Wilson's interval (1927) for a single deterministic model, else the two-way t."""
    Y = np.asarray(scores_SN, float)
    if Y.shape[0] > 1:
        return contrast([Y], [1], alpha=alpha)
    if not np.isin(Y, (0, 1)).all():
        raise Refuse("Wilson's interval needs scores of 0 or 1")
    lo, hi = stats.binomtest(int(Y.sum()), Y.size).proportion_ci(1 - alpha, "wilson")
    return Estimate(float(Y.mean()), float(Y.std() / Y.size**0.5), np.inf, float(lo), float(hi))
