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
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from defenses.access.provider import Identify, OpenAccess, Reply
from distill.campaigns import NEVER, SEGMENTS, TOPICS, Accounts, Events, cells, run_starts

NONE = -np.inf


class RateBaseline(NamedTuple):
    """A share that differs between accounts: its mean, and the correlation rho = 1 / (c + 1) of its
    Beta(c).
    """

    mean: np.ndarray
    rho: np.ndarray


class Baseline(NamedTuple):
    """What a provider learned from its own clean past, by segment S: see `Learner`.

    `topics_SK`: mean topic shares of an account, none of them 0. `rho_S`: how far accounts differ
    in topics. `phrase`: shares of prompts on the phrase list [S]. `newest`: shares of a new model
    by days since it came out [S, ages].
    """

    topics_SK: np.ndarray
    rho_S: np.ndarray
    phrase: RateBaseline
    newest: RateBaseline


@dataclass
class Ledger:
    """Running totals by account: exchanges, and exchanges by topic."""

    n: np.ndarray
    topics_AK: np.ndarray

    @classmethod
    def empty(cls, capacity: int) -> Ledger:
        """Nothing has been sent yet, by so many accounts.

        Args:
            capacity: accounts at most.
        """
        return cls(np.zeros(capacity, np.int64), np.zeros((capacity, TOPICS), np.uint32))

    def add(self, day: Day) -> None:
        """Count a day in.

        Args:
            day: counted once, after those before it.
        """
        self.n[day.active] += day.n
        account, topic, count = day.cells
        self.topics_AK[account, topic] += count.astype(np.uint32)


