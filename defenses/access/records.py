"""What detectors and the baseline keep of the days so far, an account a row: the same counts for
both.
"""

from __future__ import annotations

import numpy as np

from defenses.access.days import Day, grown
from distill.campaigns import MINUTES, NEVER, Accounts

HOUR_HAND = np.exp(2j * np.pi * np.arange(MINUTES) / MINUTES).astype(np.complex64)
"""The minute of the day as a point of the unit circle `[M]`."""
YOUNG = 30  # days since sign-up within which an account's first exchange makes it a new one
BITS = 64


def day_vectors(day: Day) -> np.ndarray:
    """Sum over each active account's events of today of the minute as a point of the unit circle.

    Args:
        day: with its events.

    Returns:
        Complex `[active]`; its length is 0 where events are spread evenly over the day.
    """
    if not len(day.starts):
        return np.zeros(0, np.complex128)
    hands: np.ndarray = np.add.reduceat(
        HOUR_HAND[day.events.minute], day.starts, dtype=np.complex128
    )
    return hands


def scattered(ids: np.ndarray) -> np.ndarray:
    """A place from 0 to 63 for each number, as if drawn at random.

    The top bits of a product, mixed once and multiplied again (after Steele et al. 2014,
    SplitMix64): numbers in a row must not fall into places in a row.

    Args:
        ids: numbers `[...]` from 0.

    Returns:
        `[...]`.
    """
    mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    place: np.ndarray = (mixed ^ (mixed >> np.uint64(27))) >> np.uint64(58)
    return place


def linear_counts(rows: np.ndarray) -> np.ndarray:
    """Distinct things behind rows of 64 bits, by linear counting (Whang et al. 1990): -64 ln(share
    of bits not set), half a bit short of full; 310 at most.

    Args:
        rows: 64 bits each `[n]`.

    Returns:
        `[n]`.
    """
    free = np.maximum(BITS - np.bitwise_count(rows).astype(float), 0.5)
    count: np.ndarray = -BITS * np.log(free / BITS)
    return count


class Sources:
    """How many addresses and clients each account has sent from, 16 bytes an account.

    Args:
        capacity: accounts at most.
    """

    def __init__(self, capacity: int) -> None:
        self.address = np.zeros(capacity, np.uint64)
        self.client = np.zeros(capacity, np.uint64)

    def add(self, day: Day) -> None:
        """Note where a day's events came from.

        Args:
            day: with its events.
        """
        if not len(day.starts):
            return
        for rows, ids in ((self.address, day.events.address), (self.client, day.events.client)):
            bits = np.uint64(1) << scattered(ids)
            rows[day.active] |= np.bitwise_or.reduceat(bits, day.starts)


class Starts:
    """The day of each new account's first exchange, `NEVER` before it and of accounts that are not
    new.

    Args:
        capacity: accounts at most.
    """

    def __init__(self, capacity: int) -> None:
        self.first = np.full(capacity, NEVER, np.int16)
        self.seen = np.zeros(capacity, bool)

    def young(self, day: Day, days: int) -> np.ndarray:
        """New accounts within their first days, after today's events are noted.

        Args:
            day: with its events.
            days: since the first exchange that still count.

        Returns:
            Account numbers `[n]`.
        """
        fresh = day.active[~self.seen[day.active]]
        age = day.number - day.accounts.created[fresh].astype(np.int64)
        self.first[fresh[age <= YOUNG]] = day.number
        self.seen[fresh] = True
        since = day.number - self.first[: day.accounts.count].astype(np.int64)
        return np.flatnonzero((since >= 0) & (since < days))


class Prompts:
    """The day on which each exact prompt was first sent, by whoever; 4 bytes a prompt that comes
    more than once.
    """

    def __init__(self) -> None:
        self.first = np.zeros(1, np.int32)  # the day after, 0 for never

    def repeated(self, day: Day) -> np.ndarray:
        """Which of a day's exchanges ask what was asked on an earlier day, a mask `[events]`.

        Args:
            day: with its events; each is noted.
        """
        rows = np.flatnonzero(day.events.prompt)
        prompt = day.events.prompt[rows].astype(np.int64)
        self.first = grown(self.first, int(prompt.max(initial=0)) + 1)
        first = self.first[prompt]
        hits = np.zeros(len(day.events), bool)
        hits[rows] = first > 0
        self.first[prompt[first == 0]] = day.number + 1
        return hits


def daily_use(day: Day, accounts: Accounts, ids: np.ndarray) -> np.ndarray:
    """Exchanges a day of accounts since they signed up, or since the first day of all.

    Args:
        day: the last that counts, with its ledger.
        accounts: those that exist.
        ids: account numbers `[n]`.

    Returns:
        `[n]`.
    """
    since = np.maximum(accounts.created[ids].astype(np.int64), 0)
    use: np.ndarray = day.ledger.n[ids] / (day.number - since + 1)
    return use
