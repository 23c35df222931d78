"""Co-timing: accounts that ask about the same topic in the same minute, again and again.

After SynchroTrap (Cao et al., CCS 2014): an action is a target and a time, here (topic, minute).
Instead of comparing all pairs of accounts, a minute in which far more accounts meet on a topic than
in the minutes around it is a burst, and an account collects log(accounts / expected) for each burst
it takes part in: linear in events. Blind to campaigns that spread over the day; honest accounts
that happen to be there are flagged with it.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, Day
from distill.campaigns import MINUTES, TOPICS, Accounts, run_starts


class Settings(AccessSettings):
    """How much evidence the detector wants, and what it looks at."""

    z: float = Field(
        default=6.0,
        gt=0,
        description="standard deviations (Poisson) above expected that make a burst",
    )
    around: int = Field(
        default=15,
        ge=3,
        le=1_000_000,
        description="minutes before and after that say what is expected",
    )


def expected(met_KM: np.ndarray, around: int, apart: int = 2) -> np.ndarray:
    """Mean of the minutes from `apart` to `around` away on either side; the day is a circle.

    Args:
        met_KM: meetings by topic and minute.
        around: minutes.
        apart: minutes.

    Returns:
        Meetings `[K, M]`.
    """
    padded = np.cumsum(np.pad(met_KM, ((0, 0), (around + 1, around)), mode="wrap"), axis=1)
    minutes = met_KM.shape[1]

    def window(half: int) -> np.ndarray:
        start, end = around - half, around + half + 1
        total: np.ndarray = padded[:, end : end + minutes] - padded[:, start : start + minutes]
        return total

    mean: np.ndarray = (window(around) - window(apart - 1)) / (2 * (around - apart + 1))
    return mean


def surprise(met_KM: np.ndarray, around: int, z: float) -> np.ndarray:
    """log(met / expected) where a cell is z Poisson deviations above what is expected, else 0; at
    least 1 expected.

    Args:
        met_KM: meetings by topic and minute.
        around: minutes that say what is expected.
        z: deviations.

    Returns:
        Nats `[K, M]`.
    """
    usual = np.maximum(expected(met_KM, around), 1)
    burst = met_KM > usual + z * np.sqrt(usual)
    return np.where(burst, np.log(np.maximum(met_KM, 1) / usual), 0)


class Detector(BaseDetector):
    """Scores how many more (topic, minute) meetings an account has than chance gives."""

    settings: Settings
    name = "cotiming"
    alone = False

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.score[:] = 0

    def update(self, day: Day) -> None:
        events = day.events
        cell = events.topic.astype(np.uint64) * np.uint64(MINUTES) + events.minute
        key = np.sort(events.account.astype(np.uint64) * np.uint64(TOPICS * MINUTES) + cell)
        key = key[run_starts(key)]  # an account once a cell
        cell = (key % np.uint64(TOPICS * MINUTES)).astype(np.int64)
        met = np.bincount(cell, minlength=TOPICS * MINUTES).reshape(TOPICS, MINUTES)
        weight = surprise(met, self.settings.around, self.settings.z).reshape(-1)[cell]
        hit = np.flatnonzero(weight)
        np.add.at(
            self.score, (key[hit] // np.uint64(TOPICS * MINUTES)).astype(np.int64), weight[hit]
        )
