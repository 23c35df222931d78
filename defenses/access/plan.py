"""Plan: an account that uses more than others of its segment who pay for the same.

The log of its exchanges a day so far is a standard score against the segment's accounts on its
plan. A provider sees what is paid; shared bulk subscriptions are plans that many people use.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, Day
from defenses.access.records import daily_use


class Settings(AccessSettings):
    """How much evidence the detector wants, and what it looks at."""

    least: int = Field(
        default=20, ge=2, le=1_000_000, description="exchanges before anything is said"
    )


class Detector(BaseDetector):
    """Scores an account's use against its plan's, in standard deviations of the log."""

    settings: Settings
    name = "plan"
    alone = True

    def update(self, day: Day) -> None:
        judged = day.active[day.ledger.n[day.active] >= self.settings.least]
        s, plan = day.accounts.segment[judged], day.accounts.plan[judged]
        use, usual = np.log(daily_use(day, day.accounts, judged)), self.baseline.plan
        self.score[judged] = (use - usual.mean[s, plan]) / usual.sd[s, plan]
