"""Phrases: the share of prompts that ask for written-out reasoning or for grading by a rubric.

Anthropic and Google name such prompts as what gave campaigns away; researchers write them as well,
so the share is judged against the account's own segment, whose members differ (beta-binomial).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import Base, Day, excess
from distill.campaigns import Accounts, Part


class Settings(Part):
    least: int = Field(default=20, ge=2, description="exchanges before anything is said")


class Detector(Base):
    name = "phrase"

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.hits = np.zeros(accounts.capacity, np.int64)

    def update(self, day: Day) -> None:
        self.hits[day.active] += day.total(day.events.phrase)
        known = day.active[day.ledger.n[day.active] >= self.settings.least]
        s, habit = day.accounts.segment[known], self.baseline.phrase
        self.score[known] = excess(
            self.hits[known], day.ledger.n[known], habit.mean[s], habit.rho[s]
        )
