"""Normalised transfer T = (D - F) / (U - F): E3, E5 (with the teacher as ceiling) and the worst
case, E6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import optimize, special

from experiments.measure.contrast import Prior, Variance, combine, corrected_t, p_below, variance
from experiments.measure.scores import Scores, checked, raw

NEAR = 0.1
REPORT_AT = 5.0  # standard errors of U - F from which the denominator counts as well measured


def normalised_transfer(floor: Any, undefended: Any, defended: Any) -> Any:
    """T = (D - F) / (U - F), elementwise of accuracies F, U and D; NaN where U is not above F.

    Args:
        floor: F.
        undefended: U.
        defended: D.
    """
    gap = np.subtract(undefended, floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gap > 0, np.subtract(defended, floor) / gap, np.nan)


def transfer_of_means(floor: float, undefended: float, defended: float) -> float | None:
    """The same of three numbers; None where U is not above F.

    Args:
        floor: F, a share.
        undefended: U, a share.
        defended: D, a share.
    """
    share = float(normalised_transfer(floor, undefended, defended))
    return None if math.isnan(share) else share


class Transfer(NamedTuple):
    """T and its Fieller set; None where it is not identified.

    `kind`: `ok`; `weak denominator` (U - F below REPORT_AT standard errors); `not identified` (U -
    F is not measurably positive); `harmful` (measurably negative: distillation hurts the student);
    `identical outputs` (nothing varies); `itself` (the arm is F or U, so T is 0 or 1 by definition
    and has no interval).
    """

    value: float | None
    effective: float | None
    lo: float | None
    hi: float | None
    kind: Literal[
        "ok", "weak denominator", "not identified", "harmful", "identical outputs", "itself"
    ]
    t_den: float


def transfer(
    floor: Scores,
    undefended: Scores,
    defended: Scores,
    alpha: float = 0.05,
    clusters: np.ndarray | None = None,
) -> Transfer:
    """T with its Fieller interval by test inversion (Fieller 1954); arms are seeds x items, paired
    by shared seeds.

    With the teacher in place of `undefended` this is the performance gap recovered (Burns et al.
    2023).

    Args:
        floor: `[S, N]` seeds x items, any units; an `Arm` names its seeds.
        undefended: the same.
        defended: the same.
        alpha: level of the two-sided interval.
        clusters: labels `[N]` of items that belong together; None where each is its own.
    """
    return ratio(variance([floor, undefended, defended], clusters), alpha)


def ratio(parts: Variance, alpha: float = 0.05) -> Transfer:
    """T from the variance of (F, U, D): x is in the set when |(D - F) - x (U - F)| <= t se(x).

    An end may be infinite; both are None only where the gap U - F is not measurably positive.

    Args:
        parts: variance of the arms F, U and D, in this order.
        alpha: level of the two-sided set.
    """
    gap = combine(parts, [-1, 1, 0], alpha=alpha)
    if not gap.se:
        value = transfer_of_means(*parts.mean_A)
        effective = None if value is None else max(value, 0.0)
        return Transfer(
            value,
            effective,
            None,
            None,
            "identical outputs" if gap.value else "not identified",
            0.0,
        )
    t_den = float(gap.value / gap.se)
    if gap.lo <= 0:
        return Transfer(
            None, None, None, None, "harmful" if gap.hi < 0 else "not identified", t_den
        )
    value = transfer_of_means(*parts.mean_A)
    assert value is not None  # the gap is measurably positive
    lo, hi = (_edge(parts, alpha, value, sign) for sign in (-1, 1))
    return Transfer(
        value, max(value, 0.0), lo, hi, "ok" if t_den >= REPORT_AT else "weak denominator", t_den
    )


def outside(parts: Variance, x: float, alpha: float) -> float:
    """How far x is from being accepted as T: at most 0 inside the Fieller set.

    The test of x is the one that the words make (`corrected_t`), so that an end of the interval and
    a p-value never disagree.

    Args:
        parts: variances of (F, U, D).
        x: a value of T.
        alpha: level of the two-sided test.

    Returns:
        In standard errors, beyond the critical value; where nothing varies, 0 for the one value
        that is accepted and infinity for all others.
    """
    t, df = corrected_t(parts, [x - 1, -x, 1])
    if math.isinf(df):
        return abs(t)
    return abs(t) - float(special.stdtrit(df, 1 - alpha / 2))


def _edge(parts: Variance, alpha: float, start: float, sign: int) -> float:
    if outside(parts, start, alpha) >= 0:  # no variance at the estimate: the set ends there
        return start
    # There is no formula, as degrees of freedom and skewness change with x. Where U - F is
    # barely measurable the set has no end, and the search must stop.
    step = 0.05
    while outside(parts, start + sign * step, alpha) <= 0:
        step *= 1.6
        if step > 1e4:
            return sign * math.inf
    return float(optimize.brentq(lambda x: outside(parts, x, alpha), start, start + sign * step))


class Worst(NamedTuple):
    """The worst of K listed attacks: who was selected, T on the report split, and bounds.

    `lcb` belongs to the selected attack and is the least lower bound over all undefended attacks as
    ceilings: the best of them is one of these, so nothing is lost where another was selected. `ucb`
    is the largest upper bound of all attacks over the ceilings that selection cannot tell from its
    best. Neither needs a correction: P(max UCB < max T) <= P(the worst attack's UCB < its T).
    `tie`: selection could not tell the best two attacks apart.
    """

    attack: int
    ceiling: int
    tie: bool
    transfer: Transfer
    lcb: float | None
    ucb: float | None


def select(selection: Sequence[Scores]) -> int:
    """The option with the highest mean on the selection split (seeds A x items A); the first of
    equals.

    Args:
        selection: `[S, N]` each, at least one.

    Returns:
        Its place, from 0.
    """
    return int(np.argmax([np.mean(raw(one)) for one in selection]))


def worst_case(
    floor: Scores,
    undefended: Sequence[Scores],
    defended: Sequence[Scores],
    selection: tuple[Sequence[Scores], Sequence[Scores]],
    alpha: float = 0.05,
    clusters: np.ndarray | None = None,
) -> Worst:
    """T_wc = (D_a* - F) / (U_b* - F), with a* and b* chosen on the selection split and scored on
    the report split.

    `selection` holds the same attacks' scores on seeds A x items A, undefended and defended, in the
    same order.

    Args:
        floor: `[S, N]` seeds x items, any units; an `Arm` names its seeds.
        undefended: by attack.
        defended: by attack.
        selection: undefended and defended by attack, of other seeds and items.
        alpha: level of the two-sided interval.
        clusters: labels `[N]` of items that belong together; None where each is its own.
    """
    ceiling, attack = select(selection[0]), select(selection[1])
    likely = _likely(selection[0], alpha)
    main = transfer(floor, undefended[ceiling], defended[attack], alpha, clusters)
    lowers = [transfer(floor, one, defended[attack], alpha, clusters).lo for one in undefended]
    uppers = [
        transfer(floor, undefended[b], one, alpha, clusters).hi for b in likely for one in defended
    ]
    bounded, bounds = (
        [one for one in lowers if one is not None],
        [one for one in uppers if one is not None],
    )
    # A ceiling without a measurable gap has no lower bound and is left out; an attack without an
    # upper one could be the worst, so that the largest is unknown.
    lcb = min(bounded) if bounded and main.lo is not None else None
    return Worst(
        attack,
        ceiling,
        tied(selection[1], attack),
        main,
        lcb,
        max(bounds) if len(bounds) == len(uppers) else None,
    )


def _likely(selection: Sequence[Scores], alpha: float) -> list[int]:
    """The options that may be the best: not measurably NEAR below the one with the highest mean
    (alpha / 2, one-sided).

    Options have few selection seeds each, so their seed variance is pooled over all of them; and
    NEAR is what students that fail once in ten cost, which few seeds do not show.
    """
    if len(selection) < 2:
        return [0]
    Ys = [checked(one) for one in selection]
    best, counts = select(selection), np.array([len(Y) for Y in Ys])
    df = max(int((counts - 1).sum()), 1)
    pooled = sum(float(((Y.mean(1) - Y.mean()) ** 2).sum()) for Y in Ys) / df
    likely = []
    for i, Y in enumerate(Ys):
        gap_N = Ys[best].mean(0) - Y.mean(0)
        error = math.sqrt(
            pooled * (1 / len(Y) + 1 / counts[best]) + float(gap_N.var(ddof=1)) / len(gap_N)
        )
        if i == best or gap_N.mean() - NEAR <= float(special.stdtrit(df, 1 - alpha / 2)) * error:
            likely.append(i)
    return likely


def tied(arms: Sequence[Scores], best: int) -> bool:
    """Whether the second best option is within one standard error of the best.

    Args:
        arms: `[S, N]` seeds x items each.
        best: place of the best.
    """
    others = [i for i in range(len(arms)) if i != best]
    if not others:
        return False
    second = max(others, key=lambda i: float(np.mean(raw(arms[i]))))
    gap = combine(variance([arms[best], arms[second]]), [1, -1])
    return bool(gap.value <= gap.se)


def threshold(share: float) -> tuple[float, float, float]:
    """Weights of (F, U, D) whose sum is (D - F) - share (U - F).

    Args:
        share: the T that is asked about.
    """
    return share - 1, -share, 1.0


def threshold_p(parts: Variance, theta: float, prior: Prior | None = None) -> float:
    """p-value of H0: D - F >= theta (U - F), one-sided (E4); `parts` are those of (F, U, D).

    Args:
        parts: variances of (F, U, D).
        theta: share of the gap.
        prior: of the seed variance.
    """
    return p_below(parts, threshold(theta), prior)


def above_p(parts: Variance, share: float, prior: Prior | None = None) -> float:
    """p-value of H0: D - F <= share (U - F), one-sided.

    Args:
        parts: variances of (F, U, D).
        share: of the gap.
        prior: of the seed variance.
    """
    return p_below(parts, [-one for one in threshold(share)], prior)


def unseen(share: float, seeds: int, alpha: float = 0.05) -> float:
    """The mean T that seeds nobody saw could make of a T that all `seeds` seen share.

    A share p of seeds that reach U is missed by all of them with probability (1 - p)^S, so at level
    alpha / 2 it may be up to 1 - (alpha / 2)^(1 / S), and the mean T then T + p (1 - T).

    Args:
        share: the T that was seen.
        seeds: S.
        alpha: level.
    """
    p = 1 - float((alpha / 2) ** (1 / seeds))
    return share + p * max(1 - share, 0.0)


def seeds_unseen(share: float, theta: float, alpha: float = 0.05) -> int | None:
    """The fewest seeds with which `unseen` stays below theta; None where T is not below it.

    Args:
        share: the T that was seen.
        theta: largest T of an effective defence.
        alpha: level.
    """
    if share >= theta:
        return None
    # floor + 1 and no ceil: with a whole quotient `unseen` would be theta itself.
    return math.floor(math.log(alpha / 2) / math.log(1 - (theta - share) / (1 - share))) + 1
