"""How a campaign spreads a day's exchanges over its accounts."""

from __future__ import annotations

import numpy as np

from distill.campaigns import apportion, stream
from distill.campaigns.settings import Campaign


class Router:
    """Routes the day's exchanges over all slots, so that what falls on a closed account is lost and
    no account sends more because another is gone.

    Args:
        seed: of the simulation.
        settings: what the campaign does.
        number: of the campaign.
        rng: where lasting unequal weights are drawn from.
    """

    def __init__(
        self, seed: int, settings: Campaign, number: int, rng: np.random.Generator
    ) -> None:
        self.seed, self.settings, self.number = seed, settings, number
        self.daily = settings.daily()
        self.sent_before = np.cumsum(self.daily) - self.daily
        self.weights = np.ones(settings.accounts)
        if settings.router == "sticky":
            self.weights = np.exp(0.5 * rng.standard_normal(settings.accounts))

    def route(self, day: int) -> np.ndarray:
        """Exchanges of each slot on a day; they add up to the day's plan.

        Args:
            day: from 0.

        Returns:
            Counts `[slots]`; none outside the campaign's days.
        """
        accounts, since = self.settings.accounts, day - self.settings.start
        if not 0 <= since < self.settings.days:
            return np.zeros(accounts, np.int64)
        total = int(self.daily[since])
        if self.settings.router == "round_robin":
            turn = (np.arange(accounts) - int(self.sent_before[since])) % accounts
            return total // accounts + (turn < total % accounts)
        rng = stream(self.seed, "route", self.number, day)
        return bounded(
            rng.multinomial(total, self.weights / self.weights.sum()), self.settings.most
        )


def bounded(counts: np.ndarray, most: int | None) -> np.ndarray:
    """What an account may not send any more goes to those that may, evenly; the total stays.

    Args:
        counts: exchanges of each slot `[slots]`.
        most: exchanges of a slot at most; None for no bound.

    Returns:
        Counts `[slots]`.
    """
    if most is None or counts.max() <= most:
        return counts
    counts = counts.copy()
    while over := int(np.maximum(counts - most, 0).sum()):
        counts = np.minimum(counts, most)
        room = np.flatnonzero(counts < most)
        counts[room] += apportion(over, np.ones(len(room)))
    return counts
