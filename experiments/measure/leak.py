"""The join: exchanges that a campaign got before it was stopped, read through the query curve of real students.

A curve is K budgets x S seeds x N items (`curves.py`); R runs of a campaign leak n_R questions. B: bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.measure import bootstrap
from experiments.measure.contrast import Refuse, bounded
from experiments.measure.cost import Bill, Range, summary
from experiments.measure.cost import draw as drawn
from experiments.measure.curves import monotone


def read(y_BK: np.ndarray, zero_B: np.ndarray, budgets: np.ndarray, n_B: np.ndarray) -> np.ndarray:
    """Accuracy after n questions on non-decreasing curves (B).

    Linear in log n between budgets, linear in n from the untrained student (n = 0) to the first budget, and that of
    the last budget beyond it: a lower bound there.
    """
    budgets, n_B = np.asarray(budgets, float), np.asarray(n_B, float)
    if (n_B < 0).any():
        raise Refuse(f"questions that leaked must not be negative, got {n_B.min():g}")
    first = budgets[0]
    at_B = np.where(n_B < first, n_B / first - 1, np.log(np.maximum(n_B, first) / first))
    knots = np.concatenate([[-1.0], np.log(budgets / first)])
    y_BJ = np.maximum.accumulate(np.c_[zero_B, y_BK], axis=1)
    right = np.clip(np.searchsorted(knots, at_B), 1, len(knots) - 1)
    share = np.clip((at_B - knots[right - 1]) / (knots[right] - knots[right - 1]), 0, 1)
    rows = np.arange(len(at_B))
    return np.asarray(y_BJ[rows, right - 1] * (1 - share) + y_BJ[rows, right] * share)


def redrawn(runs: int, draws: int) -> np.ndarray:
    """Runs of a campaign redrawn with replacement (draws x R): the same for what they leaked and for what they cost."""
    return np.random.default_rng([0, 2]).integers(0, runs, (draws, runs))


class Gain(NamedTuple):
    """Accuracy above the floor that a leak buys: point, ends, and every draw.

    `beyond`: share of runs that leaked over 2 % more than the last budget, whose gain is a lower bound.
    """

    value: float
    lo: float
    hi: float
    draws_B: np.ndarray
    beyond: float


def gained(
    floor_SN: np.ndarray,
    zero_SN: np.ndarray,
    curve_KSN: np.ndarray,
    budgets: np.ndarray,
    n_R: Sequence[float] | np.ndarray,
    *,
    draws: int = bootstrap.DRAWS,
    alpha: float = 0.05,
    clusters: np.ndarray | None = None,
) -> Gain:
    """max(c(n), F) - F, mean over runs: an attacker to whom a leak is worth less than its own data uses its own data.

    The maximum makes a gain near 0 look larger than it is. Percentile interval of the crossed bootstrap over seeds,
    items and runs.
    """
    F, zero, Y, n = bounded(floor_SN), bounded(zero_SN), bounded(curve_KSN), np.asarray(n_R, float)
    if Y.ndim != 3 or len(Y) != len(budgets) or len(budgets) < 2 or not len(n):
        raise Refuse(f"a curve is budgets x seeds x items, got {Y.shape} for {len(budgets)} budgets, {len(n)} runs")
    start = bootstrap.start(Y.shape[2], draws, 0, clusters)
    y_BK = np.apply_along_axis(monotone, 1, np.c_[Y.mean((1, 2)), bootstrap.means(start, Y)].T)  # row 0: the estimate
    zero_B = np.append(zero.mean(), bootstrap.means(start, zero))
    f_B = np.append(F.mean(), bootstrap.means(start, F))
    runs_BR = np.concatenate([np.arange(len(n))[None], redrawn(len(n), draws)])
    over = [np.maximum(read(y_BK, zero_B, budgets, n[column]), f_B) - f_B for column in runs_BR.T]
    gain_B = np.mean(over, axis=0)
    lo, hi = bootstrap.interval(gain_B[1:], None, alpha)
    return Gain(float(gain_B[0]), lo, hi, gain_B[1:], float((n > 1.02 * budgets[-1]).mean()))


class Spent(NamedTuple):
    """What a run of a campaign bought: tokens sent and received (cover included), accounts, identities that passed."""

    tokens_in: float
    tokens_out: float
    accounts: float
    identities: float


class Prices(NamedTuple):
    """Stated ranges: dollars a million tokens, an account, an account whose identity check was passed."""

    price_in: Range
    price_out: Range
    price_account: Range
    price_identity: Range


def dollars(spent_R: Sequence[Spent], prices: Prices, draws: int) -> np.ndarray:
    """Cost of a run, mean over the runs redrawn as their leaks are, in every draw of the prices (B).

    The same prices whatever was spent, so that they cancel in a ratio.
    """
    rng = np.random.default_rng([0, 3])
    p = {name: drawn(rng, ends, draws) for name, ends in prices._asdict().items()}
    bought = np.array(spent_R, float)[redrawn(len(spent_R), draws)].mean(axis=1)
    return np.asarray((bought[:, 0] * p["price_in"] + bought[:, 1] * p["price_out"]) / 1e6
                      + bought[:, 2] * p["price_account"] + bought[:, 3] * p["price_identity"])  # fmt: skip


def per_point(dollars_B: np.ndarray, gain_B: np.ndarray) -> np.ndarray:
    """Dollars a percentage point of capability above the floor; infinite where nothing was gained."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gain_B > 0, dollars_B / (100 * gain_B), np.inf)


def multiple(defended_B: np.ndarray, undefended_B: np.ndarray) -> Bill | None:
    """How many times more a point costs; None where the undefended campaign gains nothing in more than 5 % of draws."""
    told = np.isfinite(undefended_B)
    return summary(defended_B[told] / undefended_B[told]) if told.mean() >= 0.95 else None
