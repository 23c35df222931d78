"""Access: what a provider does with accounts. Detectors score them, limits and policies act on the
scores.

A detector is one file with `Settings` and `Detector`. Each day it is handed what the provider
logged (`Day`) and keeps one score an account: the evidence so far, larger is worse, `NONE` where
there is too little to say anything. What is compared with a threshold is the highest score an
account ever had, so that a rate of false alarms is one over the whole horizon and not one a query
or a day. No detector sees the truth; the oracle, which bounds them, is handed it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from defenses.access.baseline import Baseline as Baseline
from defenses.access.baseline import BaselineFitter as BaselineFitter
from defenses.access.baseline import Line as Line
from defenses.access.baseline import NormalBaseline as NormalBaseline
from defenses.access.baseline import RateBaseline as RateBaseline
from defenses.access.baseline import RhythmBaseline as RhythmBaseline
from defenses.access.days import Day as Day
from defenses.access.days import Ledger as Ledger
from defenses.access.moments import beta_moments as beta_moments
from defenses.access.moments import excess as excess
from defenses.access.moments import overdispersion as overdispersion
from defenses.access.provider import Identify, OpenAccess, Reply
from defenses.access.share_list import ShareList
from distill.campaigns import NEVER, Accounts, Events

NONE = -np.inf


class AccessSettings(BaseModel):
    """Settings of a detector, of limits or of a policy: frozen, nothing unknown, no infinite
    numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BaseDetector(ABC):
    """What every file's `Detector` extends: a score for each account, larger is worse.

    `score` has one entry an account, float32, of the evidence up to the last day it was handed;
    `NONE` where there is too little to say anything.

    `alone`: whether the score of an account comes of its own exchanges and of those of accounts
    that are linked to it, by a card, a device, an address or an exact prompt, and of nobody
    else's. Then it is the same in a shard of the accounts as among all of them.

    Args:
        settings: the file's own `Settings`.
        baseline: what the provider learned from its clean past.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = "-"
    alone: ClassVar[bool] = False
    settings: AccessSettings
    score: np.ndarray

    def __init__(self, settings: AccessSettings, baseline: Baseline) -> None:
        self.settings, self.baseline = settings, baseline

    def begin(self, accounts: Accounts) -> None:
        """Before the first day; extend it to make room for what is kept by account.

        Args:
            accounts: as they are then; later ones fill its free rows.
        """
        self.score = np.full(accounts.capacity, NONE, np.float32)

    @abstractmethod
    def update(self, day: Day) -> None:
        """Take in a day and move `score`.

        Args:
            day: each is handed over once, in order; a day without events as well.
        """

    def receive(self, received: ShareList) -> None:
        """Told, before the first day, what another provider hands on.

        Args:
            received: with the days from which each token is known.
        """
        return None

    def on_closed(self, day: int, ids: np.ndarray) -> None:
        """Told which accounts were closed at the end of a day, by whatever rule.

        Args:
            day: from 0.
            ids: account numbers `[n]`, maybe none.
        """
        return None


class ShadowMonitor(OpenAccess):
    """Shadow mode: any number of detectors on one trajectory that none of them touches.

    `highest[name]`: the highest score so far, by account. `crossed[name]`, where there are
    thresholds: by level and account, the first day at the end of which the score was above, or
    `NEVER`.

    Args:
        detectors: what watches.
        thresholds: by detector `[levels, segments]`.
    """

    def __init__(
        self, detectors: Sequence[BaseDetector], thresholds: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.detectors, self.thresholds = detectors, thresholds or {}
        self.highest: dict[str, np.ndarray] = {}
        self.crossed: dict[str, np.ndarray] = {}

    def begin(self, accounts: Accounts, days: int, identify: Identify) -> None:
        self.accounts, self.ledger = accounts, Ledger.empty(accounts.capacity)
        for detector in self.detectors:
            detector.begin(accounts)
            self.highest[detector.name] = np.full(accounts.capacity, NONE, np.float32)
            if detector.name in self.thresholds:
                levels = len(self.thresholds[detector.name])
                self.crossed[detector.name] = np.full((levels, accounts.capacity), NEVER, np.int16)

    def receive(self, received: ShareList) -> None:
        """Take what another provider hands on, before the first day.

        Args:
            received: with the days from which each token is known.
        """
        for detector in self.detectors:
            detector.receive(received)

    def serve(self, events: Events) -> Reply:
        self.look(events)
        return Reply()

    def look(self, events: Events) -> Day:
        """Hand a day to every detector, and note who crosses a threshold.

        Args:
            events: of one day, in order of account.

        Returns:
            The day as the detectors saw it.
        """
        day = Day(events, self.accounts, self.ledger)
        self.ledger.add(day)
        for detector in self.detectors:
            detector.update(day)
            highest = self.highest[detector.name]
            np.maximum(highest, detector.score, out=highest)
            if detector.name in self.crossed:
                segment = self.accounts.segment
                for level, limit in zip(
                    self.crossed[detector.name], self.thresholds[detector.name], strict=True
                ):
                    level[(level == NEVER) & (highest > limit[segment])] = day.number
        return day
