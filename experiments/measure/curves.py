"""Query-scaling curves: exchanges needed for a capability, the query-cost multiplier M (E9), the area between (E13).

A curve is K log-spaced budgets x S seeds x N items; the budgets of a seed are nested, so seeds are redrawn as whole
curves. Nothing is said beyond the largest budget: what lies there is a bound.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import optimize, stats

from experiments.measure import bootstrap
from experiments.measure.contrast import Estimate, Refuse, bounded, contrast

LEVELS = (0.25, 0.5, 0.75)


class Multiplier(NamedTuple):
    """M at one level: `=` a value, `>` or `<` a bound, `?` not measurable; the interval's ends may be 0 or infinite."""

    level: float
    sign: Literal["=", ">", "<", "?"]
    value: float
    lo: float
    hi: float
    unbounded: float  # share of draws without an upper end


def _checked(curve_KSN: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    Y = bounded(curve_KSN)
    if Y.ndim != 3 or len(Y) != len(budgets) or len(budgets) < 2:
        raise Refuse(f"a curve is budgets x seeds x items, got shape {Y.shape} for {len(budgets)} budgets")
    if (np.diff(budgets) <= 0).any() or budgets[0] <= 0:
        raise Refuse(f"budgets must be positive and rise, got {list(budgets)}")
    return Y


def monotone(mean_K: np.ndarray) -> np.ndarray:
    """The nearest non-decreasing curve (isotonic regression, Barlow et al. 1972)."""
    return np.asarray(optimize.isotonic_regression(mean_K).x)


def reached(mean_K: np.ndarray, log_K: np.ndarray, level: float) -> tuple[float, float]:
    """log budget at which a non-decreasing curve reaches a level, as an interval.

    Linear between budgets in log n; (-inf, first) if already there at the smallest, (last, inf) if never.
    """
    if mean_K[0] >= level:
        return -math.inf, float(log_K[0])
    if mean_K[-1] < level:
        return float(log_K[-1]), math.inf
    i = int(np.argmax(mean_K >= level))
    share = (level - mean_K[i - 1]) / (mean_K[i] - mean_K[i - 1])
    at = float(log_K[i - 1] + share * (log_K[i] - log_K[i - 1]))
    return at, at


class Needs(NamedTuple):
    """Exchanges for one level of capability, as intervals of log n: points (2), and in every draw (B x 2)."""

    level: float
    undefended: tuple[float, float]
    defended: tuple[float, float]
    undefended_B2: np.ndarray
    defended_B2: np.ndarray


def needs(
    floor: np.ndarray,
    undefended_KSN: np.ndarray,
    defended_KSN: np.ndarray,
    budgets: np.ndarray,
    *,
    levels: tuple[float, ...] = LEVELS,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> list[Needs]:
    """Exchanges that U and D need for F + level (U(n_max) - F), by isotonic inversion and the crossed bootstrap.

    Where U(n_max) - F is not positive the level means nothing and n may be anything. Scores must be shares.
    """
    U, D, F = _checked(undefended_KSN, budgets), _checked(defended_KSN, budgets), bounded(floor)
    log_K, drawn = np.log(np.asarray(budgets, float)), bootstrap.start(U.shape[2], draws, seed)
    # Row 0 is the estimate, the others are draws.
    u, d = (np.c_[Y.mean((1, 2)), bootstrap.means(drawn, Y)].T for Y in (U, D))
    u, d = (np.apply_along_axis(monotone, 1, y) for y in (u, d))
    f = np.append(F.mean(), bootstrap.means(drawn, F))
    held = []
    for level in levels:
        at = f + level * (u[:, -1] - f)
        open_ = (-math.inf, math.inf)
        n_u, n_d = ([reached(one, log_K, c) if top > base else open_
                     for one, c, top, base in zip(y, at, u[:, -1], f, strict=True)] for y in (u, d))  # fmt: skip
        held.append(Needs(level, n_u[0], n_d[0], np.array(n_u[1:]), np.array(n_d[1:])))
    return held


def multiplier(need: Needs, alpha: float = 0.05) -> Multiplier:
    """M(c) = n_D(c) / n_U(c); what censoring leaves open stays open."""
    low_B = need.defended_B2[:, 0] - need.undefended_B2[:, 1]
    high_B = need.defended_B2[:, 1] - need.undefended_B2[:, 0]
    lo, hi = bootstrap.interval(low_B, high_B, alpha)
    sign, value = _read(need.defended[0] - need.undefended[1], need.defended[1] - need.undefended[0])
    return Multiplier(need.level, sign, value, math.exp(lo), math.exp(hi), float(np.isinf(high_B).mean()))


def _read(low: float, high: float) -> tuple[Literal["=", ">", "<", "?"], float]:
    if low == high:
        return "=", math.exp(low)
    if math.isfinite(low):
        return ">", math.exp(low)
    return ("<", math.exp(high)) if math.isfinite(high) else ("?", math.nan)


def area_between(undefended_KSN: np.ndarray, defended_KSN: np.ndarray, alpha: float = 0.05) -> Estimate:
    """Mean over log-spaced budgets of U(n) - D(n), whole curves as seeds; linear, so the two-way t interval holds."""
    return contrast([np.mean(defended_KSN, 0), np.mean(undefended_KSN, 0)], [-1, 1], alpha=alpha)


class Shape(NamedTuple):
    """The parametric companion: M if the defence shifts the curve, and the tests of that assumption.

    `shown`: only where a free ceiling fits no better (p > 0.1) and M agrees with the isotonic one within 1.5.
    """

    value: float
    p_shift: float
    shown: bool


def common_shape(
    floor: float, undefended_KSN: np.ndarray, defended_KSN: np.ndarray, budgets: np.ndarray, isotonic: float
) -> Shape:
    """Fit U and D as one Hill curve in log n, shifted by log M, against one with a ceiling of its own for D.

    y(n) = F + (C - F) n^b / (n0^b + n^b), F fixed at the measured floor, weights 1/SE^2 over seeds; the two are
    compared by the drop in weighted squares on one degree of freedom.
    """
    U, D, log_K = _checked(undefended_KSN, budgets), _checked(defended_KSN, budgets), np.log(np.asarray(budgets, float))
    means_2K = np.stack([U.mean((1, 2)), D.mean((1, 2))])
    error_2K = np.stack([_errors(U), _errors(D)])

    def fitted(free: bool) -> Any:
        def residuals(p: np.ndarray) -> np.ndarray:
            ceiling, slope, half, shift = p[:4]
            tops = np.array([ceiling, p[4] if free else ceiling])[:, None]
            at = slope * (log_K - half - np.array([0.0, shift])[:, None])
            return np.asarray(((floor + (tops - floor) / (1 + np.exp(-at)) - means_2K) / error_2K).ravel())

        top = float(means_2K.max())
        low = [0.0, 0.1, log_K[0] - 5, -8.0] + [0.0] * free
        high = [1.0, 4.0, log_K[-1] + 5, 8.0] + [1.0] * free
        starts = [np.clip([top, b, h, m] + [float(means_2K[1].max())] * free, low, high)
                  for b in (0.7, 1.5) for h in (log_K.mean(), log_K[0]) for m in (0.0, 1.5)]  # fmt: skip
        fits = [optimize.least_squares(residuals, s, bounds=(low, high)) for s in starts]
        return min(fits, key=lambda fit: fit.cost)

    shared, free = fitted(False), fitted(True)
    p = float(stats.chi2.sf(max(2 * (shared.cost - free.cost), 0.0), 1))
    value = math.exp(shared.x[3])
    agree = math.isfinite(isotonic) and isotonic > 0 and abs(math.log(value / isotonic)) < math.log(1.5)
    return Shape(value, p, bool(p > 0.1 and agree))


def _errors(curve_KSN: np.ndarray) -> np.ndarray:
    """Standard error of each budget's mean; at least that of half an item."""
    S, N = curve_KSN.shape[1:]
    return np.array([max(contrast([Y], [1]).se, 0.5 / (S * N) ** 0.5 / N**0.5) for Y in curve_KSN])
