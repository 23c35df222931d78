"""Accounts and their traffic, simulated in-process: honest customers beside distillation campaigns.

Everything is columns. A provider is shown `Accounts` and `Events`; who sends them and why is the
referee's (`experiments.campaigns`), as is `Traffic.wanted`. Nothing here contacts anybody.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from zlib import crc32

import numpy as np
from pydantic import BaseModel, ConfigDict

NEVER = np.iinfo(np.int16).max  # the day of what has not happened, such as closing an open account
MINUTES = 24 * 60

SEGMENTS = ("chat", "agent", "api", "organisation", "research", "reseller")
"""What an account signed up as. A provider sees it; a campaign chooses it."""

PLANS = ("free", "basic", "pro", "scale")
"""What an account pays for, by rising price. A provider sees it; a campaign chooses it."""

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


class FrozenSettings(BaseModel):
    """Settings: frozen, nothing unknown, no infinite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator for one purpose: the same seed and name give the same bytes, whatever else was
    drawn before.

    Args:
        seed: of the simulation.
        *purpose: names and numbers that together name one use.
    """
    key = tuple(crc32(str(part).encode()) for part in purpose)
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


@dataclass
class Accounts:
    """What a provider knows of its accounts; rows 0 to `count` exist, the rest is room for later
    sign-ups.

    `payment`, `device` and `network` (the exit address at sign-up: home line, campus NAT, VPN) are
    tokens: equal means shared. `plan`: the number of what it pays for, in `PLANS`.
    """

    count: int
    segment: np.ndarray
    plan: np.ndarray
    created: np.ndarray
    payment: np.ndarray
    device: np.ndarray
    network: np.ndarray
    verified: np.ndarray
    closed: np.ndarray

    @classmethod
    def empty(cls, capacity: int) -> Accounts:
        """A table of so many rows; memory is touched only where rows are written.

        Args:
            capacity: rows.
        """
        return cls(
            count=0,
            segment=np.zeros(capacity, np.uint8),
            plan=np.zeros(capacity, np.uint8),
            created=np.zeros(capacity, np.int16),
            payment=np.zeros(capacity, np.uint32),
            device=np.zeros(capacity, np.uint32),
            network=np.zeros(capacity, np.uint32),
            verified=np.zeros(capacity, bool),
            closed=np.full(capacity, NEVER, np.int16),
        )

    @property
    def capacity(self) -> int:
        """How many accounts there can be."""
        return len(self.segment)

    def add(self, n: int, **columns: object) -> np.ndarray:
        """Append accounts.

        Args:
            n: how many.
            columns: a value, or an array `[n]` of values, by column.

        Returns:
            Their numbers `[n]`.

        Raises:
            ValueError: there is no room for them.
        """
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
class Events:
    """One day's exchanges as the provider logs them, ordered by account.

    `template`: the prompt with its numbers, quotations and code masked, as an id; 0 where nobody
    else ever sends it. `phrase`: matched a list of phrases that ask for step-by-step reasoning or
    grading. `newest`: went to the model released last. `minute` of the day; tokens in and out.
    `prompt`: the exact text, as an id; 0 where it was never sent before and will not be again.
    `address` it came from, and `client` (user agent) that sent it, as ids. `text`: what was asked
    and answered, as the number of a recorded text, where a provider reads texts.
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
    prompt: np.ndarray
    address: np.ndarray
    client: np.ndarray
    text: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.account)

    def take(self, rows: np.ndarray) -> Events:
        """The events at these rows (a mask or numbers in order).

        Args:
            rows: a mask `[events]`, or row numbers in order.
        """
        columns = {f.name: getattr(self, f.name) for f in fields(self)[1:]}
        return Events(self.day, **{name: x[rows] for name, x in columns.items() if x is not None})


@dataclass
class Traffic:
    """A day's events and, hidden from the provider, which of them a campaign wants answered for its
    student.
    """

    events: Events
    wanted: np.ndarray


def still_open(traffic: Traffic, accounts: Accounts) -> Traffic:
    """The traffic without the events of accounts that are closed.

    Events are drawn for closed accounts as well, so that closing one changes nobody else's traffic:
    what two policies let through can be compared event by event.

    Args:
        traffic: of one day.
        accounts: as they are on that day.
    """
    shut = accounts.closed <= traffic.events.day  # today's closures come after today's traffic
    if not shut[traffic.events.account].any():
        return traffic
    rows = ~shut[traffic.events.account]
    return Traffic(traffic.events.take(rows), traffic.wanted[rows])


def cells(
    account: np.ndarray, value: np.ndarray, values: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct (account, value) pairs in order, and how often each occurs; value < values.

    Args:
        account: numbers `[E]`.
        value: numbers `[E]`.
        values: bound of `value`.

    Returns:
        Accounts, values and counts `[pairs]`.
    """
    # Half as wide where that is wide enough, as sorting takes most of the time.
    narrow = (int(account.max(initial=0)) + 1) * values <= 1 << 32
    each = np.array(values, np.uint32 if narrow else np.uint64)
    key = np.sort(account.astype(each.dtype) * each + value.astype(each.dtype))
    starts = run_starts(key)
    distinct = key[starts]
    return (
        (distinct // each).astype(np.int64),
        (distinct % each).astype(np.int64),
        np.diff(np.append(starts, len(key))),
    )


def run_starts(ordered: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins; none where there are no values.

    Args:
        ordered: `[N]`, equal values next to each other.

    Returns:
        Places `[runs]` in it.
    """
    if not len(ordered):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def apportion(total: int, weights: np.ndarray) -> np.ndarray:
    """Whole numbers in proportion to the weights that add up to the total (largest remainder,
    Hamilton 1792).

    Args:
        total: a whole number.
        weights: `[n]`, at least one above 0.

    Returns:
        `[n]`, the total shared out.
    """
    exact: np.ndarray = total * (weights / weights.sum())
    whole: np.ndarray = np.floor(exact).astype(np.int64)
    short = total - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:short]] += 1
    return whole
