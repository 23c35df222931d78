"""Contrasts of arms with the two-way (seed x item) variance (E1, E2, E4).

An arm is an array of scores, S seeds x N items, items common to all arms. Every function also takes leading axes (many
studies at once), which is how the simulations run the code that the report runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats

MIN_ITEMS, MIN_CLUSTERS = 50, 10


class Refuse(ValueError):
    """There is nothing to measure here, and why."""


class Estimate(NamedTuple):
    """A value with its standard error, degrees of freedom and interval.

    With no variance at all `se` is 0 and the interval NaN: identical outputs say nothing of how they would vary.
    """

    value: Any
    se: Any
    df: Any
    lo: Any
    hi: Any


class Variance(NamedTuple):
    """What A arms vary by: means (A), item covariance of the means (A x A), seed and residual parts (A), counts."""

    mean_A: np.ndarray
    item_AA: np.ndarray
    seed_A: np.ndarray
    residual_A: np.ndarray
    seeds_A: np.ndarray
    items: int
    item_df: int


def checked(scores_SN: np.ndarray) -> np.ndarray:
    """The scores as floats; Refuse unless they are seeds x items and finite."""
    Y = np.asarray(scores_SN, float)
    if Y.ndim < 2 or Y.shape[-2] < 1 or Y.shape[-1] < 2:
        raise Refuse(f"an arm is seeds x items with at least two items, got shape {Y.shape}")
    if not np.isfinite(Y).all():
        raise Refuse("a score is not finite; a crashed run or a failed extraction must be resolved first")
    return Y


def bounded(scores_SN: np.ndarray) -> np.ndarray:
    """Scores that must be shares; Refuse outside [0, 1], as percent beside fractions would be."""
    Y = checked(scores_SN)
    if Y.min() < 0 or Y.max() > 1:
        raise Refuse(f"a score lies outside [0, 1] ({Y.min():g} to {Y.max():g}); give fractions, not percent")
    return Y


def variance(arms: Sequence[np.ndarray], clusters: np.ndarray | None = None) -> Variance:
    """The parts of the two-way variance of some arms, from which every contrast of them follows.

    Source: crossed random effects (Owen 2007); an arm of one seed counts as deterministic. `clusters` (N labels) makes
    the item part robust to items that belong together. Raises Refuse on misaligned or non-finite scores.
    """
    Ys = [checked(arm) for arm in arms]
    if len({Y.shape[-1] for Y in Ys}) != 1:
        raise Refuse(f"arms were scored on different items: {[Y.shape[-1] for Y in Ys]}")
    N = Ys[0].shape[-1]
    items_AN = np.stack([Y.mean(-2) for Y in Ys], -2)
    mean_A = items_AN.mean(-1)
    centred_AN = items_AN - mean_A[..., None]
    if clusters is None:
        item_AA, groups = np.einsum("...an,...bn->...ab", centred_AN, centred_AN) / (N - 1) / N, N
    else:
        names, label_N = np.unique(np.asarray(clusters), return_inverse=True)
        groups = len(names)
        if groups < 2 or len(label_N) != N:
            raise Refuse(f"clusters must label each of {N} items and be at least two, got {groups} of {len(label_N)}")
        sums_AG = centred_AN @ np.eye(groups)[label_N]
        item_AA = np.einsum("...ag,...bg->...ab", sums_AG, sums_AG) * groups / (groups - 1) / N**2
    seed, residual = zip(*(_seed_parts(Y) for Y in Ys), strict=True)
    seeds_A = np.array([Y.shape[-2] for Y in Ys])
    return Variance(mean_A, item_AA, np.stack(seed, -1), np.stack(residual, -1), seeds_A, N, groups - 1)


def _seed_parts(Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance of an arm's mean by its seeds, which holds the seed x item noise as well, and that noise alone."""
    S, N = Y.shape[-2:]
    if S == 1:
        return np.zeros(Y.shape[:-2]), np.zeros(Y.shape[:-2])
    seeds = Y.mean(-1)
    rest = Y - seeds[..., None] - Y.mean(-2)[..., None, :] + Y.mean((-2, -1))[..., None, None]
    return seeds.var(-1, ddof=1) / S, (rest**2).sum((-2, -1)) / ((S - 1) * (N - 1)) / (S * N)


def combine(parts: Variance, weights: Sequence[float], *, alpha: float = 0.05) -> Estimate:
    """The weighted sum of arm means with Satterthwaite's t interval.

    V = sum c^2 V_seed + V_item - sum c^2 R, bounded below by its first two parts, as R is counted in both.
    """
    c = np.asarray(weights, float)
    value = parts.mean_A @ c
    item = np.maximum(np.einsum("a,...ab,b->...", c, parts.item_AA, c), 0.0)
    seed_A, residual_A = c**2 * parts.seed_A, c**2 * parts.residual_A
    seed = seed_A.sum(-1)
    total = np.maximum(np.maximum(seed + item - residual_A.sum(-1), seed), item)
    # What is left of a variance that cancels is rounding.
    total = np.where(total > 1e-20, total, 0.0)
    more_A = np.maximum(parts.seeds_A - 1, 1)
    free = item**2 / parts.item_df + (seed_A**2 / more_A + residual_A**2 / (more_A * (parts.items - 1))).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(total > 0, np.maximum(total**2 / free, 1.0), np.inf)
    se = np.sqrt(total)
    half = np.where(se > 0, special.stdtrit(df, 1 - alpha / 2) * se, np.nan)
    return Estimate(*(one[()] for one in (value, se, df, value - half, value + half)))


def contrast(
    arms: Sequence[np.ndarray],
    weights: Sequence[float],
    *,
    alpha: float = 0.05,
    clusters: np.ndarray | None = None,
) -> Estimate:
    """Sum of weighted arm means, paired over items, with the two-way t interval; scores in any units."""
    return combine(variance(arms, clusters), weights, alpha=alpha)


def p_below(estimate: Estimate) -> float:
    """One-sided p-value of the hypothesis that the true value is 0 or more; 0 or 1 where nothing varies."""
    if not estimate.se:
        return float(estimate.value >= 0)
    return float(stats.t.cdf(estimate.value / estimate.se, estimate.df))


def arm_mean(scores_SN: np.ndarray, *, alpha: float = 0.05, clusters: np.ndarray | None = None) -> Estimate:
    """Mean of one arm: Wilson's interval (1927) for a single deterministic model, else the two-way t.

    Where no item and no seed differs, the two-way variance is 0 and Wilson's interval over items is given instead.
    """
    Y = checked(scores_SN)
    if Y.shape[0] > 1:
        estimate = contrast([Y], [1], alpha=alpha, clusters=clusters)
        if estimate.se:
            return estimate
    if not np.isin(Y, (0, 1)).all():
        raise Refuse("Wilson's interval needs scores of 0 or 1")
    items = Y.shape[1]
    lo, hi = stats.binomtest(round(Y.mean() * items), items).proportion_ci(1 - alpha, "wilson")
    return Estimate(float(Y.mean()), float(Y.mean(0).std() / items**0.5), np.inf, float(lo), float(hi))
