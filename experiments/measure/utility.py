"""What a defence costs the honest user (E7): the teacher's own exam with and without it, as a non-inferiority test."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments.measure.contrast import contrast


class Cost(NamedTuple):
    """Change Te_d - Te with its interval, the share of Te that is lost, and whether it is surely within a margin."""

    change: float
    lo: float
    hi: float
    relative: float | None
    margin: float
    passes: bool


def non_inferiority(
    clean: np.ndarray, guarded: np.ndarray, margin: float, alpha: float = 0.05, clusters: np.ndarray | None = None
) -> Cost:
    """Pass if the lower bound of Te_d - Te lies above -margin; seeds are the teacher's sampling seeds.

    Where every item comes out the same, at most 1 - (alpha/2)^(1/N) of all items can differ (Clopper & Pearson 1934).
    """
    e = contrast([clean, guarded], [-1, 1], alpha=alpha, clusters=clusters)
    lo, hi = e.lo, e.hi
    if not e.se or np.array_equal(clean, guarded):
        most = 1 - (alpha / 2) ** (1 / np.shape(clean)[1])
        lo, hi = e.value - most, e.value + most
    before = float(np.mean(clean))
    return Cost(
        float(e.value), float(lo), float(hi), -float(e.value) / before if before else None, margin, lo > -margin
    )


def strength_at(
    lost: Callable[[float], float], points: float, halvings: int = 7
) -> tuple[float, float, list[tuple[float, float]]]:
    """The share in (0, 1] of a defence's strength at which the honest user loses `points`, by bisection.

    `lost` is taken to rise with strength. Returns the share tried whose loss is nearest to `points` (the weaker of
    equals), that loss, and everything that was tried; where even full strength costs less, that is full strength.
    """
    tried = [(1.0, lost(1.0))]
    low, high = 0.0, 1.0
    for _ in range(halvings if tried[0][1] > points else 0):
        middle = (low + high) / 2
        tried.append((middle, lost(middle)))
        low, high = (middle, high) if tried[-1][1] < points else (low, middle)
    share, loss = min(tried, key=lambda one: (abs(one[1] - points), one[0]))
    return share, loss, tried
