"""Rhythm: linked accounts that send at every hour alike, where customers have a day and a night.

The log likelihood ratio of no daily cycle against the segment's, of all exchanges so far of what is
linked. The sum of the hands of the clock of m independent exchanges is normal around m r e^(i phi),
with variance m / 2 in either direction (Mardia & Jupp 2000, 4.8); the phase phi is a time zone that
nobody knows, so it is integrated out, which gives m r^2 - log I0(2 r |sum|). m is exchanges over
the segment's design effect, as those of a session come at once. Customers who run around the clock
are as flat: only their own segment's threshold spares them.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy.special import i0e

from defenses.access import BaseDetector, Day
from defenses.access.links import Links, LinkSettings
from defenses.access.records import day_vectors
from distill.campaigns import Accounts


class Settings(LinkSettings):
    """How much evidence the detector wants, and what it looks at."""

    least: int = Field(
        default=50, ge=2, le=1_000_000, description="exchanges of a cluster before anything is said"
    )


def flatness(
    length: np.ndarray, n: np.ndarray, strength: np.ndarray, design: np.ndarray
) -> np.ndarray:
    """Log likelihood ratio of no daily cycle against one of unknown phase, with m = n / d:
    m r^2 - log I0(2 r l / d).

    Args:
        length: l, of the sum of hands `[C]`.
        n: exchanges `[C]`.
        strength: r, length of the mean hand of who has a day and a night `[C]`.
        design: d, design effect `[C]`.

    Returns:
        Nats `[C]`.
    """
    x = 2 * strength * length / design
    ratio: np.ndarray = n / design * strength**2 - (np.log(i0e(x)) + x)
    return ratio


class Detector(BaseDetector):
    """Scores how little a cluster's exchanges follow the day."""

    settings: Settings
    name = "rhythm"
    alone = True

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.links = Links(self.settings)
        self.hands = np.zeros(accounts.capacity, np.complex128)

    def update(self, day: Day) -> None:
        self.hands[day.active] += day_vectors(day)
        count = day.accounts.count
        cluster, n = self.links.of(day.accounts), day.ledger.n[:count]
        total = np.bincount(cluster, n)
        length = np.abs(
            np.bincount(cluster, self.hands[:count].real)
            + 1j * np.bincount(cluster, self.hands[:count].imag)
        )
        # Who pays has signed up as one kind of customer; of several, the first account's counts.
        _, first = np.unique(cluster, return_index=True)
        usual, s = self.baseline.rhythm, day.accounts.segment[first]
        score = flatness(length, total, usual.strength[s], usual.design[s])
        judged = np.flatnonzero((total[cluster] >= self.settings.least) & (n > 0))
        self.score[judged] = score[cluster[judged]]
