"""What detectors that compare prompts with prompts need: the embeddings of an account's first
`window` prompts.

Their cost is quadratic in the window, so an account is judged once, when its first window is full.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, Baseline, Day
from defenses.access.encoder import Encoder
from distill.campaigns import Accounts, stream


class WindowSettings(AccessSettings):
    """What detectors of first windows have in common."""

    window: int = Field(ge=2, le=1_000_000, description="prompts of an account that are looked at")


class FirstWindow(BaseDetector):
    """A detector that judges an account once, by its first `window` prompts."""

    settings: WindowSettings

    def __init__(self, settings: WindowSettings, baseline: Baseline) -> None:
        super().__init__(settings, baseline)
        self.encoder = Encoder()

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.filled = np.zeros(accounts.capacity, np.int64)
        self.topic = np.zeros((accounts.capacity, self.settings.window), np.uint8)
        self.template = np.zeros((accounts.capacity, self.settings.window), np.uint32)
        read = accounts.capacity if self.baseline.encoder is not None else 0
        self.text = np.zeros((read, self.settings.window), np.uint32)

    def update(self, day: Day) -> None:
        window, account = self.settings.window, day.events.account.astype(np.int64)
        place = np.arange(len(account)) - np.repeat(day.starts, day.n) + self.filled[account]
        rows = np.flatnonzero(place < window)
        self.topic[account[rows], place[rows]] = day.events.topic[rows]
        self.template[account[rows], place[rows]] = day.events.template[rows]
        if self.baseline.encoder is not None:
            assert day.events.text is not None, "what reads texts is shown texts"
            self.text[account[rows], place[rows]] = day.events.text[rows]
        before = self.filled[day.active]
        self.filled[day.active] = np.minimum(before + day.n, window)
        full = day.active[(before < window) & (self.filled[day.active] == window)]
        for start in range(0, len(full), 256):
            ids = full[start : start + 256]
            self.score[ids] = self.judge(self._embedded(day, ids))

    def _embedded(self, day: Day, ids: np.ndarray) -> np.ndarray:
        """The first windows of these accounts: vectors of their texts, where there are any."""
        if self.baseline.encoder is not None:
            vectors: np.ndarray = self.baseline.encoder.vectors_TE[self.text[ids]]
            return vectors
        rng = stream(day.number, "embed", int(ids[0]))
        return self.encoder.embed(self.topic[ids], self.template[ids], rng)

    @abstractmethod
    def judge(self, x_BWE: np.ndarray) -> np.ndarray:
        """A score for each of B windows of W unit vectors.

        Args:
            x_BWE: as the encoder embeds prompts, in their order.

        Returns:
            `[B]`, larger is worse.
        """
