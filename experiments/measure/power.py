"""What a study can see (E12): variance components, the smallest detectable change, the replicates
that would settle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from experiments.measure.scores import Arm, NotMeasurable, Scores, checked, groups

POWER_DRAWS = 4000


class Components(NamedTuple):
    """Variances of a score: between seeds, between items, and what is left (seed x item), in
    squared score units.
    """

    seed: float
    item: float
    residual: float


def components(scores: Scores) -> Components:
    """Components of a two-way layout without replication by the method of moments (Searle et al.
    1992), floored at 0.

    MS_seed = s2_res + N s2_seed, MS_item = s2_res + S s2_item.

    Args:
        scores: `[S, N]` seeds x items.

    Raises:
        NotMeasurable: there are fewer than two seeds.
    """
    Y = checked(scores)
    S, N = Y.shape
    if S < 2:
        raise NotMeasurable("variance between seeds needs at least two seeds")
    seeds, items = Y.mean(1), Y.mean(0)
    rest = float(((Y - seeds[:, None] - items + Y.mean()) ** 2).sum() / ((S - 1) * (N - 1)))
    seed, item = N * float(seeds.var(ddof=1)), S * float(items.var(ddof=1))
    return Components(max(seed - rest, 0.0) / N, max(item - rest, 0.0) / S, rest)


def difference_components(first: Scores, second: Scores) -> Components:
    """Components of a difference of two arms: seed and residual are means over the arms, item is
    the difference's.

    Then Var = 2 seed / S + item / N + 2 residual / (S N) with S seeds an arm and N items. Arms of
    the same seeds are paired: the components are those of their differences seed by seed, with seed
    and residual halved.

    Args:
        first: `[S, N]` seeds x items; an `Arm` names its seeds.
        second: the same of the same items.
    """
    first_SN, second_SN = checked(first), checked(second)
    if isinstance(first, Arm) and isinstance(second, Arm) and len(groups([first, second])) == 1:
        order = [second.seeds.index(seed) for seed in first.seeds]
        gap = components(second_SN[order] - first_SN)
        return Components(gap.seed / 2, gap.item, gap.residual / 2)
    parts = [components(arm) for arm in (first_SN, second_SN)]
    gap_N = second_SN.mean(0) - first_SN.mean(0)
    noise = sum(p.residual / len(arm) for p, arm in zip(parts, (first_SN, second_SN), strict=True))
    item = max(float(gap_N.var(ddof=1)) - noise, 0.0)
    seed, residual = (
        float(np.mean([getattr(p, name) for p in parts])) for name in ("seed", "residual")
    )
    return Components(seed, item, residual)


def standard_error(parts: Components, seeds: int, items: int) -> float:
    """Standard error of a difference of two arms with S seeds each on N common items.

    Args:
        parts: variance components of an arm, squared score units.
        seeds: S.
        items: N.
    """
    return math.sqrt(
        2 * parts.seed / seeds + parts.item / items + 2 * parts.residual / (seeds * items)
    )


class _Test(NamedTuple):
    """What the two-way t test of a design would do: errors of the estimate and the least value that
    is significant.
    """

    error_B: np.ndarray
    limit_B: np.ndarray


def _test(parts: Components, seeds: int, items: int, alpha: float) -> _Test:
    """Draws of the test's own standard error and degrees of freedom, for its variance is estimated
    and bounded below.

    A noncentral t with the true variance would promise 5 to 10 points more power at three seeds
    than there is.
    """
    rng = np.random.default_rng(0)
    noise = parts.residual / (seeds * items)
    seed_B2 = (
        (parts.seed / seeds + noise) * rng.chisquare(seeds - 1, (POWER_DRAWS, 2)) / (seeds - 1)
    )
    item = parts.item / items + 2 * noise
    total_B = np.maximum(np.maximum(seed_B2.sum(1) + item - 2 * noise, seed_B2.sum(1)), item)
    rest = 2 * noise**2 / ((seeds - 1) * (items - 1))
    df_B = np.maximum(
        total_B**2 / (item**2 / (items - 1) + (seed_B2**2).sum(1) / (seeds - 1) + rest), 1.0
    )
    error_B = standard_error(parts, seeds, items) * rng.standard_normal(POWER_DRAWS)
    return _Test(error_B, special.stdtrit(df_B, 1 - alpha / 2) * np.sqrt(total_B))


def _power(change: float, test: _Test) -> float:
    return float((np.abs(change + test.error_B) > test.limit_B).mean())


def power(change: float, parts: Components, seeds: int, items: int, alpha: float = 0.05) -> float:
    """Probability that the two-way t test sees a true difference of `change`, by simulation of its
    own variance.

    Args:
        change: in score units.
        parts: variance components of an arm, squared score units.
        seeds: S.
        items: N.
        alpha: level of the two-sided test.
    """
    if not standard_error(parts, seeds, items):
        return float(change != 0)
    return _power(change, _test(parts, seeds, items, alpha))


def smallest_change(
    parts: Components, seeds: int, items: int, alpha: float = 0.05, at: float = 0.8
) -> float:
    """The smallest true difference that is seen with probability `at`, in score units; 0 where
    nothing varies.

    Args:
        parts: variance components of an arm, squared score units.
        seeds: S.
        items: N.
        alpha: level of the two-sided test.
        at: probability.
    """
    if not standard_error(parts, seeds, items):
        return 0.0
    if seeds < 2:
        return math.inf
    test = _test(parts, seeds, items, alpha)
    # |change + error| exceeds its limit from limit - error on, but for the far tail on the other
    # side.
    return max(float(np.quantile(test.limit_B - test.error_B, at)), 0.0)


def seeds_to_settle(
    change: float,
    parts: Components,
    items: int,
    alpha: float = 0.05,
    at: float = 0.8,
    most: int = 100,
) -> int | None:
    """The fewest seeds an arm with which a true difference of `change` is seen; None if `most` are
    not enough.

    Args:
        change: in score units.
        parts: variance components of an arm, squared score units.
        items: N.
        alpha: level of the two-sided test.
        at: probability.
        most: seeds that are tried.
    """
    if power(change, parts, most, items, alpha) < at:
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if power(change, parts, middle, items, alpha) >= at else (middle, high)
        )
    return high


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values that control the family-wise error without any assumption on dependence
    (Holm 1979).

    Args:
        ps: in any order.

    Returns:
        In the same order, at most 1.
    """
    order, adjusted, running = np.argsort(ps, kind="stable"), [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = running
    return adjusted
