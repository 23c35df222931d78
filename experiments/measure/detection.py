"""Rates of what a detector flags, with exact intervals, and over runs that share shocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Rate(NamedTuple):
    """A share of n with its exact interval."""

    value: float
    lo: float
    hi: float
    n: int


def clopper_pearson(hits: int, n: int, alpha: float = 0.05) -> Rate:
    """Exact two-sided interval of a binomial proportion (Clopper & Pearson 1934); without trials,
    [0, 1].

    Args:
        hits: of the trials.
        n: trials.
        alpha: level of the two-sided interval.
    """
    if n == 0:
        return Rate(float("nan"), 0.0, 1.0, 0)
    lo = float(stats.beta.ppf(alpha / 2, hits, n - hits + 1)) if hits else 0.0
    hi = float(stats.beta.ppf(1 - alpha / 2, hits + 1, n - hits)) if hits < n else 1.0
    return Rate(hits / n, lo, hi, n)


def across_runs(flagged: Sequence[float], of: Sequence[float], alpha: float = 0.05) -> Rate:
    """Mean rate over runs, for rates that share shocks within a run (a prompt gone viral).

    Student's t over the runs' rates, and the exact interval of the pooled count where that reaches
    further; of one run the exact interval alone, as if its accounts were independent.

    Args:
        flagged: by run.
        of: accounts by run.
        alpha: level of the two-sided interval.
    """
    hits_R, of_R = np.asarray(flagged, float), np.asarray(of, float)
    exact = clopper_pearson(round(hits_R.sum()), round(of_R.sum()), alpha)
    if len(of_R) < 2 or not of_R.all():
        return exact
    rate_R = hits_R / of_R
    mean, R = float(rate_R.mean()), len(rate_R)
    half = float(stats.t.ppf(1 - alpha / 2, R - 1) * rate_R.std(ddof=1) / R**0.5)
    return Rate(
        mean, max(min(exact.lo, mean - half), 0.0), min(max(exact.hi, mean + half), 1.0), exact.n
    )
