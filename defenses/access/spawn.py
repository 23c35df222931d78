"""Spawn replacement: new accounts that go on where closed ones stopped.

When accounts are closed, the templates that they used in the last days (and that are in no public
catalogue) are remembered. An account that signed up after the first closure scores the (template,
day) pairs it has among them. Says nothing until something was closed, so it matters only in live
mode.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, Day
from defenses.access.days import grown
from distill.campaigns import Accounts, cells


class Settings(AccessSettings):
    """How much evidence the detector wants, and what it looks at."""

    public: int = Field(
        default=5000,
        ge=0,
        le=1_000_000,
        description="template ids up to this are public and never remembered",
    )
    memory: int = Field(
        default=3, ge=1, le=3650, description="days of a closed account that are looked back on"
    )


class Detector(BaseDetector):
    """Counts exchanges of new accounts on templates of closed ones."""

    settings: Settings
    name = "spawn"
    alone = False

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.recent: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=self.settings.memory)
        self.tainted = np.zeros(1, bool)
        self.first: int | None = None

    def update(self, day: Day) -> None:
        private = np.flatnonzero(day.events.template > self.settings.public)
        template = day.events.template[private]
        highest = int(template.max(initial=0))
        account, template, _ = cells(day.events.account[private], template, highest + 1)
        self.tainted = grown(self.tainted, highest + 1)
        self.recent.append((account, template))
        if self.first is None:
            return
        late = day.active[day.accounts.created[day.active] > self.first]
        self.score[late] = np.maximum(self.score[late], 0)
        hits = account[self.tainted[template]]
        np.add.at(self.score, hits[day.accounts.created[hits] > self.first], 1)

    def on_closed(self, day: int, ids: np.ndarray) -> None:
        if not len(ids):
            return
        self.first = day if self.first is None else self.first
        for account, template in self.recent:
            self.tainted[template[np.isin(account, ids)]] = True
