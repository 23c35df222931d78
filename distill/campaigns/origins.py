"""Where exchanges come from: the addresses and the clients (user agents) that each account sends
from.

An account has so many of each, in a row of numbers from its first on. The first of p carries
1 / sqrt(p) of its exchanges, the first two sqrt(2 / p), and so on; assumed.
"""

from __future__ import annotations

import numpy as np

AGENTS = 1000  # kinds of client there are; an account's begin at any of them
UNEVEN = (np.arange(65536, dtype=np.float32) / 65536) ** 2


class Origins:
    """The addresses and clients of a table of accounts; rows of zeros until they are set.

    Args:
        capacity: accounts at most.
    """

    def __init__(self, capacity: int) -> None:
        self.address = np.zeros(capacity, np.uint32)
        self.addresses = np.ones(capacity, np.float32)
        self.client = np.zeros(capacity, np.uint16)
        self.clients = np.ones(capacity, np.float32)
        self.next = 1

    def take(self, addresses: np.ndarray) -> np.ndarray:
        """The first of so many addresses that nobody else has, for each of n holders.

        Args:
            addresses: how many each has `[n]`.

        Returns:
            `[n]`.
        """
        ends = self.next + np.cumsum(addresses, dtype=np.int64)
        self.next = int(ends[-1]) if len(ends) else self.next
        first: np.ndarray = (ends - addresses).astype(np.uint32)
        return first

    def draw(
        self, ids: np.ndarray, n: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The address and the client of each exchange, an account's one after another.

        Args:
            ids: account numbers `[A]`.
            n: exchanges of each `[A]`.
            rng: one number an exchange.

        Returns:
            `[n.sum()]` each.
        """
        # One draw for both: its two halves are independent.
        halves = rng.integers(0, 1 << 32, int(n.sum()), dtype=np.uint32).view(np.uint16)
        address = np.repeat(self.address[ids], n)
        address += (np.repeat(self.addresses[ids], n) * UNEVEN[halves[::2]]).astype(np.uint32)
        client = np.repeat(self.client[ids], n)
        client += (np.repeat(self.clients[ids], n) * UNEVEN[halves[1::2]]).astype(np.uint16)
        return address, client