@dataclass
class Day:
    """A day's events, the accounts as they are, and the ledger with this day in it."""

    events: Events
    accounts: Accounts
    ledger: Ledger

    @property
    def number(self) -> int:
        """Of the day, from 0."""
        return self.events.day

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each active account's events begin `[active]`."""
        return run_starts(self.events.account)

    @cached_property
    def active(self) -> np.ndarray:
        """Accounts with events today, in order `[active]`."""
        accounts: np.ndarray = self.events.account[self.starts].astype(np.int64)
        return accounts

    @cached_property
    def n(self) -> np.ndarray:
        """Their exchanges today `[active]`."""
        return np.diff(np.append(self.starts, len(self.events)))

    @cached_property
    def cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Account, topic and count of every pair that occurred today, `[pairs]` each."""
        return cells(self.events.account, self.events.topic, TOPICS)

    def total(self, what: np.ndarray) -> np.ndarray:
        """Sum over each active account's events.

        Args:
            what: a number, or yes or no, an event `[events]`.

        Returns:
            Whole numbers `[active]`, in the order of `active`.
        """
        return (
            np.add.reduceat(what, self.starts, dtype=np.int64)
            if len(self.starts)
            else np.zeros(0, np.int64)
        )


class AccessSettings(BaseModel):
    """Settings of a detector, of limits or of a policy: frozen, nothing unknown, no infinite
    numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BaseDetector(ABC):
    """What every file's `Detector` extends: a score for each account, larger is worse.

    `score` has one entry an account, float32, of the evidence up to the last day it was handed;
    `NONE` where there is too little to say anything.

    Args:
        settings: the file's own `Settings`.
        baseline: what the provider learned from its clean past.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = "-"
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


class BaselineFitter(OpenAccess):
    """Fits a baseline to traffic known to be clean: moments over accounts, by segment.

    Args:
        release: the day of that past on which a model came out, for the uptake of new models.
        least: exchanges of an account from which its topics count.
    """

    def __init__(self, release: int, least: int = 20) -> None:
        self.release, self.least = release, least

    def begin(self, accounts: Accounts, days: int, identify: Identify) -> None:
        self.accounts, self.ledger = accounts, Ledger.empty(accounts.capacity)
        self.phrase = np.zeros(accounts.capacity, np.int64)
        self.newest: list[tuple[np.ndarray, np.ndarray]] = []

    def serve(self, events: Events) -> Reply:
        day = Day(events, self.accounts, self.ledger)
        self.ledger.add(day)
        self.phrase[day.active] += day.total(events.phrase)
        if day.number >= self.release:
            self.newest.append(
                self._moments(day.total(events.newest), day.n, self.accounts.segment[day.active])
            )
        return Reply()

    def _moments(
        self, hits: np.ndarray, n: np.ndarray, segment: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        moments = [beta_moments(hits[segment == s], n[segment == s]) for s in range(len(SEGMENTS))]
        return np.array([mean for mean, _ in moments]), np.array([rho for _, rho in moments])

    def baseline(self) -> Baseline:
        """What was usual in the days that were served."""
        count = self.accounts.count
        segment, n = self.accounts.segment[:count], self.ledger.n[:count]
        topics, rho = np.empty((len(SEGMENTS), TOPICS)), np.empty(len(SEGMENTS))
        for s in range(len(SEGMENTS)):
            rows = np.flatnonzero((segment == s) & (n >= self.least))
            x, total = self.ledger.topics_AK[rows].astype(float), n[rows].astype(float)
            mean = (x / total[:, None]).mean(axis=0) if len(rows) else np.zeros(TOPICS)
            topics[s] = (mean + 1e-5) / (mean + 1e-5).sum()  # a topic never seen may still come
            seen = np.flatnonzero(mean)
            rho[s] = (
                np.mean([overdispersion(a, mean[seen]) for a in x[:, seen]]) if len(rows) else 0.0
            )
        phrase = RateBaseline(*self._moments(self.phrase[:count], n, segment))
        newest = RateBaseline(*(np.stack(part, axis=1) for part in zip(*self.newest, strict=True)))
        return Baseline(topics, np.clip(rho, 1e-4, 0.5), phrase, newest)


def overdispersion(x_K: np.ndarray, base_K: np.ndarray) -> float:
    """Unbiased rho of topic counts x drawn from Dirichlet-multinomial(base, rho), rho = 1 /
    (concentration + 1).

    E x_k (x_k - 1) = n (n - 1) (b_k^2 + rho b_k (1 - b_k)), divided by b_k and summed over the K
    topics that occur at all (b > 0); n at least 2.

    Args:
        x_K: counts of one account.
        base_K: shares of the population, all above 0.
    """
    n = x_K.sum()
    return float(((x_K * (x_K - 1) / base_K).sum() / (n * (n - 1)) - 1) / (len(base_K) - 1))


def beta_moments(hits: np.ndarray, n: np.ndarray, least: int = 2) -> tuple[float, float]:
    """Mean share over accounts with at least `least` trials, and rho from pairs: E k (k-1) / (n
    (n-1)) = E p^2.

    Args:
        hits: k by account `[A]`.
        n: trials by account `[A]`.
        least: trials that are enough.

    Returns:
        Mean and rho, each in (0, 1).
    """
    enough = n >= least
    if not enough.any():
        return 0.5, 0.5
    k, m = hits[enough].astype(float), n[enough].astype(float)
    mean = float(np.clip((k / m).mean(), 1e-4, 1 - 1e-4))
    rho = ((k * (k - 1) / (m * (m - 1))).mean() - mean**2) / (mean * (1 - mean))
    return mean, float(np.clip(rho, 1e-3, 0.99))


def excess(
    hits: np.ndarray, n: np.ndarray, habit_mean: np.ndarray, habit_rho: np.ndarray
) -> np.ndarray:
    """Standard score of k hits in n under a beta-binomial: variance n p (1 - p) (1 +
    (n - 1) rho).

    Args:
        hits: k by account `[A]`.
        n: trials by account `[A]`.
        habit_mean: p by account `[A]`.
        habit_rho: rho by account `[A]`.

    Returns:
        Standard deviations `[A]`.
    """
    spread = n * habit_mean * (1 - habit_mean) * (1 + (n - 1) * habit_rho)
    score: np.ndarray = (hits - n * habit_mean) / np.sqrt(np.maximum(spread, 1e-12))
    return score
