"""Phrases: the share of prompts that ask for written-out reasoning or for grading by a rubric.

Anthropic and Google name such prompts as what gave campaigns away; researchers write them as well,
so the share is judged against the account's own segment, whose members differ (beta-binomial).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, Day, excess
from distill.campaigns import Accounts


class Settings(AccessSettings):
    """How much evidence the detector wants, and what it looks at."""

    least: int = Field(
        default=20, ge=2, le=1_000_000, description="exchanges before anything is said"
    )


class Detector(BaseDetector):
    """Scores the excess of prompts that ask for reasoning or grading, in standard errors."""

    settings: Settings
    name = "phrase"
    alone = True

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.hits = np.zeros(accounts.capacity, np.int64)

    def update(self, day: Day) -> None:
        self.hits[day.active] += day.total(day.events.phrase)
        judged = day.active[day.ledger.n[day.active] >= self.settings.least]
        s, usual = day.accounts.segment[judged], self.baseline.phrase
        self.score[judged] = excess(
            self.hits[judged], day.ledger.n[judged], usual.mean[s], usual.rho[s]
        )
