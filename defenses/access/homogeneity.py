"""Homogeneity: accounts of one cluster between which topics differ less than between the members of
any real group.

Accounts fed by one router are exchangeable: Pearson's X2 of members x topics over its degrees of
freedom is 1, however much cover is mixed in, while colleagues and families differ (1.5 to 8 in a
toy population). As for single accounts (`average`), the score is minus the log of the largest
over-dispersion that is still plausible. Resellers who pool their customers lawfully are as
homogeneous: this finds pooling, and a policy must tell the two apart by who they are.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import BaseDetector, Baseline, Day
from defenses.access.average import ceiling
from defenses.access.links import Links, LinkSettings


class Settings(LinkSettings):
    """How much evidence the detector wants, and what it looks at."""

    members: int = Field(
        default=3,
        ge=2,
        le=1_000_000,
        description="members with enough exchanges that a cluster needs",
    )
    least: int = Field(
        default=10, ge=2, le=1_000_000, description="exchanges that are enough of a member"
    )
    z: float = Field(default=2.0, ge=0, description="standard errors that count as plausible")


def dispersion(x_MK: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """X2 of each block of rows (members of a cluster) around its pooled shares, and its degrees of
    freedom.

    Sum over a, k of (x_ak - n_a p_k)^2 / (n_a p_k), p the pooled shares; (A - 1)(K' - 1) with K'
    topics that occur.

    Args:
        x_MK: topic counts of M accounts, cluster after cluster.
        starts: first row of each cluster `[C]`.

    Returns:
        X2 and degrees of freedom, `[C]` each.
    """
    x = x_MK.astype(np.float64)
    n = x.sum(axis=1)
    pooled = np.add.reduceat(x, starts)
    total = pooled.sum(axis=1)
    squares = np.add.reduceat(x**2 / n[:, None], starts)
    seen = pooled > 0
    x2 = total * (
        np.divide(squares, pooled, out=np.zeros_like(squares), where=seen).sum(axis=1) - 1
    )
    members = np.diff(np.append(starts, len(x)))
    return x2, (members - 1) * (seen.sum(axis=1) - 1.0)


class Detector(BaseDetector):
    """Scores how little the accounts of one cluster differ in topics."""

    settings: Settings
    name = "homogeneity"
    alone = True

    def __init__(self, settings: Settings, baseline: Baseline) -> None:
        super().__init__(settings, baseline)
        self.links = Links(settings)

    def update(self, day: Day) -> None:
        count, settings = day.accounts.count, self.settings
        cluster = self.links.of(day.accounts)
        judged = np.flatnonzero(day.ledger.n[:count] >= settings.least)
        judged = judged[np.argsort(cluster[judged], kind="stable")]
        size = np.bincount(cluster[judged], minlength=int(cluster.max()) + 1)
        judged = judged[size[cluster[judged]] >= settings.members]
        if not len(judged):
            return
        starts = np.flatnonzero(np.diff(cluster[judged], prepend=-1))
        x2, degrees = dispersion(day.ledger.topics_AK[judged], starts)
        members = np.diff(np.append(starts, len(judged)))
        mean = np.add.reduceat(day.ledger.n[judged], starts) / members
        informative = degrees > 0  # a cluster with a single topic says nothing
        score = np.full(len(starts), -np.inf)
        rho = (x2[informative] / degrees[informative] - 1) / (mean[informative] - 1)
        score[informative] = ceiling(rho, degrees[informative], mean[informative], settings.z)
        self.score[judged] = np.repeat(score, members)
