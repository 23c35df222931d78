"""Repeats: the same few questions, word for word, again and again over days.

Who wants to know whether answers have got worse asks what he knows the answers to. An exchange
counts whose exact prompt was sent on an earlier day, by this account or another; the share of them
is judged against the segment's habit (beta-binomial), as nightly test suites do the same.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, Day, excess
from defenses.access.records import Prompts
from distill.campaigns import Accounts


class Settings(AccessSettings):
    """How much evidence the detector wants, and what it looks at."""

    least: int = Field(
        default=20, ge=2, le=1_000_000, description="exchanges before anything is said"
    )


class Detector(BaseDetector):
    """Scores the excess of exchanges that ask again, in standard errors."""

    settings: Settings
    name = "repeats"
    alone = True

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.prompts = Prompts()
        self.hits = np.zeros(accounts.capacity, np.int64)

    def update(self, day: Day) -> None:
        self.hits[day.active] += day.total(self.prompts.repeated(day))
        judged = day.active[day.ledger.n[day.active] >= self.settings.least]
        s, usual = day.accounts.segment[judged], self.baseline.repeats
        self.score[judged] = excess(
            self.hits[judged], day.ledger.n[judged], usual.mean[s], usual.rho[s]
        )
