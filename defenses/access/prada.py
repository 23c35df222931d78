"""PRADA (Juuti et al. 2019, 1805.02628), adapted to prompts: distances to what was asked before
should look normal.

Each prompt's smallest distance to a growing set is noted; a prompt joins the set if that distance
exceeds the set's mean less one standard deviation. The score is 1 - W of Shapiro and Wilk's test of
the distances within three standard deviations. One stream an account (the original has one a
class). A baseline: in text it barely beats chance.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy.stats import shapiro

from defenses.access.windows import FirstWindow, WindowSettings


class Settings(WindowSettings):
    """How much evidence the detector wants, and what it looks at."""

    window: int = Field(
        default=100, ge=10, le=1_000_000, description="prompts of an account that are looked at"
    )


def nearest(x_WE: np.ndarray) -> np.ndarray:
    """Each prompt's smallest distance to the growing set of those before it; the first prompt
    begins the set.

    Args:
        x_WE: unit vectors of W prompts, in their order.

    Returns:
        `[W - 1]`, 0 to 2.
    """
    gaps = np.sqrt(np.maximum(2 - 2 * x_WE @ x_WE.T, 0))  # of unit vectors
    grown, limit, out, joined = [0], 0.0, [], []
    for i in range(1, len(x_WE)):
        d = float(gaps[i, grown].min())
        out.append(d)
        if d > limit:
            grown.append(i)
            joined.append(d)
            limit = max(limit, float(np.mean(joined) - np.std(joined)))
    return np.array(out)


def departure(distances: np.ndarray) -> float:
    """1 - W (Shapiro and Wilk 1965) for the distances within mean +- 3 sd; 1 where fewer than three
    are, or all are the same.

    Args:
        distances: `[W - 1]`.
    """
    inside = distances[np.abs(distances - distances.mean()) <= 3 * distances.std()]
    return (
        1.0 if len(inside) < 3 or np.ptp(inside) < 1e-12 else 1 - float(shapiro(inside).statistic)
    )


class Detector(FirstWindow):
    """Scores how far from normal the distances between an account's prompts are."""

    settings: Settings
    name = "prada"
    paper = "1805.02628"
    alone = True

    def judge(self, x_BWE: np.ndarray) -> np.ndarray:
        return np.array([departure(nearest(x)) for x in x_BWE])
