"""A day of honest traffic: how many exchanges each account has, then one row an exchange.

Counts are a compound: sessions are Poisson around rate x weekday x gamma burst, session lengths
geometric. Within the day sessions start by the segment's clock in the account's time zone, and the
exchanges follow at exponential gaps.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from distill.campaigns import MINUTES, SEGMENTS, Accounts, Events, Traffic, stream
from distill.campaigns.population import Population, World, clock

QUANTILES = (np.arange(65536) + 0.5) / 65536
EXPONENTIAL = -np.log(QUANTILES).astype(np.float32)  # mean 1
LOGNORMAL = np.exp(special.ndtri(QUANTILES) - 0.5).astype(np.float32)  # mean 1, sigma 1


def uniform16(rng: np.random.Generator, n: int) -> np.ndarray:
    """Random quantiles in steps of 1/65536, as indices into tables of 65,536 entries."""
    return rng.integers(0, 65536, n, dtype=np.uint16)


def below(share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """True with probability `share` each, to 1/2^16 (a share of 0 never, of 1 always)."""
    return uniform16(rng, len(share)) < (share * 65536).astype(np.uint32)


def lengths(
    mean_in: np.ndarray, mean_out: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens in (lognormal, sigma 1) and out (exponential), at least 1 each."""
    n = len(mean_in)
    return (
        np.maximum(mean_in * LOGNORMAL[uniform16(rng, n)], 1).astype(np.uint32),
        np.maximum(mean_out * EXPONENTIAL[uniform16(rng, n)], 1).astype(np.uint32),
    )


def still_open(traffic: Traffic, accounts: Accounts) -> Traffic:
    """Without the events of accounts that are closed.

    Events are drawn for closed accounts as well, so that closing one changes nobody else's traffic:
    what two policies let through can be compared event by event.
    """
    shut = accounts.closed <= traffic.events.day  # today's closures come after today's traffic
    if not shut[traffic.events.account].any():
        return traffic
    kept = ~shut[traffic.events.account]
    return Traffic(traffic.events.take(kept), traffic.wanted[kept])


class Honest:
    """The honest traffic of a world, day by day."""

    def __init__(self, world: World, release: int | None = None) -> None:
        self.world, self.release = world, release
        kinds = [world.settings.segments[name] for name in SEGMENTS]
        self.session = np.array([one.session for one in kinds])
        self.gap = np.array([one.gap for one in kinds], np.float32)
        self.burst = np.array([one.burst for one in kinds])
        self.weekend = np.array([one.weekend for one in kinds])
        self.public = np.array([one.public for one in kinds], np.float32)
        self.private = np.array([one.private for one in kinds], np.float32)
        self.tokens = np.array([one.tokens for one in kinds], np.float32)
        self.clock = np.stack([clock(one.peak) for one in kinds])

    def counts(
        self, day: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Accounts that would send something today, their sessions and their exchanges."""
        made = self.world
        ids = np.arange(made.settings.accounts)
        segment = made.accounts.segment[ids]
        shape = 1 / np.maximum(self.burst, 1e-3) ** 2
        mean = made.truth.rate[ids] / self.session[segment]
        mean *= (
            np.where(day % 7 >= 5, self.weekend, 1)[segment]
            * rng.standard_gamma(shape[segment])
            / shape[segment]
        )
        sessions = rng.poisson(mean)
        exchanges = sessions.copy()
        some = sessions > 0
        exchanges[some] += rng.negative_binomial(sessions[some], 1 / self.session[segment[some]])
        some &= made.accounts.created[ids] <= day
        return ids[some], sessions[some], exchanges[some]

    def day(self, day: int) -> Traffic:
        made, rng = self.world, stream(self.world.seed, "honest", day)
        ids, sessions, n = self.counts(day, stream(self.world.seed, "counts", day))
        segment, total = made.accounts.segment[ids], int(n.sum())
        each = np.repeat(
            np.arange(len(ids), dtype=np.int32), n
        )  # the row of `ids` that an exchange belongs to
        minute = self._minutes(ids, segment, sessions, each, rng)
        account, kind = ids.astype(np.uint32)[each], segment[each]
        tokens_in, tokens_out = lengths(self.tokens[:, 0][kind], self.tokens[:, 1][kind], rng)
        newest = np.zeros(total, bool)
        if self.release is not None and day >= self.release:
            moved = made.truth.adopts[ids] * (
                1 - 2.0 ** (-(day - self.release + 1) / made.settings.adoption_days)
            )
            newest = below(moved[each], rng)
        events = Events(
            day,
            account,
            minute,
            made.tastes.draw(made.truth.taste[ids][each], rng),
            self._templates(day, ids, segment, each, rng),
            below(made.truth.phrase[ids][each], rng),
            newest,
            tokens_in,
            tokens_out,
        )
        return still_open(Traffic(events, np.zeros(total, bool)), made.accounts)

    def _minutes(
        self,
        ids: np.ndarray,
        segment: np.ndarray,
        sessions: np.ndarray,
        each: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        owner = np.repeat(np.arange(len(ids)), sessions)
        start = self.clock[segment[owner], uniform16(rng, len(owner))]
        start = start - self.world.truth.zone[ids][owner].astype(np.int16) * 60
        first = (np.cumsum(sessions) - sessions).astype(np.int32)
        chosen = first[each] + (
            rng.random(len(each), np.float32) * sessions.astype(np.float32)[each]
        ).astype(np.int32)
        chosen = np.minimum(
            chosen, (first + sessions.astype(np.int32) - 1)[each]
        )  # float32 may round up to the end
        after = (
            self.gap[segment][each] * EXPONENTIAL[uniform16(rng, len(each))] * 2
        )  # the middle of a short session
        return ((start[chosen] + after.astype(np.int16)) % MINUTES).astype(np.uint16)

    def _templates(
        self,
        day: int,
        ids: np.ndarray,
        segment: np.ndarray,
        each: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        truth = self.world.truth
        out = np.zeros(len(each), np.uint32)
        u = rng.random(len(each), np.float32)
        public = self.public[segment]
        own = public + np.where(truth.templates[ids] > 0, self.private[segment], 0)
        hit = np.flatnonzero(u < public[each])
        out[hit] = popular(self.world.settings, self.world.viral[:, day])[uniform16(rng, len(hit))]
        hit = np.flatnonzero((u >= public[each]) & (u < own[each]))
        at = ids[each[hit]]
        out[hit] = truth.first_template[at] + (rng.random(len(hit)) * truth.templates[at]).astype(
            np.uint32
        )
        return out


def popular(settings: Population, viral: np.ndarray) -> np.ndarray:
    """Template at each of 65,536 quantiles of the day: public ones by Zipf(1), viral ones by their
    weight beside 1.
    """
    weight = 1 / np.arange(1.0, settings.public + 1)
    weight = np.concatenate([weight / weight.sum(), viral])
    edge = np.cumsum(weight) / weight.sum()
    return (np.searchsorted(edge, QUANTILES) + 1).astype(np.uint32)
