"""Contrasts of arms with the two-way (seed x item) variance (E1, E2, E4), paired by seed where
seeds are shared.

Arms are those of `scores`. Every function also takes leading axes (many studies at once), which is
how the simulations run the code that the report runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from experiments.measure.scores import NotMeasurable, Scores, checked, groups

MIN_ITEMS, MIN_CLUSTERS = 50, 10
FEWEST_POOLED = 4  # contrasts from which the spread of their seed variances is estimated


class Estimate(NamedTuple):
    """A value with its standard error, degrees of freedom and interval.

    With no variance at all `se` is 0 and the interval NaN: identical outputs say nothing of how
    they would vary.
    """

    value: Any
    se: Any
    df: Any
    lo: Any
    hi: Any


class Variance(NamedTuple):
    """What A arms vary by: means (A), item covariance of the means (A x A), and by group of seeds
    (G) the covariance of the means by seeds and its seed x item part (A x A each), with the number
    of seeds in each group (G).

    A group is the seeds that the same arms list. `unit_AC` is what each of C items, or clusters of
    items, adds to the deviation of the means.
    """

    mean_A: np.ndarray
    item_AA: np.ndarray
    unit_AC: np.ndarray
    seed_GAA: list[np.ndarray]
    residual_GAA: list[np.ndarray]
    seeds_G: list[int]
    items: int
    item_df: int


class Prior(NamedTuple):
    """What the seed variances of a study's contrasts have in common: `df` degrees of freedom worth
    of `variance`.
    """

    df: float
    variance: float


def variance(arms: Sequence[Scores], clusters: np.ndarray | None = None) -> Variance:
    """The parts of the two-way variance of some arms, from which every contrast of them follows.

    Source: crossed random effects (Owen 2007); an arm of one seed counts as deterministic.

    Args:
        arms: `[S, N]` seeds x items each, of the same items; an `Arm` names its seeds.
        clusters: labels `[N]` of items that belong together; None where each is its own.

    Raises:
        NotMeasurable: arms are of different items, clusters are fewer than two, or a score is not
            finite.
    """
    Ys = [checked(arm) for arm in arms]
    if len({Y.shape[-1] for Y in Ys}) != 1:
        raise NotMeasurable(f"arms were scored on different items: {[Y.shape[-1] for Y in Ys]}")
    N = Ys[0].shape[-1]
    items_AN = np.stack([Y.mean(-2) for Y in Ys], -2)
    mean_A = items_AN.mean(-1)
    centred_AN = items_AN - mean_A[..., None]
    label_N, units = None, N
    if clusters is not None:
        names, label_N = np.unique(np.asarray(clusters), return_inverse=True)
        units = len(names)
        if units < 2 or len(label_N) != N:
            raise NotMeasurable(
                f"clusters must label each of {N} items and be at least two, got {units} of "
                f"{len(label_N)}"
            )
    unit_AC = _summed(centred_AN, label_N, units) / N
    item_AA = np.einsum("...ac,...bc->...ab", unit_AC, unit_AC) * units / (units - 1)
    grouped = groups(arms)
    parts = [_seed_parts(Ys, rows, label_N, units) for rows in grouped]
    counts = [len(next(iter(rows.values()))) for rows in grouped]
    return Variance(
        mean_A,
        item_AA,
        unit_AC,
        [seed for seed, _ in parts],
        [rest for _, rest in parts],
        counts,
        N,
        units - 1,
    )


def _summed(Y: np.ndarray, label_N: np.ndarray | None, units: int) -> np.ndarray:
    """Sums over the items of each cluster; without labels every item is its own."""
    return Y if label_N is None else Y @ np.eye(units)[label_N]


def _seed_parts(
    Ys: list[np.ndarray], rows: dict[int, list[int]], label_N: np.ndarray | None, units: int
) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of the arms' means by one group of seeds, which holds the seed x item noise as
    well, and that noise.

    An arm's mean is the sum over its S seeds of their means / S, so a group of n seeds adds n times
    the covariance of those terms. Items of one label, of `units` in all, are summed first.
    """
    A, lead, N = len(Ys), Ys[0].shape[:-2], Ys[0].shape[-1]
    seed_AA, residual_AA = np.zeros((*lead, A, A)), np.zeros((*lead, A, A))
    at, n = list(rows), len(next(iter(rows.values())))
    if n == 1:
        return seed_AA, residual_AA
    scaled = [Ys[a][..., rows[a], :] / Ys[a].shape[-2] for a in at]
    means = [Y.mean(-1) - Y.mean((-2, -1))[..., None] for Y in scaled]
    rests = [
        Y - Y.mean(-1)[..., None] - Y.mean(-2)[..., None, :] + Y.mean((-2, -1))[..., None, None]
        for Y in scaled
    ]
    rests = [_summed(rest, label_N, units) for rest in rests]
    # Centred by seeds and by items, the squares of pure noise add up to (n - 1)(C - 1) / (n C) of
    # what they were; C is `units`.
    each = n / (n - 1) * units / (units - 1) / N**2
    for i, a in enumerate(at):
        for j, b in enumerate(at[: i + 1]):
            shared = n / (n - 1) * (means[i] * means[j]).sum(-1)
            noise = each * np.einsum("...sc,...sc->...", rests[i], rests[j])
            seed_AA[..., a, b] = seed_AA[..., b, a] = shared
            residual_AA[..., a, b] = residual_AA[..., b, a] = noise
    return seed_AA, residual_AA


