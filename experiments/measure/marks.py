"""What a test for a mark comes to, from what was counted: the p-value again, and of how many
students.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from defenses.marks import adfp, trigger
from defenses.marks.detect import LEAST, laws

LEVELS = (1e-2, 1e-3, 1e-5)
"""p-values at which a student counts as found."""
WORST = -3.0  # log10 p that all hits of a trigger must reach, see its `detect_replies`


def log10_p(mark: Any, test: str, scored: int, statistic: float | None, size: int) -> float | None:
    """The decimal logarithm of a test's p-value, from what it counted alone; no key is read.

    Args:
        mark: the defence with its settings.
        test: its name in `stages.mark_test`; green mass has a law of its own.
        scored: distinct draws.
        statistic: what they came to.
        size: of the vocabulary.

    Returns:
        None where there is no p-value, as too little was scored.
    """
    if isinstance(mark, trigger.Defense):
        chances_N = np.full(scored, 10.0**-mark.settings.digits)
        least = laws.poisson_binomial(scored, chances_N) if scored else 0.0
        if least > WORST * math.log(10) or statistic is None:
            return None
        return laws.poisson_binomial(int(statistic), chances_N) / math.log(10)
    if scored < LEAST or statistic is None:
        return None
    if test == "green mass":
        assert isinstance(mark, adfp.Defense)
        excess = statistic - mark.settings.gamma * scored
        return laws.hoeffding(excess, scored) / math.log(10)
    # A law reads the number of draws and the sum of their scores.
    score_N = np.zeros(scored)
    score_N[0] = statistic
    return float(mark.law(score_N, size).log_p) / math.log(10)
