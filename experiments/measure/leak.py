"""The join: exchanges that a campaign got before it was stopped, read through the query curve of
real students.

A curve is K budgets x S seeds x N items (`curves.py`); R runs of a campaign leak n_R questions. B:
bootstrap draws. Students of exactly what leaked measure the same without a curve (`taught`), and
come first where they exist.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.measure import bootstrap
from experiments.measure.budgets import too_far
from experiments.measure.contrast import Estimate, contrast
from experiments.measure.cost import Bill, Range, summary
from experiments.measure.cost import draw as drawn
from experiments.measure.curves import between, monotone
from experiments.measure.scores import Arm, NotMeasurable, Scores, bounded, raw


def read(
    y_BK: np.ndarray, zero_B: np.ndarray, budgets: np.ndarray, n_B: np.ndarray, moved: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Accuracy after n questions on non-decreasing curves: by the chord, and the least and most it
    could be.

    Linear in log n between budgets, linear in n from the untrained student (n = 0) to the first
    budget, and that of the last budget beyond it: a lower bound there. Its range is that of an
    S-shaped curve (`curves.between`). `moved` reads so far to the right on that axis.

    Args:
        y_BK: curves, not falling, shares.
        zero_B: shares of the untrained student.
        budgets: questions `[K]`, rising.
        n_B: questions.
        moved: in log n, and in shares of the first budget below it.

    Returns:
        Shares `[B]` each.
    """
    knots, at_B = _axis(budgets, n_B)
    return between(np.maximum.accumulate(np.c_[zero_B, y_BK], axis=1), knots, at_B + moved)


