"""What a defence costs the honest user (E7): the teacher's own exam with and without it, as a non-inferiority test."""

from __future__ import annotations

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
