"""Shared: an account whose payment, device or address another provider has named.

Record linkage (Fellegi & Sunter 1969): an agreement of two records on a token weighs log(m / u), m
the chance that the same operator keeps it from one provider to the other, u the share of accounts
here that have this very token; a token that is not listed weighs log((1 - m) / (1 - u)). So a card
of its own says much, and the exit of a popular VPN little. Customers whom the other provider
suspected falsely are named with the others.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, Day
from defenses.access.share_list import NOTHING, SHARED, ShareList
from distill.campaigns import Accounts


class Settings(AccessSettings):
    """How much evidence the detector wants, and what it looks at."""

    keeps: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="chance that an operator uses a token at both providers; assumed",
    )


def agreement(listed: np.ndarray, holders: np.ndarray, count: int, keeps: float) -> np.ndarray:
    """Weight of one token of each account: log(m / u) where it is listed, else
    log((1 - m) / (1 - u)).

    Args:
        listed: whether the token is `[A]`.
        holders: accounts here that have the token `[A]`.
        count: accounts here.
        keeps: m.

    Returns:
        Nats `[A]`.
    """
    u = np.minimum(holders / (count + 1), 1 - 1e-9)
    return np.where(listed, np.log(keeps / u), np.log((1 - keeps) / (1 - u)))


class Detector(BaseDetector):
    """Scores how surely an account is of somebody whom another provider named."""

    settings: Settings
    name = "shared"
    alone = False
    received: ShareList = NOTHING

    def receive(self, received: ShareList) -> None:
        self.received = received

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.count = 0
        self.holders: dict[str, np.ndarray] = {}

    def update(self, day: Day) -> None:
        accounts, count = day.accounts, day.accounts.count
        if count != self.count:
            self.count = count
            for name in SHARED:
                _, which, size = np.unique(
                    getattr(accounts, name)[:count], return_inverse=True, return_counts=True
                )
                self.holders[name] = size[which]
        score, named = np.zeros(count), np.zeros(count, bool)
        for name in SHARED:
            listed = self.received.has(name, getattr(accounts, name)[:count], day.number)
            score += agreement(listed, self.holders[name], count, self.settings.keeps)
            named |= listed
        ids = np.flatnonzero(named)
        self.score[ids] = score[ids]
