"""Rates of what a detector flags: exact intervals, over runs that share shocks, and over operators
whose accounts are alike.
"""

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
    return Rate(hits / n, *_exact_ends(hits, n, alpha), n)


def _exact_ends(hits: float, n: float, alpha: float) -> tuple[float, float]:
    """Ends of the exact interval; trials and hits need not be whole numbers."""
    lo = float(stats.beta.ppf(alpha / 2, hits, n - hits + 1)) if hits > 0 else 0.0
    hi = float(stats.beta.ppf(1 - alpha / 2, hits + 1, n - hits)) if hits < n else 1.0
    return lo, hi


def across_runs(
    flagged: Sequence[float], of: Sequence[float], alpha: float = 0.05, *, operators: bool = False
) -> Rate:
    """Mean share over runs, for accounts that share what happens to a run: a prompt gone viral, or
    the operator whose accounts they all are.

    Student's t over the runs' shares, and where it reaches further the exact interval of the
    effective number of trials (Korn & Graubard 1998): of as many independent accounts as vary so
    much between runs, less by the degrees of freedom. Runs that agree, and a single run, do not
    show how much they vary: customers then count as independent, and an operator as one trial.

    Args:
        flagged: by run; runs without accounts are left out.
        of: accounts by run.
        alpha: level of the two-sided interval.
        operators: whether the accounts of a run are one operator's, so that none is a trial of its
            own.
    """
    hits_R, of_R = np.asarray(flagged, float), np.asarray(of, float)
    hits_R, of_R = hits_R[of_R > 0], of_R[of_R > 0]
    if not len(of_R):
        return clopper_pearson(0, 0, alpha)
    share_R, total = hits_R / of_R, round(of_R.sum())
    mean, R = float(share_R.mean()), len(share_R)
    error = float(share_R.std(ddof=1)) / R**0.5 if R > 1 else 0.0
    if not error:
        trials = R if operators else total
        return Rate(mean, *_exact_ends(mean * trials, trials, alpha), total)
    t = float(stats.t.ppf(1 - alpha / 2, R - 1))
    trials = effective_trials(mean, error, total) * (stats.norm.ppf(1 - alpha / 2) / t) ** 2
    lo, hi = _exact_ends(mean * trials, trials, alpha)
    lo, hi = min(lo, mean - t * error), max(hi, mean + t * error)
    return Rate(mean, max(lo, 0.0), min(hi, 1.0), total)


def effective_trials(share: float, error: float, total: float) -> float:
    """How many independent trials have this standard error; no more than there are.

    Args:
        share: of successes, above 0 and below 1.
        error: standard error of it.
        total: trials that there are.
    """
    return min(share * (1 - share) / error**2, total)
