"""A day as a provider logs it, and what it keeps of the days before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from distill.campaigns import TOPICS, Accounts, Events, cells, run_starts


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


def grown(array: np.ndarray, rows: int) -> np.ndarray:
    """The array with at least this many rows, new ones zero.

    Args:
        array: `[R, ...]`.
        rows: how many there must be.

    Returns:
        `[rows or more, ...]`, the array itself where it has as many.
    """
    if rows <= len(array):
        return array
    out = np.zeros((max(rows, 3 * len(array) // 2), *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out
