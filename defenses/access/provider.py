"""What a provider is to the simulator: it sees accounts and events, never the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from distill.campaigns import Accounts, Events

Identify = Callable[[np.ndarray], np.ndarray]
"""Asks accounts for proof of identity and says which of them gave it; the same answer however often
it is asked.
"""


class Reply(NamedTuple):
    """What a provider did with a day's events: which it served, how much each answer is worth to a
    student, and which it answered less than it could.

    None means all of them, the whole value (1), and none.
    """

    served: np.ndarray | None = None
    value: np.ndarray | None = None
    reduced: np.ndarray | None = None


class Provider(Protocol):
    """Sees accounts and events, never the truth."""

    def begin(self, accounts: Accounts, days: int, identify: Identify) -> None:
        """Before the first day.

        Args:
            accounts: all that are there, and those to come.
            days: of the horizon.
            identify: what a provider can know of who is behind an account.
        """

    def sign_up(self, day: int, ids: np.ndarray) -> np.ndarray:
        """Which of these new accounts it lets in, a mask `[n]`.

        Args:
            day: from 0.
            ids: of the new accounts `[n]`.
        """

    def serve(self, events: Events) -> Reply:
        """A day's exchanges; each day is handed over once.

        Args:
            events: of one day, in order of account.
        """

    def close(self, day: int) -> np.ndarray:
        """Accounts that it closes at the end of the day; they send nothing from the next day on.

        Args:
            day: from 0.

        Returns:
            Account numbers `[n]`.
        """


class OpenAccess:
    """Serves everybody and closes nobody."""

    def begin(self, accounts: Accounts, days: int, identify: Identify) -> None:
        """Nothing to prepare."""

    def sign_up(self, day: int, ids: np.ndarray) -> np.ndarray:
        """All of them."""
        return np.ones(len(ids), bool)

    def serve(self, events: Events) -> Reply:
        """All of them, at their whole value."""
        return Reply()

    def close(self, day: int) -> np.ndarray:
        """None."""
        return np.zeros(0, np.int64)
