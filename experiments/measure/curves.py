"""Query-scaling curves: exchanges needed for a capability, the query-cost multiplier M (E9), the
area between (E13).

A curve is K log-spaced budgets x S seeds x N items; the budgets of a seed are nested, so seeds are
redrawn as whole curves. Nothing is said beyond the largest budget: what lies there is a bound.
Between budgets, a curve is only known to rise: `between` tells how far an S-shaped one may lie from
the chord.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import optimize, stats

from experiments.measure import bootstrap
from experiments.measure.budgets import too_far
from experiments.measure.contrast import Estimate, contrast
from experiments.measure.scores import Arm, NotMeasurable, Scores, bounded

LEVELS = (0.25, 0.5, 0.75)


class Multiplier(NamedTuple):
    """M at one level: `=` a value, `>` or `<` a bound, `?` not measurable; the interval's ends may
    be 0 or infinite.
    """

    level: float
    sign: Literal["=", ">", "<", "?"]
    value: float
    lo: float
    hi: float
    unbounded: float  # share of draws without an upper end


def _checked(curve_KSN: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    Y = bounded(curve_KSN)
    if Y.ndim != 3 or len(Y) != len(budgets) or len(budgets) < 2:
        raise NotMeasurable(
            f"a curve is budgets x seeds x items, got shape {Y.shape} for {len(budgets)} budgets"
        )
    if (np.diff(budgets) <= 0).any() or budgets[0] <= 0:
        raise NotMeasurable(f"budgets must be positive and rise, got {list(budgets)}")
    return Y


def monotone(mean_K: np.ndarray) -> np.ndarray:
    """The nearest non-decreasing curve (isotonic regression, Barlow et al. 1972).

    Args:
        mean_K: means at K budgets, rising; all weigh the same.

    Returns:
        `[K]`.
    """
    return np.asarray(optimize.isotonic_regression(mean_K).x)


class Lines(NamedTuple):
    """Three lines through each interval of a rising curve: the chord and its neighbours' chords,
    drawn on.

    The interval's ends (x, y, each B) and the slopes of the chord, of the chord before and of the
    one behind (B); a curve with one inflection lies between the lowest and the highest of them.
    Before the first knot and behind the last, nothing bounds it but that it rises.
    """

    x0: np.ndarray
    x1: np.ndarray
    y0: np.ndarray
    y1: np.ndarray
    slope: np.ndarray
    before: np.ndarray
    behind: np.ndarray


def lines(y_BK: np.ndarray, x_K: np.ndarray, right_B: np.ndarray) -> Lines:
    """The lines of the interval that ends at knot `right_B` of each curve.

    Args:
        y_BK: curves, not falling.
        x_K: knots, rising.
        right_B: places of knots, from 1.
    """
    rows, K = np.arange(len(y_BK)), len(x_K)
    slope_BI = np.diff(y_BK, axis=1) / np.diff(x_K)
    x0, x1, y0, y1 = x_K[right_B - 1], x_K[right_B], y_BK[rows, right_B - 1], y_BK[rows, right_B]
    before = np.where(right_B > 1, slope_BI[rows, np.maximum(right_B - 2, 0)], 0.0)
    behind = np.where(right_B < K - 1, slope_BI[rows, np.minimum(right_B, K - 2)], 0.0)
    return Lines(x0, x1, y0, y1, slope_BI[rows, right_B - 1], before, behind)


def between(
    y_BK: np.ndarray, x_K: np.ndarray, at_B: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rising curves read at x: by the chord, and the least and the most that an S-shaped curve
    could be there.

    Flat outside the knots. A smooth curve bends little over its neighbours' chords, so the three
    agree; a step between two budgets may stand anywhere there, and they are as far apart as its
    ends.

    Args:
        y_BK: curves, not falling.
        x_K: knots, rising.
        at_B: where each is read, in the unit of the knots.

    Returns:
        `[B]` each, in the unit of the curves.
    """
    at = np.clip(at_B, x_K[0], x_K[-1])
    line = lines(y_BK, x_K, np.clip(np.searchsorted(x_K, at), 1, len(x_K) - 1))
    chord = line.y0 + line.slope * (at - line.x0)
    first, last = line.y0 + line.before * (at - line.x0), line.y1 - line.behind * (line.x1 - at)
    low, high = (
        np.minimum(chord, np.minimum(first, last)),
        np.maximum(chord, np.maximum(first, last)),
    )
    low, high = np.clip(low, line.y0, line.y1), np.clip(high, line.y0, line.y1)
    # A knot was measured: the neighbours' lines, drawn on this far, leave nothing open there.
    knot = (at == line.x0) | (at == line.x1)
    return chord, np.where(knot, chord, low), np.where(knot, chord, high)


