"""What detectors that compare prompts with prompts need: the embeddings of an account's first
`window` prompts.

Their cost is quadratic in the window, so an account is judged once, when its first window is full.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from defenses.access import Base, Baseline, Day
from distill.campaigns import Accounts, Part, stream
from distill.campaigns.encoder import Encoder


class FirstWindow(Base):
    """A detector that judges first windows; settings have `window`."""

    def __init__(self, settings: Part, baseline: Baseline) -> None:
        super().__init__(settings, baseline)
        self.encoder = Encoder()

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.held = np.zeros(accounts.capacity, np.int64)
        self.topic = np.zeros((accounts.capacity, self.settings.window), np.uint8)
        self.template = np.zeros((accounts.capacity, self.settings.window), np.uint32)

    def update(self, day: Day) -> None:
        window, account = self.settings.window, day.events.account.astype(np.int64)
        place = np.arange(len(account)) - np.repeat(day.starts, day.n) + self.held[account]
        kept = np.flatnonzero(place < window)
        self.topic[account[kept], place[kept]] = day.events.topic[kept]
        self.template[account[kept], place[kept]] = day.events.template[kept]
        before = self.held[day.active]
        self.held[day.active] = np.minimum(before + day.n, window)
        full = day.active[(before < window) & (self.held[day.active] == window)]
        for start in range(0, len(full), 256):
            ids = full[start : start + 256]
            rng = stream(day.number, "embed", int(ids[0]))
            self.score[ids] = self.judge(
                self.encoder.embed(self.topic[ids], self.template[ids], rng)
            )

    @abstractmethod
    def judge(self, x_BWE: np.ndarray) -> np.ndarray:
        """A score for each of B windows of W unit vectors."""
