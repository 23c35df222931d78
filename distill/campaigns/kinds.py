"""Kinds of campaigns: where a day's requests come from.

`own` is the operator's (`operator.py`). A relay passes its customers' live requests on; a replay
sends recorded sessions again, each continued at another account than it was begun at; who buys
transcripts has no accounts, and nothing of it reaches the provider.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from distill.campaigns import CAPABILITIES, MINUTES, stream
from distill.campaigns.customers import Clientele, begins, joined
from distill.campaigns.environment import Environment
from distill.campaigns.requests import Requests, Source, Wording
from distill.campaigns.sampling import (
    EXPONENTIAL,
    bernoulli,
    minute_quantiles,
    token_counts,
    uniform16,
)
from distill.campaigns.settings import Campaign


class Relay(Source):
    """Live requests of customers: each session goes to an account, whose it stays, so an account
    carries those of many customers.

    Args:
        clientele: whose requests they are.
        pathway: segment that each slot signs up as `[slots]`, where an account carries customers of
            its own segment alone; None where it carries any.
    """

    def __init__(self, clientele: Clientele, pathway: np.ndarray | None) -> None:
        self.clientele, self.pathway = clientele, pathway

    def day(
        self, day: int, since: int | None, slot: np.ndarray, mix: float, rng: np.random.Generator
    ) -> Requests:
        plans = self._plans(slot)
        parts = [self.clientele.sessions(day, len(at), rng, segment) for segment, at in plans]
        sessions = joined(parts)
        stays = [at[begins(part)] for (_, at), part in zip(plans, parts, strict=True)]
        minute = self.clientele.minutes(sessions, rng)
        wording = self.clientele.wording(day, since, sessions.customer, rng)
        wanted = bernoulli(np.full(len(slot), mix), rng)
        return Requests(np.concatenate(stays), minute, wording, wanted)

    def _plans(self, slot: np.ndarray) -> list[tuple[int | None, np.ndarray]]:
        """The day's plan by the segment whose customers it is of; None of all together."""
        if self.pathway is None:
            return [(None, slot)]
        pathway = self.pathway[slot]
        return [(int(name), slot[pathway == name]) for name in np.unique(self.pathway)]


class Replay(Source):
    """Recorded sessions sent again. Each begins at an account and goes on at another, some minutes
    later, so that no account shows a whole one.

    The later turns carry the conversation so far, so all turns of a session have one template,
    which nobody else sends: a provider that compares contexts sees the same at two accounts.
    Sessions are of customers where there are any, and the campaign's own else; they are sent by the
    replayer's flat clock, not by that of who held them.

    Args:
        environment: where templates are taken from, and preferences kept.
        settings: of the campaign.
        target_row: row of topic preferences of its own sessions.
        clientele: whose sessions they are, if they are anybody's.
    """

    def __init__(
        self,
        environment: Environment,
        settings: Campaign,
        target_row: int,
        clientele: Clientele | None,
    ) -> None:
        self.environment, self.settings = environment, settings
        self.target_row, self.clientele = target_row, clientele

    def day(
        self, day: int, since: int | None, slot: np.ndarray, mix: float, rng: np.random.Generator
    ) -> Requests:
        n = len(slot)
        session, turn = self._sessions(n, rng)
        sessions = int(session[-1]) + 1 if n else 0
        first = slot[np.arange(sessions) * n // max(sessions, 1)]
        later = elsewhere(first, self.settings.accounts, rng)
        start = minute_quantiles(self.settings.peak)[uniform16(rng, sessions)].astype(np.int64)
        pause = self.settings.continues * EXPONENTIAL[uniform16(rng, sessions)]
        after = np.where(turn > 0, 1 + pause[session].astype(np.int64) + turn - 1, 0)
        template = self.environment.templates.take(sessions)[session]
        wording = self._wording(day, since, session, rng)._replace(template=template)
        return Requests(
            np.where(turn > 0, later[session], first[session]),
            ((start[session] + after) % MINUTES).astype(np.uint16),
            wording,
            bernoulli(np.full(n, mix), rng),
        )

    def _sessions(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Session and turn of each of n exchanges; sessions have two turns or more, but for the
        last, which is cut.
        """
        length = 1 + rng.geometric(1 / (self.settings.turns - 1), n // 2 + 1)
        session = np.repeat(np.arange(len(length)), length)[:n]
        return session, np.arange(n) - (np.cumsum(length) - length)[session]

    def _wording(
        self, day: int, since: int | None, session: np.ndarray, rng: np.random.Generator
    ) -> Wording:
        """What is asked, but for the template."""
        n, settings = len(session), self.settings
        if self.clientele is not None:
            held_by = self.clientele.holders(int(session[-1]) + 1 if n else 0, rng)
            return self.clientele.wording(day, since, held_by[session], rng)
        means = np.tile(settings.tokens, (n, 1))
        tokens = token_counts(means[:, 0], means[:, 1], rng)
        return Wording(
            self.environment.preferences.draw(np.full(n, self.target_row), rng),
            np.zeros(n, np.uint32),
            bernoulli(np.full(n, settings.phrase), rng),
            bernoulli(np.full(n, settings.pivot if since is not None else 0.0), rng),
            *tokens,
            np.zeros(n, np.uint32),
        )


def elsewhere(first: np.ndarray, accounts: int, rng: np.random.Generator) -> np.ndarray:
    """Another slot for each session than that at which it begins; each is drawn as often, as far as
    that is possible.

    Args:
        first: slots `[sessions]`, equal ones next to each other.
        accounts: slots that there are, at least two.
        rng: draws.

    Returns:
        Slots `[sessions]`.
    """
    sessions = len(first)
    # Turned by more than the longest run of equals and by less than what is left, none meets its
    # equal.
    longest = int(np.bincount(first).max()) if sessions else 0
    turned = int(rng.integers(longest, max(sessions - longest, longest) + 1))
    later = np.roll(first, -turned)
    return np.where(later == first, (first + 1) % accounts, later)


class Transcripts(NamedTuple):
    """What was bought on a day: exchanges, those of them that are for the student by capability
    (C), and tokens in and out.
    """

    exchanges: int
    wanted_C: np.ndarray
    tokens_in: int
    tokens_out: int


class Purchase:
    """A campaign that buys transcripts of others: it has no account, and sends nothing.

    Args:
        seed: of the simulation.
        settings: what it buys.
        number: of the campaign, from 0.
    """

    def __init__(self, seed: int, settings: Campaign, number: int) -> None:
        self.seed, self.settings, self.number = seed, settings, number
        self.daily = settings.daily()

    def day(self, day: int) -> Transcripts:
        """The transcripts that it buys on a day.

        Args:
            day: from 0.
        """
        settings, since = self.settings, day - self.settings.start
        n = int(self.daily[since]) if 0 <= since < settings.days else 0
        rng = stream(self.seed, "bought", self.number, day)
        weights = np.array([settings.targets.get(name, 0.0) for name in CAPABILITIES])
        wanted_C = rng.multinomial(rng.binomial(n, settings.mix), weights / weights.sum())
        means = np.tile(settings.tokens, (n, 1))
        tokens_in, tokens_out = token_counts(means[:, 0], means[:, 1], rng)
        return Transcripts(n, wanted_C, int(tokens_in.sum()), int(tokens_out.sum()))
