"""Co-timing: accounts that ask about the same topic in the same minute, again and again.

After SynchroTrap (Cao et al., CCS 2014): an action is a target and a time, here (topic, minute). Instead of comparing
all pairs of accounts, a cell in which far more accounts meet than its topic's and its minute's totals allow is a burst,
and an account collects log(accounts / expected) for each burst it takes part in: linear in events. Blind to campaigns
that spread over the day.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import Base, Day
from distill.campaigns import MINUTES, TOPICS, Accounts, Part


class Settings(Part):
    z: float = Field(default=6.0, gt=0, description="standard deviations (Poisson) above expected that make a burst")


def surprise(met_KM: np.ndarray, z: float) -> np.ndarray:
    """log(met / expected) where a cell is z Poisson deviations above the product of its margins, else 0."""
    expected = met_KM.sum(axis=1, keepdims=True) * met_KM.sum(axis=0, keepdims=True) / max(met_KM.sum(), 1)
    burst = met_KM > expected + z * np.sqrt(np.maximum(expected, 1))
    return np.where(burst, np.log(np.maximum(met_KM, 1) / np.maximum(expected, 1)), 0)


class Detector(Base):
    name = "cotiming"

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.score[:] = 0

    def update(self, day: Day) -> None:
        events = day.events
        cell = events.topic.astype(np.uint64) * np.uint64(MINUTES) + events.minute
        key = np.sort(events.account.astype(np.uint64) * np.uint64(TOPICS * MINUTES) + cell)
        key = key[np.concatenate([[True], key[1:] != key[:-1]])] if len(key) else key  # an account once a cell
        cell = (key % np.uint64(TOPICS * MINUTES)).astype(np.int64)
        met = np.bincount(cell, minlength=TOPICS * MINUTES).reshape(TOPICS, MINUTES)
        weight = surprise(met, self.settings.z).reshape(-1)[cell]
        hit = np.flatnonzero(weight)
        np.add.at(self.score, (key[hit] // np.uint64(TOPICS * MINUTES)).astype(np.int64), weight[hit])
