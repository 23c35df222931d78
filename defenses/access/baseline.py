"""What is usual: what a provider learns from traffic that it knows to be clean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from defenses.access.days import Day, Ledger
from defenses.access.encoder import TextEncoder
from defenses.access.moments import (
    beta_moments,
    line_by_segment,
    normal_by_part,
    overdispersion,
    rhythm_moments,
)
from defenses.access.provider import Identify, OpenAccess, Reply
from defenses.access.records import (
    Prompts,
    Sources,
    Starts,
    daily_use,
    day_vectors,
    linear_counts,
)
from distill.campaigns import PLANS, SEGMENTS, TOPICS, Accounts, Events

AGES = 7  # days since a new account's first exchange of which a baseline is kept


class RateBaseline(NamedTuple):
    """A share that differs between accounts: its mean, and the correlation rho = 1 / (c + 1) of its
    Beta(c).
    """

    mean: np.ndarray
    rho: np.ndarray


class NormalBaseline(NamedTuple):
    """Mean and standard deviation of what differs between accounts."""

    mean: np.ndarray
    sd: np.ndarray


class Line(NamedTuple):
    """What grows with the log of an account's exchanges: start and slope, and the standard
    deviation around the line.
    """

    start: np.ndarray
    slope: np.ndarray
    sd: np.ndarray


class RhythmBaseline(NamedTuple):
    """How far accounts follow the day, and how much of their exchanges come at once.

    `strength`: root mean square over accounts of the length of an account's mean hand of the clock.
    `design`: exchanges that say as much as one alone (Kish's design effect).
    """

    strength: np.ndarray
    design: np.ndarray


class Baseline(NamedTuple):
    """What a provider learned from its own clean past, by segment S: see `BaselineFitter`.

    `topics_SK`: mean topic shares of an account, none of them 0. `rho_S`: how far accounts differ
    in topics. `phrase`: shares of prompts on the phrase list [S]. `newest`: shares of a new model
    by days since it came out [S, ages]. `repeats`: shares of exchanges that ask what was asked on
    an earlier day [S]. `rhythm`: of the day [S]. `start`: log(1 + exchanges) of new accounts by
    days since their first [S, ages]. `plan`: log of exchanges a day by plan [S, plans].
    `addresses`, `clients`: log of how many an account sends from [S]. `encoder`: what it reads
    texts with, where it reads any.
    """

    topics_SK: np.ndarray
    rho_S: np.ndarray
    phrase: RateBaseline
    newest: RateBaseline
    repeats: RateBaseline
    rhythm: RhythmBaseline
    start: NormalBaseline
    plan: NormalBaseline
    addresses: Line
    clients: Line
    encoder: TextEncoder | None = None


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
        self.prompts, self.repeats = Prompts(), np.zeros(accounts.capacity, np.int64)
        self.sources, self.starts = Sources(accounts.capacity), Starts(accounts.capacity)
        self.hands = np.zeros(accounts.capacity, np.complex128)
        self.squares = np.zeros((2, accounts.capacity))
        self.early: list[np.ndarray] = []

    def serve(self, events: Events) -> Reply:
        day = Day(events, self.accounts, self.ledger)
        self.ledger.add(day)
        self.last = day
        self.phrase[day.active] += day.total(events.phrase)
        self.repeats[day.active] += day.total(self.prompts.repeated(day))
        self.sources.add(day)
        hands = day_vectors(day)
        self.hands[day.active] += hands
        self.squares[:, day.active] += np.stack([np.abs(hands) ** 2, day.n.astype(float) ** 2])
        new = self.starts.young(day, AGES)
        since = day.number - self.starts.first[new].astype(np.int64)
        self.early.append(
            np.stack([self.accounts.segment[new], since, np.log1p(self.ledger.n[new])])
        )
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
        return Baseline(
            topics,
            np.clip(rho, 1e-4, 0.5),
            phrase,
            newest,
            RateBaseline(*self._moments(self.repeats[:count], n, segment)),
            *self._habits(np.flatnonzero(n >= self.least)),
        )

    def _habits(
        self, ids: np.ndarray
    ) -> tuple[RhythmBaseline, NormalBaseline, NormalBaseline, Line, Line]:
        """What accounts with enough exchanges do: when, how much and from where."""
        segment, n = self.accounts.segment[ids], self.ledger.n[ids]
        squares, events = self.squares[:, ids]
        early = np.concatenate(self.early, axis=1)
        use = np.log(daily_use(self.last, self.accounts, ids))
        addresses, clients = (
            np.log(linear_counts(rows[ids])) for rows in (self.sources.address, self.sources.client)
        )
        return (
            RhythmBaseline(*rhythm_moments(self.hands[ids], n, squares, events, segment)),
            NormalBaseline(*normal_by_part(early[2], early[0], early[1], AGES)),
            NormalBaseline(*normal_by_part(use, segment, self.accounts.plan[ids], len(PLANS))),
            Line(*line_by_segment(np.log(n), addresses, segment)),
            Line(*line_by_segment(np.log(n), clients, segment)),
        )
