"""A day of honest traffic: how many exchanges each account has, then one row an exchange.

Counts are a compound: sessions are Poisson around rate x weekday x gamma burst, session lengths
geometric. Within the day sessions start by the segment's clock in the account's time zone, and the
exchanges follow at exponential gaps.
"""

from __future__ import annotations

import numpy as np

from distill.campaigns import SEGMENTS, Events, Traffic, still_open, stream
from distill.campaigns.sampling import (
    bernoulli,
    exchange_minutes,
    minute_quantiles,
    moved,
    session_starts,
    token_counts,
    uniform16,
)
from experiments.campaigns.machines import ramp_up, run_machines
from experiments.campaigns.world import World


class HonestTraffic:
    """The honest traffic of a world, day by day.

    Args:
        world: whose honest accounts send.
        release: the day on which a new model comes out, if one does.

    Arguments of its methods:
        day: from 0.
        rng: of the day's counts.
    """

    def __init__(self, world: World, release: int | None = None) -> None:
        self.world, self.release = world, release
        segments = [world.settings.segments[name] for name in SEGMENTS]
        self.session = np.array([each.session for each in segments])
        self.gap = np.array([each.gap for each in segments], np.float32)
        self.burst = np.array([each.burst for each in segments])
        self.weekend = np.array([each.weekend for each in segments])
        self.tokens = np.array([each.tokens for each in segments], np.float32)
        self.minutes = np.stack([minute_quantiles(each.peak) for each in segments])

    def counts(
        self, day: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Accounts `[A]` that would send something on a day, their sessions and their exchanges."""
        world = self.world
        ids = np.arange(world.settings.accounts)
        segment = world.accounts.segment[ids]
        shape = 1 / np.maximum(self.burst, 1e-3) ** 2
        mean = world.truth.rate[ids] / self.session[segment]
        mean *= (
            np.where(day % 7 >= 5, self.weekend, 1)[segment]
            * rng.standard_gamma(shape[segment])
            / shape[segment]
        )
        sessions = rng.poisson(mean)
        exchanges = sessions.copy()
        some = sessions > 0
        # A sum of geometric lengths is each session's first exchange and a negative binomial rest.
        exchanges[some] += rng.negative_binomial(sessions[some], 1 / self.session[segment[some]])
        some &= world.accounts.created[ids] <= day
        ramp_up(world, day, sessions, exchanges)
        some &= sessions > 0
        return ids[some], sessions[some], exchanges[some]

    def day(self, day: int) -> Traffic:
        """The exchanges that reach the provider on a day."""
        world, truth = self.world, self.world.truth
        rng = stream(world.seed, "honest", day)
        ids, sessions, exchanges = self.counts(day, stream(world.seed, "counts", day))
        segment, total = world.accounts.segment[ids], int(exchanges.sum())
        # The row of `ids` that an exchange belongs to.
        row = np.repeat(np.arange(len(ids), dtype=np.int32), exchanges)
        minute = self._minutes(ids, segment, sessions, row, rng)
        means = self.tokens[segment[row]]
        tokens = token_counts(means[:, 0], means[:, 1], rng)
        newest = np.zeros(total, bool)
        if self.release is not None and day >= self.release:
            days = world.settings.adoption_days
            newest = bernoulli(moved(truth.adopts[ids], day - self.release, days)[row], rng)
        topic = world.preferences.draw(truth.preference[ids][row], rng)
        template = self._templates(day, ids, segment, row, rng)
        phrase = bernoulli(truth.phrase[ids][row], rng)
        origins = world.origins.draw(ids, exchanges, stream(world.seed, "origins", day))
        prompt = run_machines(world, day, ids, exchanges, minute)
        account = ids.astype(np.uint32)[row]
        events = Events(
            day, account, minute, topic, template, phrase, newest, *tokens, prompt, *origins
        )
        return still_open(Traffic(events, np.zeros(total, bool)), world.accounts)

    def _minutes(
        self,
        ids: np.ndarray,
        segment: np.ndarray,
        sessions: np.ndarray,
        row: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Minute of the day of each exchange: that of one of its account's sessions, and a gap."""
        owner = np.repeat(np.arange(len(ids)), sessions)
        zone = self.world.truth.zone[ids][owner]
        start = session_starts(self.minutes, segment[owner], zone, rng)
        first = (np.cumsum(sessions) - sessions).astype(np.int32)
        offset = rng.random(len(row), np.float32) * sessions.astype(np.float32)[row]
        session = first[row] + offset.astype(np.int32)
        # float32 may round up to the end, which is another account's session.
        session = np.minimum(session, (first + sessions.astype(np.int32) - 1)[row])
        return exchange_minutes(start[session], self.gap[segment][row], rng)

    def _templates(
        self,
        day: int,
        ids: np.ndarray,
        segment: np.ndarray,
        row: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Template of each exchange: a public one, one of the customer's own, or none (0)."""
        truth, habits = self.world.truth, self.world.habits
        template = np.zeros(len(row), np.uint32)
        u = rng.random(len(row), np.float32)
        public = habits.public_S[segment]
        either = public + np.where(truth.templates[ids] > 0, habits.private_S[segment], 0)
        hit = np.flatnonzero(u < public[row])
        template[hit] = self.world.public_templates(day)[uniform16(rng, len(hit))]
        hit = np.flatnonzero((u >= public[row]) & (u < either[row]))
        account = ids[row[hit]]
        offset = (rng.random(len(hit)) * truth.templates[account]).astype(np.uint32)
        template[hit] = truth.first_template[account] + offset
        return template
