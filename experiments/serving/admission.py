"""The limits of `defenses.access.gateway`, request by request: an account is a caller's API key.

The gateway judges a whole day of events at once. Here each request is judged with all that its
account was served that day before it, from the state in which the day began. What an answer costs
is known behind it, so that a cap is passed by one request at most for each that is under way.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from defenses.access.gateway import MONTH, Gateway, Settings, bill
from distill.campaigns import MINUTES, Accounts, Events

MOST_ACCOUNTS = 10_000  # callers of one server
DAY_SECONDS = 60 * MINUTES


@dataclass
class Sent:
    """One request of today: its minute, and its tokens; those out are known once it is answered."""

    minute: int
    tokens_in: int
    tokens_out: int = 0


class Admission:
    """Who is served. Safe to use from several threads.

    Args:
        settings: limits of an account.
        clock: seconds from any moment on.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.began, self.day = clock, clock(), 0
        self.gateway = Gateway(settings, Accounts.empty(MOST_ACCOUNTS))
        self.account_of: dict[str, int] = {}
        self.today: dict[int, list[Sent]] = {}
        self.lock = threading.Lock()

    def admit(self, account: str, tokens_in: int) -> Sent | None:
        """A request that is served, or None where a limit of its account is reached.

        Args:
            account: by the name that the request gives.
            tokens_in: of the request, estimated.
        """
        with self.lock:
            now = self.clock() - self.began
            self._turn(int(now // DAY_SECONDS))
            number = self._number(account)
            if number is None:
                return None
            sent = Sent(int(now % DAY_SECONDS // 60), tokens_in)
            events = self._events({number: [*self.today.get(number, []), sent]})
            if not copy.deepcopy(self.gateway).admit(events)[-1]:
                return None
            self.today.setdefault(number, []).append(sent)
            return sent

    def _turn(self, day: int) -> None:
        """Close the days that are over: all that was served is paid for."""
        while self.day < day:
            events = self._events(self.today)
            dollars = bill(events, self._segments(events), self.gateway.settings).dollars
            if self.day % MONTH == 0:
                self.gateway.month[:] = 0
            for total in (self.gateway.spent, self.gateway.month):
                np.add.at(total, events.account, dollars)
            self.today = {}
            self.day += 1

    def _number(self, account: str) -> int | None:
        """The row of an account; one that is new signs up today."""
        if account not in self.account_of:
            accounts = self.gateway.accounts
            if accounts.count == accounts.capacity:
                return None
            (number,) = accounts.add(1, created=self.day)
            self.account_of[account] = int(number)
        return self.account_of[account]

    def _segments(self, events: Events) -> np.ndarray:
        return np.asarray(self.gateway.accounts.segment[events.account])

    def _events(self, sent: dict[int, list[Sent]]) -> Events:
        """Requests of today by account, as the gateway reads them."""
        rows = [(number, one) for number in sorted(sent) for one in sent[number]]
        nothing = np.zeros(len(rows), np.int64)
        return Events(
            day=self.day,
            account=np.array([number for number, _ in rows], np.int64),
            minute=np.array([one.minute for _, one in rows], np.int64),
            topic=nothing,
            template=nothing,
            phrase=nothing,
            newest=nothing,
            tokens_in=np.array([one.tokens_in for _, one in rows], np.int64),
            tokens_out=np.array([one.tokens_out for _, one in rows], np.int64),
            prompt=nothing,
            address=nothing,
            client=nothing,
        )
