"""What a defence costs the honest user (E7): the teacher's own exam with and without it, as a
non-inferiority test.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from experiments.measure.contrast import contrast
from experiments.measure.scores import Scores, checked


class Cost(NamedTuple):
    """Change Te_d - Te with its interval, the share of Te that is lost, and whether it is surely
    within a margin.
    """

    change: float
    lo: float
    hi: float
    relative: float | None
    margin: float
    passes: bool


def non_inferiority(
    clean: Scores,
    guarded: Scores,
    margin: float,
    alpha: float = 0.05,
    clusters: np.ndarray | None = None,
) -> Cost:
    """Pass if the lower bound of Te_d - Te lies above -margin; seeds are the teacher's sampling
    seeds.

    The bounds are Tango's score interval for a paired difference (Tango 1998), which holds where
    few answers change or none; with clusters of items, and where exams differ, the two-way t
    interval's are taken where they are wider. More losses never pass where fewer fail.

    Args:
        clean: teacher's scores `[S, N]`, shares.
        guarded: the same behind the defence.
        margin: largest loss that is accepted, a share.
        alpha: level of the two-sided interval.
        clusters: labels `[N]` of items that belong together; None where each is its own.
    """
    before, after = checked(clean), checked(guarded)
    e = contrast([clean, guarded], [-1, 1], alpha=alpha, clusters=clusters)
    change_N = after.mean(0) - before.mean(0)
    lost, gained = float(-change_N[change_N < 0].sum()), float(change_N[change_N > 0].sum())
    # Means over exams vary less than single answers do: as many items as would vary so by
    # answers alone.
    squares = float((change_N**2).sum())
    scale = (lost + gained) / squares if squares else 1.0
    lo, hi = paired_difference(scale * gained, scale * lost, scale * len(change_N), alpha)
    sampled = len(np.unique(before, axis=0)) > 1 or len(np.unique(after, axis=0)) > 1
    if e.se and (sampled or clusters is not None):
        lo, hi = min(lo, float(e.lo)), max(hi, float(e.hi))
    mean = float(before.mean())
    return Cost(
        float(e.value), lo, hi, -float(e.value) / mean if mean else None, margin, lo > -margin
    )


def paired_difference(
    gained: float, lost: float, items: float, alpha: float = 0.05
) -> tuple[float, float]:
    """Score interval of p_gained - p_lost from the discordant counts of `items` pairs (Tango 1998).

    The variance under the hypothesis has the share of losses at its maximum-likelihood value given
    the difference.

    Args:
        gained: pairs that became right.
        lost: pairs that became wrong.
        items: pairs in all.
        alpha: level of the two-sided interval.
    """
    limit = float(stats.norm.ppf(1 - alpha / 2))

    def z(difference: float) -> float:
        a, c = 2 * items, -lost * difference * (1 - difference)
        b = -gained - lost + (2 * items - gained + lost) * difference
        share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        spread = items * (2 * share + difference * (1 - difference))
        away = gained - lost - items * difference
        return (
            away / math.sqrt(spread)
            if spread > 1e-12
            else math.copysign(math.inf, away)
            if away
            else 0.0
        )

    middle = (gained - lost) / items
    lo = (
        -1.0
        if z(-1.0) <= limit
        else optimize.brentq(lambda d: min(z(d), 1e6) - limit, -1.0, middle, xtol=1e-10)
    )
    hi = (
        1.0
        if z(1.0) >= -limit
        else optimize.brentq(lambda d: max(z(d), -1e6) + limit, middle, 1.0, xtol=1e-10)
    )
    return float(lo), float(hi)
