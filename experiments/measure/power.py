"""What a study can see (E12): variance components, the smallest detectable change, the replicates that would settle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from experiments.measure.contrast import Refuse, checked


class Components(NamedTuple):
    """Variances of a score: between seeds, between items, and what is left (seed x item), in squared score units."""

    seed: float
    item: float
    residual: float


def components(scores_SN: np.ndarray) -> Components:
    """Components of a two-way layout without replication by the method of moments (Searle et al. 1992), floored at 0.

    MS_seed = s2_res + N s2_seed, MS_item = s2_res + S s2_item. Needs at least two seeds.
    """
    Y = checked(scores_SN)
    S, N = Y.shape
    if S < 2:
        raise Refuse("variance between seeds needs at least two seeds")
    seeds, items = Y.mean(1), Y.mean(0)
    rest = float(((Y - seeds[:, None] - items + Y.mean()) ** 2).sum() / ((S - 1) * (N - 1)))
    seed, item = N * float(seeds.var(ddof=1)), S * float(items.var(ddof=1))
    return Components(max(seed - rest, 0.0) / N, max(item - rest, 0.0) / S, rest)


def difference_components(first: np.ndarray, second: np.ndarray) -> Components:
    """Components of a difference of two arms: seed and residual are means over the arms, item is that of the difference.

    Then Var = 2 seed / S + item / N + 2 residual / (S N) with S seeds an arm and N items.
    """
    parts = [components(arm) for arm in (first, second)]
    gap_N = checked(second).mean(0) - checked(first).mean(0)
    noise = sum(p.residual / len(arm) for p, arm in zip(parts, (first, second), strict=True))
    item = max(float(gap_N.var(ddof=1)) - noise, 0.0)
    seed, residual = (float(np.mean([getattr(p, name) for p in parts])) for name in ("seed", "residual"))
    return Components(seed, item, residual)


def standard_error(parts: Components, seeds: int, items: int) -> float:
    """Standard error of a difference of two arms with S seeds each on N common items."""
    return math.sqrt(2 * parts.seed / seeds + parts.item / items + 2 * parts.residual / (seeds * items))


def _df(parts: Components, seeds: int, items: int) -> float:
    """Satterthwaite's degrees of freedom that such a design leads to."""
    seed = parts.seed / seeds + parts.residual / (seeds * items)
    item = parts.item / items + 2 * parts.residual / (seeds * items)
    rest = parts.residual / (seeds * items)
    total = standard_error(parts, seeds, items) ** 2
    free = 2 * (seed**2 / (seeds - 1) + rest**2 / ((seeds - 1) * (items - 1))) + item**2 / (items - 1)
    return max(total**2 / free, 1.0) if free > 0 else math.inf


def power(change: float, parts: Components, seeds: int, items: int, alpha: float = 0.05) -> float:
    """Probability that a two-sided t test sees a true difference of `change`, by the noncentral t."""
    se = standard_error(parts, seeds, items)
    if not se:
        return float(change != 0)
    df = _df(parts, seeds, items)
    limit, shift = float(stats.t.ppf(1 - alpha / 2, df)), abs(change) / se
    if math.isinf(df):
        return float(stats.norm.sf(limit - shift) + stats.norm.cdf(-limit - shift))
    return float(stats.nct.sf(limit, df, shift) + stats.nct.cdf(-limit, df, shift))


def smallest_change(parts: Components, seeds: int, items: int, alpha: float = 0.05, at: float = 0.8) -> float:
    """The smallest true difference that is seen with probability `at`, in score units; 0 where nothing varies."""
    se = standard_error(parts, seeds, items)
    if seeds < 2 or not se:
        return 0.0 if not se else math.inf
    high = se
    while power(high, parts, seeds, items, alpha) < at:
        high *= 2
    return float(optimize.brentq(lambda d: power(d, parts, seeds, items, alpha) - at, 0.0, high, xtol=1e-9))


def seeds_to_settle(
    change: float, parts: Components, items: int, alpha: float = 0.05, at: float = 0.8, most: int = 100
) -> int | None:
    """The fewest seeds an arm with which a true difference of `change` is seen; None if `most` are not enough."""
    enough = (S for S in range(2, most + 1) if power(change, parts, S, items, alpha) >= at)
    return next(enough, None)


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values that control the family-wise error without any assumption on dependence (Holm 1979)."""
    order, adjusted, running = np.argsort(ps, kind="stable"), [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = running
    return adjusted
