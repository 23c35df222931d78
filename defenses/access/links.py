"""Who belongs together: accounts that share a payment method, a device or an exit address,
transitively.

Tokens that more than `cap` accounts hold are hubs (campus NAT, VPN exits, a leaked card) and link
nobody; without that, a few of them would join half of the population into one cluster.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from defenses.access import AccessSettings
from distill.campaigns import Accounts

TOKENS = ("payment", "device", "network")


class LinkSettings(AccessSettings):
    """How many accounts may share a token; above it links nobody."""

    payment: int = Field(
        default=5000,
        ge=2,
        le=1_000_000,
        description="accounts of one payment method above which it links nobody",
    )
    device: int = Field(default=50, ge=2, le=1_000_000)
    network: int = Field(default=50, ge=2, le=1_000_000)


def clusters(accounts: Accounts, caps: dict[str, int]) -> np.ndarray:
    """A cluster number for each account that exists `[count]`: accounts are one cluster that share
    a token named in `caps`, or are linked through others that do.

    Args:
        accounts: all that ever signed up.
        caps: by column (such as a network), the most holders of one value that are linked by it.
    """
    n, left, right = accounts.count, [], []
    for name, cap in caps.items():
        token = getattr(accounts, name)[:n]
        order = np.argsort(token, kind="stable")
        _, first, size = np.unique(token[order], return_index=True, return_counts=True)
        linked = np.repeat((size > 1) & (size <= cap), size)
        left.append(order[linked])
        right.append(order[np.repeat(first, size)[linked]])  # every holder to the first
    a, b = np.concatenate(left), np.concatenate(right)
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(n, n))
    cluster: np.ndarray = connected_components(graph, directed=False)[1]
    return cluster


class Links:
    """Clusters of a table of accounts, found again only when it has grown.

    Args:
        settings: how many accounts at most a token links, by kind of token.
    """

    def __init__(self, settings: LinkSettings) -> None:
        self.caps = {name: int(getattr(settings, name)) for name in TOKENS}
        self.count, self.cluster = 0, np.zeros(0, np.int32)

    def of(self, accounts: Accounts) -> np.ndarray:
        """The cluster number of every account that exists.

        Args:
            accounts: those that are there.

        Returns:
            `[count]`.
        """
        if self.count != accounts.count:
            self.cluster, self.count = clusters(accounts, self.caps), accounts.count
        return self.cluster
