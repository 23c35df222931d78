"""Addresses: one credential used from many addresses and by many clients.

How many of either an account has sent from so far is counted in 64 bits (linear counting); the log
of each is a standard score against the segment's accounts with as many exchanges, on a line in the
log of the exchanges. Of the two scores what is above 0 counts, squared and added: the likelihood
ratio of two independent normals against means above 0 (chi-bar-squared, Kudo 1963), whose root is
the score. Organisations that share one key are as spread, and so are those behind a VPN.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, Day, Line
from defenses.access.records import Sources, linear_counts
from distill.campaigns import Accounts


class Settings(AccessSettings):
    """How much evidence the detector wants, and what it looks at."""

    least: int = Field(
        default=20, ge=2, le=1_000_000, description="exchanges before anything is said"
    )


def above(count: np.ndarray, n: np.ndarray, s: np.ndarray, usual: Line) -> np.ndarray:
    """Standard score of the log of a count above its segment's line, 0 below it.

    Args:
        count: of addresses, or of clients `[A]`.
        n: exchanges `[A]`.
        s: segments `[A]`.
        usual: lines in log n `[S]`.

    Returns:
        Standard deviations `[A]`.
    """
    z = (np.log(count) - usual.start[s] - usual.slope[s] * np.log(n)) / usual.sd[s]
    positive: np.ndarray = np.maximum(z, 0)
    return positive


class Detector(BaseDetector):
    """Scores from how many more addresses and clients an account sends than others do."""

    settings: Settings
    name = "addresses"
    alone = True

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.sources = Sources(accounts.capacity)

    def update(self, day: Day) -> None:
        self.sources.add(day)
        judged = day.active[day.ledger.n[day.active] >= self.settings.least]
        s, n, usual = day.accounts.segment[judged], day.ledger.n[judged], self.baseline
        self.score[judged] = np.hypot(
            above(linear_counts(self.sources.address[judged]), n, s, usual.addresses),
            above(linear_counts(self.sources.client[judged]), n, s, usual.clients),
        )
