"""A running campaign: its accounts, how it routes exchanges over them, and what it does when some
are closed.

A campaign holds slots; a slot is an account, or a closed one until it is replaced. The day's
exchanges are routed over all slots, so that what falls on a closed account is lost and no account
sends more because another is gone.
"""

from __future__ import annotations

import numpy as np

from distill.campaigns import (
    CAPABILITIES,
    CAPABILITY_OF,
    MINUTES,
    SEGMENTS,
    TOPICS,
    Events,
    Traffic,
    apportion,
    stream,
)
from distill.campaigns.population import World, clock, dirichlet, interface
from distill.campaigns.presets import Campaign
from distill.campaigns.traffic import below, lengths, popular, still_open, uniform16

OLDEST = 30  # accounts are opened over so many days before the campaign; assumed


def target(campaign: Campaign) -> np.ndarray:
    """Topic shares of the wanted exchanges: the first `narrow` topics of each capability, alike."""
    shares = np.zeros(TOPICS)
    for name, weight in campaign.targets.items():
        topics = np.flatnonzero(list(CAPABILITIES).index(name) == CAPABILITY_OF)[: campaign.narrow]
        shares[topics] += weight / len(topics)
    return shares / shares.sum()


class Operator:
    """Campaign number `number` of a world; `release` is the day on which a new model comes out, if
    one does.
    """

    def __init__(
        self, world: World, settings: Campaign, number: int, release: int | None = None
    ) -> None:
        self.world, self.settings, self.number, self.release = world, settings, number, release
        self.mix, self.left = settings.mix, int(settings.respawns * settings.accounts)
        self.daily = settings.daily()
        self.sent_before = np.cumsum(self.daily) - self.daily
        self.rows = dict(
            zip(
                ("target", "pooled"),
                world.tastes.add(
                    np.stack([target(settings), interface(world.settings.segments["reseller"].mix)])
                ),
                strict=True,
            )
        )
        self.templates = world.templates.take(settings.templates)
        self.due = np.full(settings.accounts, np.iinfo(np.int64).max)
        self.holder = np.zeros(settings.accounts, np.int64)
        rng = stream(world.seed, "campaign", number)
        self.weights = (
            np.exp(0.5 * rng.standard_normal(settings.accounts))
            if settings.router == "sticky"
            else np.ones(settings.accounts)
        )
        names = list(settings.pathways)
        sizes = apportion(settings.accounts, np.array([settings.pathways[name] for name in names]))
        self.pathway = rng.permutation(np.repeat([SEGMENTS.index(name) for name in names], sizes))
        slots = np.arange(settings.accounts)
        created = settings.start - settings.warm_up - rng.integers(0, OLDEST, settings.accounts)
        self._open(slots, created, self._tokens(slots, settings.per_payment), rng)

    def _tokens(self, slots: np.ndarray, per_token: int) -> np.ndarray:
        """One token for every `per_token` slots in a row."""
        group = np.arange(len(slots)) // per_token
        return (
            self.world.tokens.take(int(group[-1]) + 1)[group]
            if len(slots)
            else slots.astype(np.uint32)
        )

    def _open(
        self,
        slots: np.ndarray,
        created: np.ndarray | int,
        payment: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        made, settings = self.world, self.settings
        ids = made.accounts.add(
            len(slots),
            segment=self.pathway[slots],
            created=created,
            payment=payment,
            network=self._tokens(slots, settings.per_network),
            device=made.tokens.take(len(slots)),
            verified=settings.lawful,
        )
        truth = made.truth
        truth.campaign[ids], truth.rate[ids] = self.number, settings.per_account_day
        truth.owner[ids] = np.iinfo(np.uint32).max - self.number
        truth.taste[ids] = self._cover(slots, ids, rng)
        self.holder[slots] = ids
        return ids

    def _cover(self, slots: np.ndarray, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows of taste for what is not wanted; a persona has the taste and the templates of an
        honest customer.
        """
        made = self.world
        if self.settings.cover == "pooled":
            return np.full(len(slots), self.rows["pooled"])
        base = np.stack([interface(made.settings.segments[name].mix) for name in SEGMENTS])[
            self.pathway[slots]
        ]
        most = np.array([made.settings.segments[name].templates for name in SEGMENTS])[
            self.pathway[slots]
        ]
        held = np.where(most > 0, rng.integers(1, np.maximum(most, 1) + 1), 0)
        made.truth.templates[ids] = held
        made.truth.first_template[ids] = made.templates.take(1)[0] + np.cumsum(held) - held
        made.templates.take(int(held.sum()))
        if made.settings.concentration is not None:
            base = dirichlet(base, made.settings.concentration, rng)
        return made.tastes.add(base)

    def route(self, day: int) -> np.ndarray:
        """Exchanges of each slot on a day; they add up to the day's plan."""
        settings, at = self.settings, day - self.settings.start
        if not 0 <= at < settings.days:
            return np.zeros(settings.accounts, np.int64)
        total = int(self.daily[at])
        if settings.router == "round_robin":
            turn = (np.arange(settings.accounts) - int(self.sent_before[at])) % settings.accounts
            return total // settings.accounts + (turn < total % settings.accounts)
        rng = stream(self.world.seed, "route", self.number, day)
        return rng.multinomial(total, self.weights / self.weights.sum())

    def day(self, day: int) -> Traffic:
        made, settings = self.world, self.settings
        rng = stream(made.seed, "campaign", self.number, day)
        counts = self.route(day)
        order = np.argsort(self.holder, kind="stable")  # events come in order of account
        slot = np.repeat(order, counts[order])
        account, n = self.holder[slot], len(slot)
        ready = made.accounts.created[account].astype(np.int64) + settings.warm_up <= day
        wanted = below(np.full(n, self.mix), rng) & ready
        row = np.where(wanted, self.rows["target"], made.truth.taste[account])
        topic, minute = made.tastes.draw(row, rng), clock(2.0)[uniform16(rng, n)].astype(np.uint16)
        if settings.timing == "bursts":
            moment, topic_of = (
                rng.integers(0, MINUTES, settings.bursts),
                made.tastes.draw(np.full(settings.bursts, self.rows["target"]), rng),
            )
            which = rng.integers(0, settings.bursts, n)
            minute = np.where(
                wanted, (moment[which] + rng.integers(0, 2, n)) % MINUTES, minute
            ).astype(np.uint16)
            topic = np.where(wanted, topic_of[which], topic)
        segment = made.accounts.segment[account]
        cover = np.array([made.settings.segments[name].phrase for name in SEGMENTS])[segment]
        means = np.where(
            wanted[:, None], settings.tokens, made.settings.segments["reseller"].tokens
        )
        tokens_in, tokens_out = lengths(means[:, 0], means[:, 1], rng)
        moved = self.release is not None and day >= self.release
        events = Events(
            day,
            account.astype(np.uint32),
            minute,
            topic,
            self._templates(day, account, segment, wanted, rng),
            below(np.where(wanted, settings.phrase, cover), rng),
            below(np.full(n, settings.pivot if moved else 0.0), rng),
            tokens_in,
            tokens_out,
        )
        return still_open(Traffic(events, wanted), made.accounts)

    def _templates(
        self,
        day: int,
        account: np.ndarray,
        segment: np.ndarray,
        wanted: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        made, u = self.world, rng.random(len(account), np.float32)
        public, private = (
            np.array(
                [getattr(made.settings.segments[name], field) for name in SEGMENTS], np.float32
            )[segment]
            for field in ("public", "private")
        )
        held = made.truth.templates[account]
        own = made.truth.first_template[account] + (rng.random(len(account)) * held).astype(
            np.uint32
        )
        known = popular(made.settings, made.viral[:, day])[uniform16(rng, len(account))]
        cover = np.where(u < public, known, np.where((held > 0) & (u < public + private), own, 0))
        cut = self.templates[rng.integers(0, self.settings.templates, len(account))]
        return np.where(wanted, cut, cover).astype(np.uint32)

    def closed(self, day: int, ids: np.ndarray) -> None:
        """Some accounts were closed at the end of a day (any accounts; it knows its own)."""
        lost = np.flatnonzero(np.isin(self.holder, ids))
        if len(lost):
            self.due[lost] = day + self.settings.respawn_days
        if len(lost) and len(lost) >= self.settings.wave * self.settings.accounts:
            self.mix *= self.settings.adapts
            old = round(self.settings.renews * self.settings.templates)
            self.templates = np.concatenate([self.templates[old:], self.world.templates.take(old)])

    def sign_up(self, day: int) -> np.ndarray:
        """New accounts for the slots that are due, as far as it can pay; a provider may refuse
        them.
        """
        slots = np.flatnonzero(self.due <= day)[: self.left]
        self.due[slots] = np.iinfo(np.int64).max
        if not len(slots):
            return slots
        self.left -= len(slots)
        rng = stream(self.world.seed, "respawn", self.number, day)
        fresh = self._tokens(slots, self.settings.per_payment)
        before = self.world.accounts.payment[self.holder[slots]]
        payment = np.where(rng.random(len(slots)) < self.settings.reuse, before, fresh)
        return self._open(slots, day, payment, rng)