def _axis(budgets: np.ndarray, n_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots of a curve with its untrained student, and where n lies among them: n / first - 1, then
    log(n / first).
    """
    budgets, n_B = np.asarray(budgets, float), np.asarray(n_B, float)
    if (n_B < 0).any():
        raise NotMeasurable(f"questions that leaked must not be negative, got {n_B.min():g}")
    # Both parts of the axis meet in 0 at the first budget, where both rise by 1 / first a question:
    # a curve gets no kink from the axis.
    first = budgets[0]
    at_B = np.where(n_B < first, n_B / first - 1, np.log(np.maximum(n_B, first) / first))
    return np.concatenate([[-1.0], np.log(budgets / first)]), at_B


def weights(budgets: np.ndarray, n_R: np.ndarray) -> np.ndarray:
    """What the untrained student and each budget count for in the mean of R readings by the chord.

    Args:
        budgets: exchanges `[K]`, rising.
        n_R: exchanges of each run.

    Returns:
        `[1 + K]`, sum 1.
    """
    knots, at_R = _axis(budgets, n_R)
    # The chord is linear in the heights of its knots: a curve that is 1 at one knot and 0 at all
    # others reads as that knot's weight.
    return np.array([np.interp(at_R, knots, row).mean() for row in np.eye(len(knots))])


def names(scores: Scores) -> tuple[int, ...] | None:
    """The seeds of an arm; None of an array alone."""
    return scores.seeds if isinstance(scores, Arm) else None


def redrawn(runs: int, draws: int) -> np.ndarray:
    """Runs of a campaign redrawn with replacement: the same for what they leaked and
    for what they cost.

    Args:
        runs: R.
        draws: B.

    Returns:
        Places of runs `[B, R]`, 0 to R - 1.
    """
    # Streams 0 and 1 are those of items and seeds in `bootstrap.start`; runs must not follow them.
    return np.random.default_rng([0, 2]).integers(0, runs, (draws, runs))


class Gain(NamedTuple):
    """Accuracy above the floor that a leak buys: point, ends, and draws of it for its price (B).

    `beyond`: share of runs that leaked over 2 % more than the last budget, whose gain is a lower
    bound.
    """

    value: float
    lo: float
    hi: float
    draws_B: np.ndarray
    beyond: float


def gained(
    floor: Scores,
    zero: Scores,
    curve: Sequence[Scores],
    budgets: np.ndarray,
    n_R: Sequence[float] | np.ndarray,
    *,
    draws: int = bootstrap.DRAWS,
    alpha: float = 0.05,
    clusters: np.ndarray | None = None,
) -> Gain:
    """max(c(n), F) - F, mean over runs: an attacker to whom a leak is worth less than its own data
    uses its own data.

    Around the least and the most that an S-shaped curve could be, two independent errors are
    squared and added, each as far as its own interval reaches down and up (MOVER, Zou & Donner
    2008): that of the students of curve and floor, common to all runs (Student's on the two-way
    variance of the chord's contrast), and that of the runs, whose leaks are moved along the curve's
    axis by Student's interval of R - 1 degrees, because a steep curve makes any law of leaks a
    skewed law of gains. A single run counts as fixed. The draws redraw seeds, items and runs.

    Args:
        floor: shares `[S, N]`.
        zero: shares `[S, N]` of the untrained student.
        curve: shares `[S, N]` by budget.
        budgets: questions `[K]`, rising.
        n_R: questions that leaked, by run.
        draws: B.
        alpha: level of the two-sided interval.
        clusters: labels `[N]` of items that belong together; None where each is its own.
    """
    F, start, n = bounded(floor), bounded(zero), np.asarray(n_R, float)
    Ys = [bounded(arm) for arm in curve]
    _check_curve(Ys, budgets, n)
    reading = _Reading(
        monotone(np.array([Y.mean() for Y in Ys])),
        float(start.mean()),
        float(F.mean()),
        budgets,
        n,
    )
    half = _student_error(floor, zero, curve, weights(budgets, n), alpha, clusters)
    moved = _run_error(budgets, n, alpha)
    least, most = reading.above(1), reading.above(2)
    lo = least - math.hypot(least - reading.above(1, error=-half), least - reading.above(1, -moved))
    hi = most + math.hypot(reading.above(2, error=half) - most, reading.above(2, moved) - most)
    return Gain(
        reading.above(0),
        max(lo, 0.0),
        min(hi, 1 - reading.floor),
        _drawn(floor, zero, curve, budgets, n, draws, clusters),
        float((n > 1.02 * budgets[-1]).mean()),
    )


def _check_curve(arms: Sequence[np.ndarray], budgets: np.ndarray, n_R: np.ndarray) -> None:
    """NotMeasurable unless the arms are a curve of near budgets, and there is a run to read."""
    R, shapes = len(n_R), {Y.shape for Y in arms}
    if len(arms) != len(budgets) or len(budgets) < 2 or len(shapes) > 1 or not R:
        raise NotMeasurable(
            f"a curve is budgets x seeds x items, got {len(arms)} arms for {len(budgets)} budgets, "
            f"{R} runs"
        )
    if why := too_far(budgets, "a curve that leaks are read through"):
        raise NotMeasurable(why)


class _Reading(NamedTuple):
    """A rising curve (K budgets), its untrained student and the floor; what R runs leaked."""

    mean_K: np.ndarray
    zero: float
    floor: float
    budgets: np.ndarray
    n_R: np.ndarray

    def above(self, which: int, shift: float = 0.0, error: float = 0.0) -> float:
        """Mean over runs of what is above the floor: of the chord (0), the least (1) or the most
        (2), read so far to the right and with so much added.
        """
        R = len(self.n_R)
        curves, zero_R = np.tile(self.mean_K, (R, 1)), np.full(R, self.zero)
        read_R = read(curves, zero_R, self.budgets, self.n_R, shift)[which]
        return float(np.maximum(read_R - self.floor + error, 0.0).mean())


def _student_error(
    floor: Scores,
    zero: Scores,
    curve: Sequence[Scores],
    share: np.ndarray,
    alpha: float,
    clusters: np.ndarray | None,
) -> float:
    """Half the interval of the chord's contrast, common to all runs; `share` (1 + K) is what the
    untrained student and each budget count for.
    """
    seeds = {names(arm) for arm in curve}
    mixed_SN = np.asarray(np.einsum("k,ksn->sn", share[1:], np.stack([bounded(a) for a in curve])))
    common = next(iter(seeds)) if len(seeds) == 1 else None
    trained: Scores = Arm(mixed_SN, common) if common else mixed_SN
    e = contrast([floor, zero, trained], [-1, share[0], 1], alpha=alpha, clusters=clusters)
    return float(e.hi - e.value) if e.se else 0.0


def _run_error(budgets: np.ndarray, n_R: np.ndarray, alpha: float) -> float:
    """Half of Student's interval of the leaks' places on the curve's axis; 0 of a single run."""
    R = len(n_R)
    if R < 2:
        return 0.0
    spread = _axis(budgets, n_R)[1].std(ddof=1)
    return float(stats.t.ppf(1 - alpha / 2, R - 1) * spread / R**0.5)


def _drawn(
    floor: Scores,
    zero: Scores,
    curve: Sequence[Scores],
    budgets: np.ndarray,
    n_R: np.ndarray,
    draws: int,
    clusters: np.ndarray | None,
) -> np.ndarray:
    """The gain with seeds, items and runs redrawn, by the chord (B): what a point of it costs is a
    ratio.
    """
    start = bootstrap.start(raw(floor).shape[1], draws, 0, clusters)
    arms = [floor, zero, curve[0]]
    w_f, w_0, w_K = bootstrap.by_seeds(
        start, list(map(names, arms)), [len(raw(one)) for one in arms]
    )
    Y = np.stack([raw(one) for one in curve])
    y_BK = np.apply_along_axis(monotone, 1, bootstrap.means(start, Y, w_K).T)
    zero_B, f_B = (bootstrap.means(start, raw(one), w) for one, w in ((zero, w_0), (floor, w_f)))
    over = [
        np.maximum(read(y_BK, zero_B, budgets, n_R[column])[0], f_B) - f_B
        for column in redrawn(len(n_R), draws).T
    ]
    return np.asarray(np.mean(over, axis=0))


def taught(
    floor: Scores, leaked_RN: np.ndarray, alpha: float = 0.05, clusters: np.ndarray | None = None
) -> Estimate:
    """D - F of students that learned exactly what leaked, one a run: the two-way variance,
    Student's t over runs.

    Degrees of freedom are never more than R - 1: what few runs happen to share must not pass for
    knowledge of them. A single run counts as fixed. Below 0 where a leak teaches less than the
    attacker's own data, which these students do not see.

    Args:
        floor: shares `[S, N]`.
        leaked_RN: 1 for right, a student a run.
        alpha: level of the two-sided interval.
        clusters: labels `[N]` of items that belong together; None where each is its own.

    Returns:
        A difference of shares.
    """
    e = contrast([floor, leaked_RN], [-1, 1], alpha=alpha, clusters=clusters)
    if len(leaked_RN) < 2 or not e.se:
        return e
    df = min(float(e.df), len(leaked_RN) - 1)
    half = float(stats.t.ppf(1 - alpha / 2, df)) * e.se
    return e._replace(df=df, lo=e.value - half, hi=e.value + half)


class Spent(NamedTuple):
    """What a run of a campaign bought: tokens sent and received (cover included), accounts,
    identities that passed.
    """

    tokens_in: float
    tokens_out: float
    accounts: float
    identities: float


class Prices(NamedTuple):
    """Stated ranges: dollars a million tokens, an account, an account whose identity check was
    passed.
    """

    price_in: Range
    price_out: Range
    price_account: Range
    price_identity: Range


def dollars(spent_R: Sequence[Spent], prices: Prices, draws: int) -> np.ndarray:
    """Cost of a run, mean over the runs redrawn as their leaks are, in every draw of the prices.

    The same prices whatever was spent, so that they cancel in a ratio.

    Args:
        spent_R: by run.
        prices: ranges, dollars.
        draws: B.

    Returns:
        Dollars `[B]`.
    """
    rng = np.random.default_rng([0, 3])
    p = {name: drawn(rng, ends, draws) for name, ends in prices._asdict().items()}
    bought = np.array(spent_R, float)[redrawn(len(spent_R), draws)].mean(axis=1)
    return np.asarray(
        (bought[:, 0] * p["price_in"] + bought[:, 1] * p["price_out"]) / 1e6
        + bought[:, 2] * p["price_account"]
        + bought[:, 3] * p["price_identity"]
    )


def per_point(dollars_B: np.ndarray, gain_B: np.ndarray) -> np.ndarray:
    """Dollars a percentage point of capability above the floor; infinite where
    nothing was gained.

    Args:
        dollars_B: in each draw.
        gain_B: accuracy above the floor in each draw, a share.

    Returns:
        `[B]`, dollars a point.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gain_B > 0, dollars_B / (100 * gain_B), np.inf)


def multiple(defended_B: np.ndarray, undefended_B: np.ndarray) -> Bill | None:
    """How many times more a point costs; None where the undefended campaign gains nothing in more
    than 5 % of draws.

    Args:
        defended_B: dollars a point in each draw.
        undefended_B: the same without a defence.
    """
    # A point that cannot be had behind the defence is an answer, and stays infinite; one that
    # cannot be had without it is none.
    measured = np.isfinite(undefended_B)
    return (
        summary(defended_B[measured] / undefended_B[measured]) if measured.mean() >= 0.95 else None
    )
