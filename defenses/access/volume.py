"""Volume: exchanges in the last days. Sees a few hot accounts, and nothing of many cold ones.

26 exchanges a day and account (a campaign reported in June 2026) are fewer than one agentic
session.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, Day
from distill.campaigns import Accounts


class Settings(AccessSettings):
    """How much evidence the detector wants, and what it looks at."""

    window: int = Field(default=7, ge=1, le=3650, description="days summed")


class Detector(BaseDetector):
    """Scores the exchanges of the last days."""

    settings: Settings
    name = "volume"
    alone = True

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.ring = np.zeros((self.settings.window, accounts.capacity), np.uint32)
        self.score[:] = 0

    def update(self, day: Day) -> None:
        slot = self.ring[day.number % self.settings.window]
        self.score -= slot
        slot[:] = 0
        slot[day.active] = day.n
        self.score[day.active] += day.n  # whole numbers below 2^24 are exact in float32
