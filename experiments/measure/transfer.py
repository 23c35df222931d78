"""Normalised transfer T = (D - F) / (U - F): E3, E5 (with the teacher as ceiling) and the worst case, E6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import optimize, special

from experiments.measure.contrast import Variance, combine, p_below, variance

REPORT_AT = 5.0  # standard errors of U - F from which the denominator counts as well measured


class Transfer(NamedTuple):
    """T and its Fieller set; None where it is not identified.

    `kind`: `ok`; `weak denominator` (U - F below REPORT_AT standard errors); `not identified` (U - F is not measurably
    positive); `harmful` (measurably negative: distillation hurts the student); `identical outputs` (nothing varies).
    """

    value: float | None
    effective: float | None
    lo: float | None
    hi: float | None
    kind: Literal["ok", "weak denominator", "not identified", "harmful", "identical outputs"]
    t_den: float


def transfer(
    floor: np.ndarray,
    undefended: np.ndarray,
    defended: np.ndarray,
    alpha: float = 0.05,
    clusters: np.ndarray | None = None,
) -> Transfer:
    """T with its Fieller interval by test inversion (Fieller 1954); arms are seeds x items.

    With the teacher in place of `undefended` this is the performance gap recovered (Burns et al. 2023).
    """
    return ratio(variance([floor, undefended, defended], clusters), alpha)


def ratio(parts: Variance, alpha: float = 0.05) -> Transfer:
    """T from the variance of (F, U, D): x is in the set when |(D - F) - x (U - F)| <= t se(x).

    An end may be infinite; both are None only where the gap U - F is not measurably positive.
    """
    gap = combine(parts, [-1, 1, 0], alpha=alpha)
    if not gap.se:
        value = float(combine(parts, [-1, 0, 1]).value / gap.value) if gap.value > 0 else None
        effective = None if value is None else max(value, 0.0)
        return Transfer(value, effective, None, None, "identical outputs" if gap.value else "not identified", 0.0)
    t_den = float(gap.value / gap.se)
    if gap.lo <= 0:
        return Transfer(None, None, None, None, "harmful" if gap.hi < 0 else "not identified", t_den)
    value = float(combine(parts, [-1, 0, 1]).value / gap.value)
    lo, hi = (_edge(parts, alpha, value, sign) for sign in (-1, 1))
    return Transfer(value, max(value, 0.0), lo, hi, "ok" if t_den >= REPORT_AT else "weak denominator", t_den)


def outside(parts: Variance, x: float, alpha: float) -> float:
    """How far x is from being accepted as T: at most 0 inside the Fieller set."""
    e = combine(parts, [x - 1, -x, 1], alpha=alpha)
    return abs(e.value) - float(special.stdtrit(e.df, 1 - alpha / 2)) * e.se


def _edge(parts: Variance, alpha: float, start: float, sign: int) -> float:
    if outside(parts, start, alpha) >= 0:  # no variance at the estimate: the set ends there
        return start
    step = 0.05
    while outside(parts, start + sign * step, alpha) <= 0:
        step *= 1.6
        if step > 1e4:
            return sign * math.inf
    return float(optimize.brentq(lambda x: outside(parts, x, alpha), start, start + sign * step))


class Worst(NamedTuple):
    """The worst of K listed attacks: who was selected, T on the report split, and bounds.

    `lcb` belongs to the selected attack; `ucb` is the largest upper bound of all attacks, which needs no correction:
    P(max UCB < max T) <= P(the worst attack's UCB < its T). `tie`: selection could not tell the best two apart.
    """

    attack: int
    ceiling: int
    tie: bool
    transfer: Transfer
    lcb: float | None
    ucb: float | None


def select(selection: Sequence[np.ndarray]) -> int:
    """The option with the highest mean on the selection split (seeds A x items A); the first of equals."""
    return int(np.argmax([np.mean(one) for one in selection]))


def worst_case(
    floor: np.ndarray,
    undefended: Sequence[np.ndarray],
    defended: Sequence[np.ndarray],
    selection: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    alpha: float = 0.05,
    clusters: np.ndarray | None = None,
) -> Worst:
    """T_wc = (D_a* - F) / (U_b* - F), with a* and b* chosen on the selection split and scored on the report split.

    `selection` holds the same attacks' scores on seeds A x items A, undefended and defended, in the same order.
    """
    ceiling, attack = select(selection[0]), select(selection[1])
    shares = [transfer(floor, undefended[ceiling], one, alpha, clusters) for one in defended]
    uppers = [share.hi for share in shares if share.hi is not None]
    return Worst(attack, ceiling, _tied(selection[1], attack), shares[attack], shares[attack].lo,
                 max(uppers) if len(uppers) == len(shares) else None)  # fmt: skip


def _tied(arms: Sequence[np.ndarray], best: int) -> bool:
    """Whether the second best option is within one standard error of the best."""
    others = [i for i in range(len(arms)) if i != best]
    if not others:
        return False
    second = max(others, key=lambda i: float(np.mean(arms[i])))
    gap = combine(variance([arms[best], arms[second]]), [1, -1])
    return bool(gap.value <= gap.se)


def threshold_p(parts: Variance, theta: float) -> float:
    """p-value of H0: D - F >= theta (U - F), one-sided (E4); `parts` are those of (F, U, D)."""
    return p_below(combine(parts, [theta - 1, -theta, 1]))
