"""Accounts and their traffic, simulated in-process: honest customers beside distillation campaigns.

Everything is columns. A provider is shown `Accounts` and `Events`; who sends them and why is in
`Truth` and in `Traffic.wanted`, which only the referee and an oracle may read. Nothing here
contacts anybody.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from zlib import crc32

import numpy as np
from pydantic import BaseModel, ConfigDict

HONEST = -1  # the campaign of an honest account
OPEN = np.iinfo(np.int16).max  # the day on which an open account was closed
MINUTES = 24 * 60

SEGMENTS = ("chat", "agent", "api", "organisation", "research", "reseller")
"""What an account signed up as. A provider sees it; a campaign chooses it."""

CAPABILITIES = {
    "guidance": 20,
    "information": 20,
    "writing": 20,
    "coding": 16,
    "agentic": 16,
    "reasoning": 12,
    "analysis": 8,
    "grading": 6,
    "vision": 6,
    "other": 4,
}
"""Kinds of prompt, and how many of the K topics (buckets of a prompt encoder) each has. Assumed."""

TOPICS = sum(CAPABILITIES.values())
CAPABILITY_OF = np.repeat(np.arange(len(CAPABILITIES), dtype=np.uint8), list(CAPABILITIES.values()))

assert TOPICS == 128, "the topic search halves its range, so K is a power of two"


class Part(BaseModel):
    """Settings: frozen, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator for one purpose: the same seed and name give the same bytes, whatever else was
    drawn before.
    """
    key = tuple(crc32(str(part).encode()) for part in purpose)
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


@dataclass
class Accounts:
    """What a provider knows of its accounts; rows 0 to `count` exist, the rest is room for later
    sign-ups.

    `payment`, `device` and `network` (the exit address: home line, campus NAT, VPN) are tokens:
    equal means shared.
    """

    count: int
    segment: np.ndarray
    created: np.ndarray
    payment: np.ndarray
    device: np.ndarray
    network: np.ndarray
    verified: np.ndarray
    closed: np.ndarray

    @classmethod
    def room(cls, capacity: int) -> Accounts:
        """An empty table; memory is touched only where rows are written."""
        return cls(
            count=0,
            segment=np.zeros(capacity, np.uint8),
            created=np.zeros(capacity, np.int16),
            payment=np.zeros(capacity, np.uint32),
            device=np.zeros(capacity, np.uint32),
            network=np.zeros(capacity, np.uint32),
            verified=np.zeros(capacity, bool),
            closed=np.full(capacity, OPEN, np.int16),
        )

    @property
    def capacity(self) -> int:
        return len(self.segment)

    def add(self, n: int, **columns: object) -> np.ndarray:
        """Append n accounts and return their numbers."""
        if self.count + n > self.capacity:
            raise ValueError(
                f"accounts: no room for {n} more than {self.count} (capacity {self.capacity})"
            )
        ids = np.arange(self.count, self.count + n)
        for name, value in columns.items():
            getattr(self, name)[ids] = value
        self.count += n
        return ids


@dataclass
class Truth:
    """What no provider sees: the customer behind an account, and what drives its traffic.

    `rate`: exchanges a day. `taste`: its row of the table of topic preferences. `phrase`: share of
    its prompts that ask for reasoning or a rubric. `adopts`: share that follows a new model.
    `first_template`, `templates`: its own.
    """

    owner: np.ndarray
    campaign: np.ndarray
    rate: np.ndarray
    taste: np.ndarray
    phrase: np.ndarray
    adopts: np.ndarray
    zone: np.ndarray
    first_template: np.ndarray
    templates: np.ndarray

    @classmethod
    def room(cls, capacity: int) -> Truth:
        return cls(
            owner=np.zeros(capacity, np.uint32),
            campaign=np.full(capacity, HONEST, np.int16),
            rate=np.zeros(capacity, np.float32),
            taste=np.zeros(capacity, np.int32),
            phrase=np.zeros(capacity, np.float32),
            adopts=np.zeros(capacity, np.float32),
            zone=np.zeros(capacity, np.int8),
            first_template=np.zeros(capacity, np.uint32),
            templates=np.zeros(capacity, np.uint16),
        )


@dataclass
class Events:
    """One day's exchanges as the provider logs them, ordered by account.

    `template`: the prompt with its numbers, quotations and code masked, as an id; 0 where nobody
    else ever sends it. `phrase`: matched a list of phrases that ask for step-by-step reasoning or
    grading. `newest`: went to the model released last. `minute` of the day; tokens in and out.
    """

    day: int
    account: np.ndarray
    minute: np.ndarray
    topic: np.ndarray
    template: np.ndarray
    phrase: np.ndarray
    newest: np.ndarray
    tokens_in: np.ndarray
    tokens_out: np.ndarray

    def __len__(self) -> int:
        return len(self.account)

    def take(self, rows: np.ndarray) -> Events:
        """The events at these rows (a mask or numbers in order)."""
        return Events(self.day, *(getattr(self, f.name)[rows] for f in fields(self)[1:]))


@dataclass
class Traffic:
    """A day's events and, hidden from the provider, which of them a campaign wants answered for its
    student.
    """

    events: Events
    wanted: np.ndarray


def cells(
    account: np.ndarray, value: np.ndarray, values: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct (account, value) pairs in order, and how often each occurs; value < values."""
    key = np.sort(account.astype(np.uint64) * np.uint64(values) + value)
    starts = (
        np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        if len(key)
        else np.zeros(0, np.int64)
    )
    kept = key[starts]
    return (
        (kept // np.uint64(values)).astype(np.int64),
        (kept % np.uint64(values)).astype(np.int64),
        np.diff(np.append(starts, len(key))),
    )


def apportion(total: int, weights: np.ndarray) -> np.ndarray:
    """Whole numbers in proportion to the weights that add up to the total (largest remainder,
    Hamilton 1792).
    """
    exact = total * (weights / weights.sum())
    whole = np.floor(exact).astype(np.int64)
    short = total - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:short]] += 1
    return whole
