"""The verdict on a cell: one of six words, with the rule that gave it."""

from __future__ import annotations

import numpy as np
from scipy import stats

from experiments.measure.contrast import contrast
from experiments.measure.transfer import transfer

MIN_SEEDS = 5


def word(
    floor: np.ndarray, undefended: np.ndarray, defended: np.ndarray, clean: np.ndarray, guarded: np.ndarray,
    *, theta0: float = 0.5, utility_margin: float = 0.02, alpha: float = 0.05,
) -> tuple[str, str]:  # fmt: skip
    """Word and rule. Arms are seeds x items in [0, 1]; `clean` and `guarded` are the teacher without and with defence.

    Order: not measurable, inconclusive for want of seeds, costly, ineffective (lower bound of T above 0.8), effective
    (one-sided test of D - F >= theta0 (U - F) at alpha/2), inconclusive.
    """
    share = transfer(floor, undefended, defended, alpha)
    if share.lo is None:
        return "not measurable", "U - F is not measurably above 0: no gap to close"
    seeds = min(floor.shape[0], undefended.shape[0], defended.shape[0])
    if seeds < MIN_SEEDS:
        return "inconclusive", f"{seeds} seeds; a verdict needs {MIN_SEEDS}"
    cost = contrast([clean, guarded], [-1, 1], alpha=alpha)
    if cost.lo <= -utility_margin:
        return "costly", f"teacher changes by {cost.value:+.3f}, lower bound {cost.lo:+.3f} <= -{utility_margin}"
    if share.lo > 0.8:
        return "ineffective", f"lower bound of T {share.lo:.2f} > 0.8"
    test = contrast([floor, undefended, defended], [theta0 - 1, -theta0, 1])
    upper = test.value + (float(stats.t.ppf(1 - alpha / 2, test.df)) * test.se if test.se else 0.0)
    if upper < 0:
        return "effective", f"D - F < {theta0} (U - F) at one-sided {alpha / 2}"
    return "inconclusive", f"T in [{share.lo:.2f}, {share.hi:.2f}] settles neither 0.8 nor {theta0}"