def reached(
    y_BK: np.ndarray, x_K: np.ndarray, level_B: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x at which rising curves reach a level: by the chord, and the first and the last place it
    could be.

    (first knot, -inf, first knot) where a curve is there at its first knot, (last, last, inf) where
    it never is.

    Args:
        y_BK: curves, not falling.
        x_K: knots, rising.
        level_B: in the unit of the curves.

    Returns:
        `[B]` each, in the unit of the knots.
    """
    level = np.asarray(level_B, float)
    line = lines(y_BK, x_K, np.clip((y_BK < level[:, None]).sum(1), 1, len(x_K) - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        chord = line.x0 + np.where(line.slope > 0, (level - line.y0) / line.slope, 0.0)
        first = line.x0 + np.where(line.before > 0, (level - line.y0) / line.before, np.inf)
        last = line.x1 - np.where(line.behind > 0, (line.y1 - level) / line.behind, np.inf)
    low = np.clip(np.minimum(chord, np.minimum(first, last)), line.x0, line.x1)
    high = np.clip(np.maximum(chord, np.maximum(first, last)), line.x0, line.x1)
    at_first, never = y_BK[:, 0] >= level, y_BK[:, -1] < level
    point = np.where(at_first, x_K[0], np.where(never, x_K[-1], chord))
    return (
        point,
        np.where(at_first, -np.inf, np.where(never, x_K[-1], low)),
        np.where(at_first, x_K[0], np.where(never, np.inf, high)),
    )


class Needs(NamedTuple):
    """Exchanges for one level of capability by the chord, as intervals of log n: points (2), and
    every draw (B x 2).

    `shape`: what of log M (the least, at most 0, and the most) is due to S-shaped curves other than
    the chord.
    """

    level: float
    undefended: tuple[float, float]
    defended: tuple[float, float]
    undefended_B2: np.ndarray
    defended_B2: np.ndarray
    shape: tuple[float, float] = (0.0, 0.0)


def needs(
    floor: Scores,
    undefended_KSN: np.ndarray,
    defended_KSN: np.ndarray,
    budgets: np.ndarray,
    *,
    levels: tuple[float, ...] = LEVELS,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
    clusters: np.ndarray | None = None,
    seeds: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
) -> list[Needs]:
    """Exchanges that U and D need for F + level (U(n_max) - F), by isotonic inversion and the
    crossed bootstrap.

    `seeds` name those of U and of D: curves of the same seeds are redrawn together, as is a floor
    of them. Where U(n_max) - F is not positive the level means nothing and n may be anything.
    Scores must be shares.

    Args:
        floor: shares `[S, N]`.
        undefended_KSN: shares by budget.
        defended_KSN: shares by budget.
        budgets: exchanges `[K]`, rising.
        levels: shares of U(n_max) - F.
        draws: B.
        seed: of the bootstrap.
        clusters: labels `[N]` of items that belong together; None where each is its own.
        seeds: names of the seeds of U and of D; unpaired if None.

    Raises:
        NotMeasurable: budgets are too far apart for a curve between them, or a score is no share.
    """
    U, D, F = _checked(undefended_KSN, budgets), _checked(defended_KSN, budgets), bounded(floor)
    if why := too_far(budgets, "M"):
        raise NotMeasurable(why)
    log_K, drawn = (
        np.log(np.asarray(budgets, float)),
        bootstrap.start(U.shape[2], draws, seed, clusters),
    )
    names = [floor.seeds if isinstance(floor, Arm) else None, *(seeds or (None, None))]
    w_f, w_u, w_d = bootstrap.by_seeds(drawn, names, [len(F), U.shape[1], D.shape[1]])
    # Row 0 is the estimate, the others are draws.
    u, d = (
        np.apply_along_axis(monotone, 1, np.c_[Y.mean((1, 2)), bootstrap.means(drawn, Y, w)].T)
        for Y, w in ((U, w_u), (D, w_d))
    )
    f = np.append(F.mean(), bootstrap.means(drawn, F, w_f))
    levels_needed = []
    for level in levels:
        at, sense, ends, off = f + level * (u[:, -1] - f), u[:, -1] > f, [], []
        for y in (u, d):
            by_chord, least, most = reached(y, log_K, at)
            inside = np.isfinite(least) & np.isfinite(most)
            both = np.stack(
                [np.where(inside, by_chord, least), np.where(inside, by_chord, most)], 1
            )
            ends.append(np.where(sense[:, None], both, [-np.inf, np.inf]))
            off.append((least[0] - by_chord[0], most[0] - by_chord[0]) if inside[0] else (0.0, 0.0))
        of_u, of_d = ((float(one[0, 0]), float(one[0, 1])) for one in ends)
        shape = float(off[1][0] - off[0][1]), float(off[1][1] - off[0][0])
        levels_needed.append(Needs(level, of_u, of_d, ends[0][1:], ends[1][1:], shape))
    return levels_needed


def multiplier(need: Needs, alpha: float = 0.05) -> Multiplier:
    """M(c) = n_D(c) / n_U(c); what censoring leaves open stays open, and the curves' unknown shape
    widens both ends.

    Args:
        need: exchanges that U and D need, with their draws.
        alpha: level of the two-sided interval.
    """
    low_B = need.defended_B2[:, 0] - need.undefended_B2[:, 1]
    high_B = need.defended_B2[:, 1] - need.undefended_B2[:, 0]
    lo, hi = (
        end + more
        for end, more in zip(bootstrap.interval(low_B, high_B, alpha), need.shape, strict=True)
    )
    sign, value = _read(
        need.defended[0] - need.undefended[1], need.defended[1] - need.undefended[0]
    )
    return Multiplier(
        need.level, sign, value, math.exp(lo), math.exp(hi), float(np.isinf(high_B).mean())
    )


def _read(low: float, high: float) -> tuple[Literal["=", ">", "<", "?"], float]:
    if low == high:
        return "=", math.exp(low)
    if math.isfinite(low):
        return ">", math.exp(low)
    return ("<", math.exp(high)) if math.isfinite(high) else ("?", math.nan)


def area_between(
    undefended_KSN: np.ndarray,
    defended_KSN: np.ndarray,
    alpha: float = 0.05,
    clusters: np.ndarray | None = None,
    seeds: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
) -> Estimate:
    """Mean over log-spaced budgets of U(n) - D(n), whole curves as seeds; linear, so the two-way t
    interval holds.

    Args:
        undefended_KSN: shares by budget.
        defended_KSN: shares by budget.
        alpha: level of the two-sided interval.
        clusters: labels `[N]` of items that belong together; None where each is its own.
        seeds: names of the seeds of U and of D; unpaired if None.

    Returns:
        A difference of shares.
    """
    arms: list[Scores] = [np.mean(undefended_KSN, 0), np.mean(defended_KSN, 0)]
    if seeds:
        arms = [Arm(np.asarray(Y), names) for Y, names in zip(arms, seeds, strict=True)]
    return contrast(arms, [1, -1], alpha=alpha, clusters=clusters)


class Shape(NamedTuple):
    """The parametric companion: M if the defence shifts the curve, and the tests of that
    assumption.

    `shown`: only where a free ceiling fits no better (p > 0.1) and M agrees with the isotonic one
    within 1.5.
    """

    value: float
    p_shift: float
    shown: bool


def common_shape(
    floor: float,
    undefended_KSN: np.ndarray,
    defended_KSN: np.ndarray,
    budgets: np.ndarray,
    isotonic: float,
) -> Shape:
    """Fit U and D as one Hill curve in log n, shifted by log M, against one with a ceiling of its
    own for D.

    y(n) = F + (C - F) n^b / (n0^b + n^b), F fixed at the measured floor, weights 1/SE^2 over seeds;
    the two are compared by the drop in weighted squares on one degree of freedom.

    Args:
        floor: F, a share.
        undefended_KSN: shares by budget.
        defended_KSN: shares by budget.
        budgets: exchanges `[K]`, rising.
        isotonic: M at half of the gap without a shape, to compare with.
    """
    U, D, log_K = (
        _checked(undefended_KSN, budgets),
        _checked(defended_KSN, budgets),
        np.log(np.asarray(budgets, float)),
    )
    means_2K = np.stack([U.mean((1, 2)), D.mean((1, 2))])
    error_2K = np.stack([_errors(U), _errors(D)])

    def fitted(free: bool) -> Any:
        def residuals(p: np.ndarray) -> np.ndarray:
            ceiling, slope, half, shift = p[:4]
            tops = np.array([ceiling, p[4] if free else ceiling])[:, None]
            at = slope * (log_K - half - np.array([0.0, shift])[:, None])
            return np.asarray(
                ((floor + (tops - floor) / (1 + np.exp(-at)) - means_2K) / error_2K).ravel()
            )

        top = float(means_2K.max())
        low = [0.0, 0.1, log_K[0] - 5, -8.0] + [0.0] * free
        high = [1.0, 4.0, log_K[-1] + 5, 8.0] + [1.0] * free
        starts = [
            np.clip([top, b, h, m] + [float(means_2K[1].max())] * free, low, high)
            for b in (0.7, 1.5)
            for h in (log_K.mean(), log_K[0])
            for m in (0.0, 1.5)
        ]
        fits = [optimize.least_squares(residuals, s, bounds=(low, high)) for s in starts]
        return min(fits, key=lambda fit: fit.cost)

    shared, free = fitted(False), fitted(True)
    # `cost` is half of the weighted squares.
    p = float(stats.chi2.sf(max(2 * (shared.cost - free.cost), 0.0), 1))
    value = math.exp(shared.x[3])
    agree = (
        math.isfinite(isotonic) and isotonic > 0 and abs(math.log(value / isotonic)) < math.log(1.5)
    )
    return Shape(value, p, bool(p > 0.1 and agree))


def _errors(curve_KSN: np.ndarray) -> np.ndarray:
    """Standard error of each budget's mean; at least that of half an item."""
    S, N = curve_KSN.shape[1:]
    return np.array([max(contrast([Y], [1]).se, 0.5 / (S * N) ** 0.5 / N**0.5) for Y in curve_KSN])
