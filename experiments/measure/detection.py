"""Operating points of a detector: rates where false alarms are rare, with exact intervals; never an
AUC alone.
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
    lo = float(stats.beta.ppf(alpha / 2, hits, n - hits + 1)) if hits else 0.0
    hi = float(stats.beta.ppf(1 - alpha / 2, hits + 1, n - hits)) if hits < n else 1.0
    return Rate(hits / n, lo, hi, n)


class Point(NamedTuple):
    """A detector at one nominal rate of false alarms over the horizon.

    `measurable`: False where the honest accounts are too few to see the nominal rate at all (fewer
    than 3 / rate, rule of three): such a point is a bound, not a measurement.
    """

    nominal: float
    tpr: Rate
    fpr: Rate
    measurable: bool


def operating_points(
    honest: np.ndarray, guilty: np.ndarray, nominal: Sequence[float], alpha: float = 0.05
) -> list[Point]:
    """Points from masks [levels, customers] and [levels, accounts]: whether each was flagged within
    the horizon.

    Args:
        honest: masks of customers.
        guilty: masks of accounts.
        nominal: rate of false alarms of each level.
        alpha: level of the two-sided interval.
    """
    out = []
    for rate, clean, caught in zip(nominal, honest, guilty, strict=True):
        fpr = clopper_pearson(int(clean.sum()), len(clean), alpha)
        out.append(
            Point(
                rate,
                clopper_pearson(int(caught.sum()), len(caught), alpha),
                fpr,
                len(clean) * rate >= 3,
            )
        )
    return out


def needed_rate(prevalence: float, tpr: float, precision: float) -> float:
    """The largest false-positive rate at which that share of the flagged is guilty: v TPR (1 - p) /
    (p (1 - v)).

    Args:
        prevalence: v, the share that is guilty.
        tpr: share of the guilty that is flagged.
        precision: p.
    """
    return prevalence * tpr * (1 - precision) / (precision * (1 - prevalence))


def partial_auc(honest: np.ndarray, guilty: np.ndarray, most: float = 1e-3) -> float:
    """Area under the ROC over false-positive rates up to `most`, as a share of it: 0.5 most for a
    useless score.

    The mean, over the `most` highest of the honest scores, of the share of guilty ones above (ties
    count half). NaN where that is less than one honest score.

    Args:
        honest: scores, higher is more suspect.
        guilty: scores.
        most: largest false-positive rate.
    """
    top = np.sort(honest)[len(honest) - int(most * len(honest) + 1e-9) :]
    below, at_most = (
        np.searchsorted(np.sort(guilty), top, side=side) for side in ("left", "right")
    )
    return float(1 - (below + at_most).mean() / 2 / len(guilty)) if len(top) else float("nan")


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
