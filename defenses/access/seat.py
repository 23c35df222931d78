"""SEAT (Zhang, Chen & Wagner, AISec 2021), adapted to prompts: pairs of an account's prompts that
are near copies.

Counts the pairs in a window whose cosine is at least `cosine`; the original closes an account above
a number of pairs, and trains its encoder for it. A baseline: API customers who run one template
have as many such pairs.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access.windows import FirstWindow, WindowSettings


class Settings(WindowSettings):
    """How much evidence the detector wants, and what it looks at."""

    window: int = Field(
        default=100, ge=2, le=1_000_000, description="prompts of an account that are looked at"
    )
    cosine: float = Field(default=0.95, gt=-1, le=1)


def near_pairs(x_BWE: np.ndarray, cosine: float) -> np.ndarray:
    """Pairs i < j in each window with x_i . x_j >= cosine (unit vectors).

    Args:
        x_BWE: unit vectors of B windows of W prompts.
        cosine: from which two are near.

    Returns:
        How many there are `[B]`.
    """
    close = np.einsum("bie,bje->bij", x_BWE, x_BWE) >= cosine
    pairs_B: np.ndarray = np.triu(close, 1).sum(axis=(1, 2))
    return pairs_B


class Detector(FirstWindow):
    """Scores how many of an account's first prompts are near copies of others."""

    settings: Settings
    name = "seat"
    paper = "AISec 2021"
    alone = True

    def judge(self, x_BWE: np.ndarray) -> np.ndarray:
        return near_pairs(x_BWE, self.settings.cosine)
