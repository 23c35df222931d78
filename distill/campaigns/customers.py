"""The customers of a relay: drawn as honest customers are, so that their requests are honest ones.

A relay sells access to somebody else's model, passes its customers' live requests on, and keeps the
answers. What they ask, how they word it, how long and when are their own; only the accounts are the
relay's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distill.campaigns import SEGMENTS, apportion, run_starts
from distill.campaigns.environment import Environment
from distill.campaigns.requests import Wording
from distill.campaigns.sampling import (
    bernoulli,
    beta,
    dirichlet,
    exchange_minutes,
    moved,
    session_starts,
    token_counts,
    uniform16,
)
from distill.campaigns.settings import Campaign

RESELLER = SEGMENTS.index("reseller")


class Sessions(NamedTuple):
    """E exchanges in sessions, those of a session next to each other: the `customer` of each, and
    which of the day's sessions it is of.
    """

    customer: np.ndarray
    session: np.ndarray


def begins(sessions: Sessions) -> np.ndarray:
    """Place of the first exchange of each exchange's session.

    Args:
        sessions: of E exchanges.

    Returns:
        `[E]`.
    """
    starts = run_starts(sessions.session)
    return np.repeat(starts, np.diff(np.append(starts, len(sessions.session))))


def joined(parts: Sequence[Sessions]) -> Sessions:
    """Sessions of several plans as those of one.

    Args:
        parts: at least one.
    """
    ends = np.cumsum([part.session[-1] + 1 if len(part.session) else 0 for part in parts])
    numbers = [part.session + before for part, before in zip(parts, [0, *ends[:-1]], strict=True)]
    return Sessions(np.concatenate([part.customer for part in parts]), np.concatenate(numbers))


class Clientele:
    """Customers C of a campaign, as different from each other as honest ones are.

    By customer: `segment`, `rate` (exchanges a day, of which the plan needs the proportions alone),
    `length` (mean exchanges of a session), `zone`, `phrase`, `adopts`, `preference` (row of topic
    preferences), `first_template` and `own_templates`.

    Args:
        environment: whose honest customers they are like, and where their preferences are kept.
        settings: how many there are, and of which segments.
        rng: draws.
    """

    def __init__(
        self, environment: Environment, settings: Campaign, rng: np.random.Generator
    ) -> None:
        self.environment = environment
        habits, rhythm = environment.habits, environment.habits.rhythm
        shares = settings.clientele or settings.pathways
        count = settings.customers
        # Nobody is left out where customers are few.
        sizes = 1 + apportion(count - len(shares), np.array(list(shares.values())))
        self.segment = np.repeat([SEGMENTS.index(name) for name in shares], sizes)
        self.length = rhythm.session_S[self.segment]
        log_rate = rhythm.sigma_S[self.segment] * rng.standard_normal(count)
        self.rate = rhythm.median_S[self.segment] * np.exp(log_rate)
        self.zone = rng.choice(rhythm.zones, count)
        self.phrase = rng.beta(*beta(habits.phrase_S[self.segment], habits.habit))
        self.adopts = rng.beta(*beta(habits.adopts_S[self.segment], habits.habit))
        most = habits.templates_S[self.segment]
        self.own_templates = np.where(most > 0, rng.integers(1, np.maximum(most, 1) + 1), 0)
        total = int(self.own_templates.sum())
        before = np.cumsum(self.own_templates) - self.own_templates
        self.first_template = environment.templates.take(total + 1)[0] + before
        topics_CK = habits.topics_SK[self.segment]
        if habits.concentration is not None:
            spread = np.where(self.segment == RESELLER, habits.pooled, habits.concentration)
            topics_CK = dirichlet(topics_CK, spread[:, None], rng)
        self.preference = environment.preferences.add(topics_CK)

    def sessions(
        self, day: int, exchanges: int, rng: np.random.Generator, segment: int | None = None
    ) -> Sessions:
        """Sessions of a day, by customers in proportion to what they send; the last one is cut
        where the plan ends.

        Args:
            day: from 0.
            exchanges: E, of all of them.
            rng: draws.
            segment: of whose customers alone; None for all.
        """
        rhythm, length_C = self.environment.habits.rhythm, self.length
        shape = 1 / np.maximum(rhythm.burst_S[self.segment], 1e-3) ** 2
        weekend = rhythm.weekend_S[self.segment] if day % 7 >= 5 else 1.0
        expected = self.rate / length_C * weekend * rng.standard_gamma(shape) / shape
        if segment is not None:
            expected = expected * (self.segment == segment)
        edge = np.cumsum(expected) / expected.sum()
        drawn = _drawn(edge, length_C, exchanges, rng)
        session = np.repeat(np.arange(len(drawn.customer)), drawn.length)[:exchanges]
        return Sessions(drawn.customer[session], session)

    def holders(self, sessions: int, rng: np.random.Generator) -> np.ndarray:
        """The customer of each session that was recorded, in proportion to what they send.

        Args:
            sessions: how many.
            rng: draws.

        Returns:
            `[sessions]`.
        """
        edge = np.cumsum(self.rate / self.length)
        return np.searchsorted(edge / edge[-1], rng.random(sessions)).clip(max=len(edge) - 1)

    def minutes(self, sessions: Sessions, rng: np.random.Generator) -> np.ndarray:
        """Minute of the day of each exchange: by the clock of its customer's segment and zone.

        Args:
            sessions: of a day.
            rng: draws.

        Returns:
            `[E]`.
        """
        rhythm = self.environment.habits.rhythm
        first = begins(sessions)
        of = sessions.customer[np.unique(first)]
        start = session_starts(rhythm.clock_SQ, self.segment[of], self.zone[of], rng)
        place = np.searchsorted(np.unique(first), first)
        gap = rhythm.gap_S[self.segment[sessions.customer]]
        return exchange_minutes(start[place], gap, rng)

    def wording(
        self, day: int, since: int | None, customer: np.ndarray, rng: np.random.Generator
    ) -> Wording:
        """What customers ask.

        Args:
            day: from 0.
            since: days since a new model came out; None before.
            customer: of each exchange `[E]`.
            rng: draws.
        """
        habits = self.environment.habits
        topic = self.environment.preferences.draw(self.preference[customer], rng)
        means = habits.tokens_S2[self.segment[customer]]
        tokens = token_counts(means[:, 0], means[:, 1], rng)
        newest = np.zeros(len(customer), bool)
        if since is not None:
            newest = bernoulli(moved(self.adopts, since, habits.adoption_days)[customer], rng)
        return Wording(
            topic,
            _templates(self, day, customer, rng),
            bernoulli(self.phrase[customer], rng),
            newest,
            *tokens,
            np.zeros(len(customer), np.uint32),
        )


class _Drawn(NamedTuple):
    """Sessions: whose each is, and how many exchanges it has."""

    customer: np.ndarray
    length: np.ndarray


def _drawn(
    edge: np.ndarray, length_C: np.ndarray, exchanges: int, rng: np.random.Generator
) -> _Drawn:
    """Sessions with so many exchanges or more, of customers with these cumulative shares."""
    each = float(np.diff(edge, prepend=0) @ length_C)
    customers, lengths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    missing = exchanges
    while missing > 0:
        n = int(missing / each * 1.05) + 10
        customers.append(np.minimum(np.searchsorted(edge, rng.random(n)), len(edge) - 1))
        lengths.append(rng.geometric(1 / length_C[customers[-1]]))
        missing -= int(lengths[-1].sum())
    return _Drawn(np.concatenate(customers), np.concatenate(lengths))


def _templates(
    of: Clientele, day: int, customer: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Template of each exchange: a public one, one of the customer's own, or none (0)."""
    habits, segment, n = of.environment.habits, of.segment[customer], len(customer)
    u, count = rng.random(n, np.float32), of.own_templates[customer]
    popular = of.environment.public_templates(day)[uniform16(rng, n)]
    private = of.first_template[customer] + (rng.random(n) * count).astype(np.int64)
    public = habits.public_S[segment]
    either = public + np.where(count > 0, habits.private_S[segment], 0)
    template: np.ndarray = np.where(u < public, popular, np.where(u < either, private, 0))
    return template.astype(np.uint32)
