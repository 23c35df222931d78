"""A second provider beside the first: some customers have accounts at both, and so have operators.

Each provider is a world of its own, simulated one after the other; what the first one handed on is
stamped with its days, so the second may be told of it day by day. Nothing goes back. VPN exits and
campus addresses are the same at both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from distill.campaigns import Accounts, FrozenSettings, stream
from experiments.campaigns.truth import Truth

TOKENS = ("payment", "device", "network")


class Overlap(FrozenSettings):
    """Who is at both providers. All fields are assumed."""

    both: float = Field(
        default=0.3, ge=0, le=1, description="honest customers with accounts at both"
    )
    pool: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="an operator's accounts here that use a card, device and address from there",
    )


@dataclass
class Neighbour:
    """The other provider after its horizon.

    Args:
        accounts: that it had.
        truth: who is behind them.
        overlap: who is at both.
    """

    accounts: Accounts
    truth: Truth
    overlap: Overlap

    def lend(self, accounts: Accounts, ids: np.ndarray, campaign: int, seed: int) -> None:
        """Let some of a campaign's new accounts use the tokens of one that it has at the neighbour.

        Its accounts are gone through in their order, so that those which share a token there share
        it here.

        Args:
            accounts: here, whose tokens are overwritten.
            ids: account numbers of the new accounts `[n]`.
            campaign: its number.
            seed: of the simulation here.
        """
        theirs = np.flatnonzero(self.truth.campaign[: self.accounts.count] == campaign)
        if not len(theirs):
            return
        luck = stream(seed, "pool", campaign, int(ids[0])).random(len(ids))
        some = ids[luck < self.overlap.pool]
        for name in TOKENS:
            getattr(accounts, name)[some] = getattr(self.accounts, name)[theirs[some % len(theirs)]]
