"""Release pivot: a cluster whose traffic jumps to a new model on the day that it comes out.

One reported campaign moved nearly half of its traffic within 24 hours. CUSUM (Page 1954) over the
days since the release of the log likelihood ratio of the cluster's uptake: beta-binomial around
`share` against the segment's own uptake at that age, learned from an earlier release. Pooled over
linked accounts, because one account of 26 exchanges a day that moves half of them is no rarity.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy.special import betaln

from defenses.access import BaseDetector, Baseline, Day
from defenses.access.links import Links, LinkSettings


class Settings(LinkSettings):
    """How much evidence the detector wants, and what it looks at."""

    release: int = Field(
        default=20, ge=0, le=3650, description="day on which the new model came out"
    )
    days: int = Field(default=5, ge=1, le=3650, description="days after it that count")
    share: float = Field(default=0.5, gt=0, lt=1, description="uptake of a campaign")
    steady: float = Field(default=100.0, gt=0, description="concentration of a campaign's uptake")
    least: int = Field(
        default=10,
        ge=1,
        le=1_000_000,
        description="exchanges of a cluster on a day before it counts",
    )


Beta = tuple[np.ndarray | float, np.ndarray | float]
"""Mean and concentration of a beta distribution."""


def log_ratio(k: np.ndarray, n: np.ndarray, shape: Beta, null: Beta) -> np.ndarray:
    """log of beta-binomial(k; n, a, b) under `shape` over that under `null`.

    Args:
        k: hits `[n]`.
        n: trials `[n]`.
        shape: of a campaign.
        null: of honest customers.

    Returns:
        Nats `[n]`.
    """
    ratio: np.ndarray = _log_weight(k, n, *shape) - _log_weight(k, n, *null)
    return ratio


def _log_weight(
    k: np.ndarray, n: np.ndarray, mean: np.ndarray | float, concentration: np.ndarray | float
) -> np.ndarray:
    """log of beta-binomial(k; n, a, b) without the binomial coefficient."""
    a, b = mean * concentration, (1 - mean) * concentration
    weight: np.ndarray = betaln(k + a, n - k + b) - betaln(a, b)
    return weight


class Detector(BaseDetector):
    """Scores how suddenly a cluster moves to a new model."""

    settings: Settings
    name = "pivot"
    alone = True

    def __init__(self, settings: Settings, baseline: Baseline) -> None:
        super().__init__(settings, baseline)
        self.links = Links(settings)

    def update(self, day: Day) -> None:
        age = day.number - self.settings.release
        if not 0 <= age < self.settings.days or not len(day.active):
            return
        cluster = self.links.of(day.accounts)[day.active]
        order = np.argsort(cluster, kind="stable")
        starts = np.flatnonzero(np.diff(cluster[order], prepend=-1))
        k = np.add.reduceat(day.total(day.events.newest)[order], starts)
        n = np.add.reduceat(day.n[order], starts)
        usual, s = self.baseline.newest, day.accounts.segment[day.active[order[starts]]]
        at = min(age, usual.mean.shape[1] - 1)
        null = usual.mean[s, at], 1 / usual.rho[s, at] - 1
        moved = np.where(
            n >= self.settings.least,
            log_ratio(k, n, (self.settings.share, self.settings.steady), null),
            0,
        )
        members = np.diff(np.append(starts, len(order)))
        ids = day.active[order]
        self.score[ids] = np.maximum(np.maximum(self.score[ids], 0) + np.repeat(moved, members), 0)
