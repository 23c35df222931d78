"""Normalised transfer T = (D - F) / (U - F): the share of the teacher's gain that the defended student still gets."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from scipy import optimize, stats

from experiments.measure.contrast import contrast

REPORT_AT = 5.0


class Transfer(NamedTuple):
    """T and its Fieller set; all None where the gap U - F is not measurably positive."""

    value: float | None
    effective: float | None
    lo: float | None
    hi: float | None
    kind: Literal["ok", "weak denominator", "not identified"]
    t_den: float


def transfer(floor: np.ndarray, undefended: np.ndarray, defended: np.ndarray, alpha: float = 0.05) -> Transfer:
    """T with its Fieller interval by test inversion (Fieller 1954); arms are seeds x items in [0, 1].

    x is inside when |(D - F) - x (U - F)| <= t se(x) for the contrast (x - 1, -x, 1) on (F, U, D). An end may be
    infinite. Below REPORT_AT standard errors the denominator is called weak.
    """
    arms = [floor, undefended, defended]
    gap = contrast([floor, undefended], [-1, 1], alpha=alpha)
    t_den = gap.value / gap.se if gap.se else math.inf * (gap.value > 0)
    if gap.value <= 0 or gap.lo <= 0:
        return Transfer(None, None, None, None, "not identified", 0.0 if math.isnan(t_den) else t_den)
    value = contrast([floor, defended], [-1, 1]).value / gap.value

    def outside(x: float) -> float:
        e = contrast(arms, [x - 1, -x, 1])
        return abs(e.value) - float(stats.t.ppf(1 - alpha / 2, e.df)) * e.se if e.se else abs(e.value)

    # At the estimate itself the distance is 0 up to rounding; with no variance at all the set is that point.
    lo, hi = (_edge(outside, value, sign) if outside(value) < 0 else value for sign in (-1, 1))
    return Transfer(value, max(value, 0.0), lo, hi, "ok" if t_den >= REPORT_AT else "weak denominator", t_den)


def _edge(outside: object, start: float, sign: int) -> float:
    step = 0.05
    while outside(start + sign * step) <= 0:  # type: ignore[operator]
        step *= 1.6
        if step > 1e4:
            return sign * math.inf
    return float(optimize.brentq(outside, start, start + sign * step))
