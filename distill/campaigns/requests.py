"""A day's requests of a campaign before they are events: what is asked, when, and of which slot."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np


class Wording(NamedTuple):
    """What each of E requests asks, as the columns of `Events` have it."""

    topic: np.ndarray
    template: np.ndarray
    phrase: np.ndarray
    newest: np.ndarray
    tokens_in: np.ndarray
    tokens_out: np.ndarray
    prompt: np.ndarray


class Requests(NamedTuple):
    """E requests in order of account: `slot` and `minute` of each, what it asks, and whether the
    student is to have the answer.
    """

    slot: np.ndarray
    minute: np.ndarray
    wording: Wording
    wanted: np.ndarray

    def take(self, rows: np.ndarray) -> Requests:
        """The requests at these rows.

        Args:
            rows: row numbers `[n]`.
        """
        wording = Wording(*(column[rows] for column in self.wording))
        return Requests(self.slot[rows], self.minute[rows], wording, self.wanted[rows])


class Source(Protocol):
    """Where a campaign's requests come from: its own prompts, its customers, or old sessions."""

    def day(
        self, day: int, since: int | None, slot: np.ndarray, mix: float, rng: np.random.Generator
    ) -> Requests:
        """The requests of a day; in expectation each account sends what is planned.

        Args:
            day: from 0.
            since: days since a new model came out; None before.
            slot: of each exchange that is planned `[E]`, those of an account next to each other.
            mix: share of the answers that are for the student.
            rng: draws.

        Returns:
            In the order in which the source makes them, which need not be that of accounts.
        """
