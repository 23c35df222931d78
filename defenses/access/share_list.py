"""What a provider hands on to another: the tokens of accounts that it suspects, and since when."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from distill.campaigns import NEVER, Accounts

SHARED = ("payment", "device", "network")


class ShareList(NamedTuple):
    """By kind of token, those that are listed, sorted, and the day at whose end each was."""

    tokens: dict[str, np.ndarray]
    since: dict[str, np.ndarray]

    @classmethod
    def of(cls, accounts: Accounts, day: np.ndarray) -> ShareList:
        """The tokens of accounts, each once, with the first day on which any holder was named.

        Args:
            accounts: of the provider that hands them on.
            day: on which each account was named `[accounts or more]`, `NEVER` where it was not.
        """
        rows = np.flatnonzero(day[: accounts.count] < NEVER)
        rows = rows[np.argsort(day[rows], kind="stable")]
        tokens, since = {}, {}
        for name in SHARED:
            tokens[name], first = np.unique(getattr(accounts, name)[rows], return_index=True)
            since[name] = day[rows[first]]
        return cls(tokens, since)

    def has(self, name: str, tokens: np.ndarray, day: int) -> np.ndarray:
        """Which tokens are listed on a day, a mask `[n]`; those of a day are known on the next.

        Args:
            name: of the kind.
            tokens: `[n]`.
            day: from 0.
        """
        listed = self.tokens[name]
        if not len(listed):
            return np.zeros(len(tokens), bool)
        place = np.minimum(np.searchsorted(listed, tokens), len(listed) - 1)
        there: np.ndarray = (listed[place] == tokens) & (self.since[name][place] < day)
        return there


NOTHING = ShareList(
    {name: np.zeros(0, np.uint32) for name in SHARED},
    {name: np.zeros(0, np.int16) for name in SHARED},
)
"""Nobody hands anything on."""
