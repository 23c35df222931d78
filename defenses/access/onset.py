"""Onset: a new account that uses in its first days what others come to in weeks.

An account is new that sends its first exchange within 30 days of signing up. Its exchanges since
then, as log(1 + n), are a standard score against those of the segment's new accounts on the same
day after their first. Customers who move a finished product to a provider start as fast.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, Day
from defenses.access.records import Starts
from distill.campaigns import Accounts


class Settings(AccessSettings):
    """How much evidence the detector wants, and what it looks at."""

    days: int = Field(
        default=7,
        ge=1,
        le=7,
        description="days from the first exchange that count; a baseline has seven",
    )


class Detector(BaseDetector):
    """Scores what a new account sends in its first days, in standard deviations of the log."""

    settings: Settings
    name = "onset"
    alone = True

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.starts = Starts(accounts.capacity)

    def update(self, day: Day) -> None:
        new = self.starts.young(day, self.settings.days)
        since = day.number - self.starts.first[new].astype(np.int64)
        s, usual = day.accounts.segment[new], self.baseline.start
        sent = np.log1p(day.ledger.n[new])
        self.score[new] = (sent - usual.mean[s, since]) / usual.sd[s, since]