class Parts(NamedTuple):
    """What one contrast varies by: its seed part with degrees of freedom, its item part, the noise
    counted in both.
    """

    value: Any
    seed: Any
    seed_df: Any
    item: Any
    residual: Any
    residual_free: Any  # sum of squares over degrees of freedom, for Satterthwaite


def parts_of(parts: Variance, weights: Sequence[float]) -> Parts:
    """The weighted sum of arm means and the parts of its variance.

    Args:
        parts: variance of A arms.
        weights: of each arm `[A]`.
    """
    c = np.asarray(weights, float)

    def quadratic(covariance_AA: np.ndarray) -> Any:
        return np.maximum(np.einsum("a,...ab,b->...", c, covariance_AA, c), 0.0)

    seed_G = [quadratic(part_AA) for part_AA in parts.seed_GAA]
    rest_G = [quadratic(part_AA) for part_AA in parts.residual_GAA]
    free = [max(n - 1, 1) for n in parts.seeds_G]
    seed: Any = sum(seed_G)
    squares = sum(one**2 / df for one, df in zip(seed_G, free, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        seed_df = np.where(seed > 0, seed**2 / squares, min(free))
    rest_free = sum(one**2 / (df * parts.item_df) for one, df in zip(rest_G, free, strict=True))
    return Parts(parts.mean_A @ c, seed, seed_df, quadratic(parts.item_AA), sum(rest_G), rest_free)


def combine(
    parts: Variance, weights: Sequence[float], *, alpha: float = 0.05, prior: Prior | None = None
) -> Estimate:
    """The weighted sum of arm means with Satterthwaite's t interval.

    V = V_seed + V_item - R, bounded below by its first two parts, as the seed x item noise R is
    counted in both. With a `prior` the seed variance is moderated (Smyth 2004): the mean of its own
    and the prior's, weighted by degrees of freedom, which add up.

    Args:
        parts: variances of the arms.
        weights: one an arm.
        alpha: level of the two-sided interval.
        prior: of the seed variance, from all contrasts of a study.
    """
    value, se, df = _spread(parts, weights, prior)
    half = np.where(se > 0, special.stdtrit(df, 1 - alpha / 2) * se, np.nan)
    return Estimate(*(one[()] for one in (value, se, df, value - half, value + half)))


def _spread(
    parts: Variance, weights: Sequence[float], prior: Prior | None
) -> tuple[Any, np.ndarray, np.ndarray]:
    """The weighted sum of arm means, its standard error and degrees of freedom, as in `combine`."""
    value, seed, seed_df, item, residual, rest_free = parts_of(parts, weights)
    if prior is not None:
        seed, seed_df = (
            (prior.df * prior.variance + seed_df * seed) / (prior.df + seed_df),
            prior.df + seed_df,
        )
    total = np.maximum(np.maximum(seed + item - residual, seed), item)
    # What is left of a variance that cancels is rounding.
    total = np.where(total > 1e-20, total, 0.0)
    # The noise is taken off the variance, but what is not known of it adds: squares, no sign.
    free = item**2 / parts.item_df + seed**2 / seed_df + rest_free
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(total > 0, np.maximum(total**2 / free, 1.0), np.inf)
    return value, np.sqrt(total), df


def pooled(contrasts: Sequence[Parts]) -> Prior | None:
    """The prior of seed variances that a study's contrasts show together (Smyth 2004, section 6.2);
    None of too few.

    Log variances spread by their own degrees of freedom and by how unlike the arms are; what is
    more than the former sets the prior's degrees of freedom. They are never more than all contrasts
    have.

    Args:
        contrasts: of one study, each with its own seed variance.
    """
    # What no seed moves has no logarithm, and would pull the prior to 0.
    varying = [one for one in contrasts if one.seed > 0]
    if len(varying) < FEWEST_POOLED:
        return None
    df_K = np.array([float(one.seed_df) for one in varying])
    e_K = (
        np.log([float(one.seed) for one in varying]) - special.digamma(df_K / 2) + np.log(df_K / 2)
    )
    spread = float(e_K.var(ddof=1) - special.polygamma(1, df_K / 2).mean())
    most = float(df_K.sum())
    df = most
    if spread > 0:
        low, high = 1e-3, 1e8

        def trigamma(x: float) -> float:
            return float(special.polygamma(1, x / 2)) - spread

        df = min(low if trigamma(low) < 0 else float(optimize.brentq(trigamma, low, high)), most)
    scale = math.exp(float(e_K.mean()) + float(special.digamma(df / 2)) - math.log(df / 2))
    return Prior(df, scale)


def contrast(
    arms: Sequence[Scores],
    weights: Sequence[float],
    *,
    alpha: float = 0.05,
    clusters: np.ndarray | None = None,
) -> Estimate:
    """Sum of weighted arm means, paired over items and shared seeds, with the two-way t interval;
    any units.

    Args:
        arms: `[S, N]` seeds x items, any units; an `Arm` names its seeds.
        weights: one an arm.
        alpha: level of the two-sided interval.
        clusters: labels `[N]` of items that belong together; None where each is its own.
    """
    return combine(variance(arms, clusters), weights, alpha=alpha)


def corrected_t(
    parts: Variance, weights: Sequence[float], prior: Prior | None = None
) -> tuple[float, float]:
    """Student's t of a weighted sum of arm means without the skewness of items, and its degrees of
    freedom.

    Scores of 0 and 1 are skewed over items, so that mean and variance err together and t alone is
    wrong far out, where Holm's correction and one-sided bounds look: Hall's transformation (1992)
    removes that. It grows with t.

    Args:
        parts: of A arms.
        weights: A numbers.
        prior: of the seed variance, as in `combine`.

    Returns:
        t and its degrees of freedom, which are infinite where nothing varies: t is 0 there or
        infinite, as the sum is.

    Source: Hall (1992), On the removal of skewness by transformation, J. R. Stat. Soc. B 54.
    """
    value, se, df = (float(one) for one in _spread(parts, weights, prior))
    if not se:
        return (math.copysign(math.inf, value) if value else 0.0), df
    t, skew = value / se, third_moment(parts, weights) / se**3
    # Its slope is (1 + skew t / 3)^2: without the cubic term a larger t could have a larger p.
    return float(t + skew * (t**2 / 3 + 1 / 6) + skew**2 * t**3 / 27), df


def p_below(parts: Variance, weights: Sequence[float], prior: Prior | None = None) -> float:
    """One-sided p-value of the hypothesis that a weighted sum of arm means is 0 or more, by
    `corrected_t`; 0 or 1 where nothing varies.

    Args:
        parts: of A arms.
        weights: A numbers.
        prior: of the seed variance, as in `combine`.
    """
    t, df = corrected_t(parts, weights, prior)
    if math.isinf(df):
        return float(t >= 0)
    return float(stats.t.cdf(t, df))


def third_moment(parts: Variance, weights: Sequence[float]) -> Any:
    """Third central moment of a weighted sum of arm means, as far as items make it; seeds are few
    and are taken as symmetric. 0 of two items or clusters.

    Args:
        parts: variance of A arms.
        weights: of each arm `[A]`.
    """
    deviation_C = np.asarray(weights, float) @ parts.unit_AC
    units = parts.item_df + 1
    unbiased = units**2 / ((units - 1) * (units - 2)) if units > 2 else 0.0
    return unbiased * (deviation_C**3).sum(-1)


def arm_mean(
    scores: Scores, *, alpha: float = 0.05, clusters: np.ndarray | None = None
) -> Estimate:
    """Mean of one arm: Wilson's interval (1927) for a single deterministic model, else the two-way
    t.

    Where no item and no seed differs, the two-way variance is 0 and Wilson's interval over items is
    given instead.

    Args:
        scores: `[S, N]` seeds x items, any units; an `Arm` names its seeds.
        alpha: level of the two-sided interval.
        clusters: labels `[N]` of items that belong together; None where each is its own.

    Raises:
        NotMeasurable: Wilson's interval is needed and a score is neither 0 nor 1.
    """
    Y = checked(scores)
    if Y.shape[0] > 1:
        estimate = contrast([Y], [1], alpha=alpha, clusters=clusters)
        if estimate.se:
            return estimate
    if not np.isin(Y, (0, 1)).all():
        raise NotMeasurable("Wilson's interval needs scores of 0 or 1")
    items = Y.shape[1]
    lo, hi = stats.binomtest(round(Y.mean() * items), items).proportion_ci(1 - alpha, "wilson")
    return Estimate(
        float(Y.mean()), float(Y.mean(0).std() / items**0.5), np.inf, float(lo), float(hi)
    )
