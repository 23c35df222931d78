"""A running campaign: how it routes exchanges over its accounts, and what it does when some are
closed.
"""

from __future__ import annotations

import numpy as np

from distill.campaigns import (
    CAPABILITIES,
    CAPABILITY_OF,
    MINUTES,
    PLANS,
    SEGMENTS,
    TOPICS,
    Events,
    Traffic,
    apportion,
    run_starts,
    still_open,
    stream,
)
from distill.campaigns.customers import Clientele
from distill.campaigns.environment import Environment
from distill.campaigns.kinds import Relay, Replay
from distill.campaigns.probes import Probes
from distill.campaigns.requests import Requests, Source, Wording
from distill.campaigns.routing import Router
from distill.campaigns.sampling import (
    bernoulli,
    dirichlet,
    minute_quantiles,
    token_counts,
    uniform16,
)
from distill.campaigns.settings import Campaign

OLDEST = 30  # accounts are opened over so many days before the campaign; assumed
RESELLER = SEGMENTS.index("reseller")  # what pooled cover looks like: many customers at once
NOT_DUE = np.iinfo(np.int64).max  # the day on which an account that is not closed is replaced


def target_topics(campaign: Campaign) -> np.ndarray:
    """Shares of the K topics in the wanted exchanges: the first `narrow` topics of each capability,
    alike.

    Args:
        campaign: what it wants, in `targets` and `narrow`.

    Returns:
        `[K]`, which sum to 1.
    """
    shares = np.zeros(TOPICS)
    for name, weight in campaign.targets.items():
        topics = np.flatnonzero(list(CAPABILITIES).index(name) == CAPABILITY_OF)[: campaign.narrow]
        shares[topics] += weight / len(topics)
    mix: np.ndarray = shares / shares.sum()
    return mix


class Slots:
    """The slots of a campaign: each is an account, or a closed one until it is replaced.

    By slot: `account` is its number; `pathway` the segment that it signs up as; `preference` the
    row of topic preferences of its cover; `own_templates` and `first_template` the templates of the
    persona that it plays, none where cover is pooled; `due` the day on which it is replaced.

    Args:
        environment: where accounts are opened.
        settings: what the campaign does.
        number: of the campaign, from 0.
        pooled_row: the row of topic preferences of cover that is pooled.
        rng: of the first accounts.
    """

    def __init__(
        self,
        environment: Environment,
        settings: Campaign,
        number: int,
        pooled_row: int,
        rng: np.random.Generator,
    ) -> None:
        self.environment, self.settings, self.number = environment, settings, number
        self.pooled_row = pooled_row
        self.replacements_left = int(settings.respawns * settings.accounts)
        self.account = np.zeros(settings.accounts, np.int64)
        self.preference = np.zeros(settings.accounts, np.int64)
        self.own_templates = np.zeros(settings.accounts, np.int64)
        self.first_template = np.zeros(settings.accounts, np.uint32)
        self.due = np.full(settings.accounts, NOT_DUE)
        names = list(settings.pathways)
        sizes = apportion(settings.accounts, np.array([settings.pathways[name] for name in names]))
        self.pathway = rng.permutation(np.repeat([SEGMENTS.index(name) for name in names], sizes))
        slots = np.arange(settings.accounts)
        created = settings.start - settings.warm_up - rng.integers(0, OLDEST, settings.accounts)
        self._open(slots, created, self._shared_tokens(len(slots), settings.per_payment), rng)

    def close(self, day: int, ids: np.ndarray) -> int:
        """Note which of the accounts that were closed on a day are its own.

        Args:
            day: on whose end they were closed.
            ids: account numbers `[n]`, anybody's.

        Returns:
            How many.
        """
        lost = np.flatnonzero(np.isin(self.account, ids))
        self.due[lost] = day + self.settings.respawn_days
        return len(lost)

    def replace_due(self, day: int) -> np.ndarray:
        """Open accounts for the slots that are due, as far as it can pay.

        Args:
            day: on which they are opened.

        Returns:
            Their account numbers `[n]`.
        """
        slots = np.flatnonzero(self.due <= day)[: self.replacements_left]
        self.due[slots] = NOT_DUE
        if not len(slots):
            return slots
        self.replacements_left -= len(slots)
        rng = stream(self.environment.seed, "respawn", self.number, day)
        fresh = self._shared_tokens(len(slots), self.settings.per_payment)
        before = self.environment.accounts.payment[self.account[slots]]
        payment = np.where(rng.random(len(slots)) < self.settings.reuse, before, fresh)
        return self._open(slots, day, payment, rng)

    def _shared_tokens(self, n: int, per_token: int) -> np.ndarray:
        """A token for each of n slots, one for every `per_token` in a row."""
        group = np.arange(n) // per_token
        return self.environment.tokens.take(int(group[-1]) + 1)[group]

    def _open(
        self,
        slots: np.ndarray,
        created: np.ndarray | int,
        payment: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        self.account[slots] = self.environment.open_accounts(
            self.number,
            self.settings.per_account_day,
            segment=self.pathway[slots],
            created=created,
            payment=payment,
            network=self._shared_tokens(len(slots), self.settings.per_network),
            verified=self.settings.lawful,
            plan=PLANS.index(self.settings.plan),
            origins=(self.settings.addresses, self.settings.clients),
        )
        if self.settings.cover == "pooled":
            self.preference[slots] = self.pooled_row
        else:
            self._play_personas(slots, rng)
        opened: np.ndarray = self.account[slots]
        return opened

    def _play_personas(self, slots: np.ndarray, rng: np.random.Generator) -> None:
        """Give each slot the preferences and the templates of one coherent honest customer."""
        environment, habits = self.environment, self.environment.habits
        pathway = self.pathway[slots]
        most = habits.templates_S[pathway]
        count = np.where(most > 0, rng.integers(1, np.maximum(most, 1) + 1), 0)
        first = environment.templates.take(1)[0] + np.cumsum(count) - count
        environment.templates.take(int(count.sum()))
        self.own_templates[slots], self.first_template[slots] = count, first
        topics_RK = habits.topics_SK[pathway]
        if habits.concentration is not None:
            topics_RK = dirichlet(topics_RK, habits.concentration, rng)
        self.preference[slots] = environment.preferences.add(topics_RK)


def is_ready(slots: Slots, day: int, slot: np.ndarray) -> np.ndarray:
    """Which slots have accounts that have warmed up.

    Args:
        slots: of a campaign.
        day: from 0.
        slot: slots `[n]`.

    Returns:
        A mask `[n]`.
    """
    created = slots.environment.accounts.created[slots.account[slot]].astype(np.int64)
    ready: np.ndarray = created + slots.settings.warm_up <= day
    return ready


class Prompts(Source):
    """Prompts of a campaign's own, and cover.

    Args:
        environment: whose customers its cover is like.
        settings: what the campaign does.
        slots: of the campaign.
        target_row: row of topic preferences of what it wants.
        templates: ids of masked prompts `[n]` that the wanted ones are cut from.
    """

    def __init__(
        self,
        environment: Environment,
        settings: Campaign,
        slots: Slots,
        target_row: int,
        templates: np.ndarray,
    ) -> None:
        self.environment, self.settings, self.slots = environment, settings, slots
        self.target_row, self.templates = target_row, templates
        self.minutes = minute_quantiles(settings.peak)

    def rewrite(self, count: int) -> None:
        """Replace so many of its templates, the oldest first.

        Args:
            count: of templates.
        """
        fresh = self.environment.templates.take(count)
        self.templates = np.concatenate([self.templates[count:], fresh])

    def day(
        self, day: int, since: int | None, slot: np.ndarray, mix: float, rng: np.random.Generator
    ) -> Requests:
        settings, habits, n = self.settings, self.environment.habits, len(slot)
        segment = self.environment.accounts.segment[self.slots.account[slot]]
        wanted = bernoulli(np.full(n, mix), rng) & is_ready(self.slots, day, slot)
        topic, minute = self._topics_and_minutes(slot, wanted, rng)
        means = np.where(wanted[:, None], settings.tokens, habits.tokens_S2[RESELLER])
        tokens = token_counts(means[:, 0], means[:, 1], rng)
        template = self._templates(day, slot, segment, wanted, rng)
        phrase = bernoulli(np.where(wanted, settings.phrase, habits.phrase_S[segment]), rng)
        newest = bernoulli(np.full(n, settings.pivot if since is not None else 0.0), rng)
        prompt = np.zeros(n, np.uint32)  # each text is new
        wording = Wording(topic, template, phrase, newest, *tokens, prompt)
        return Requests(slot, minute, wording, wanted)

    def _topics_and_minutes(
        self, slot: np.ndarray, wanted: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Topic and minute of each exchange; in bursts, all accounts ask of one topic at once."""
        preferences, n = self.environment.preferences, len(slot)
        row = np.where(wanted, self.target_row, self.slots.preference[slot])
        topic = preferences.draw(row, rng)
        minute = self.minutes[uniform16(rng, n)].astype(np.uint16)
        if self.settings.timing == "spread":
            return topic, minute
        bursts = self.settings.bursts
        moment = rng.integers(0, MINUTES, bursts)
        topic_of_burst = preferences.draw(np.full(bursts, self.target_row), rng)
        burst = rng.integers(0, bursts, n)
        in_burst = (moment[burst] + rng.integers(0, 2, n)) % MINUTES
        minute = np.where(wanted, in_burst, minute).astype(np.uint16)
        return np.where(wanted, topic_of_burst[burst], topic), minute

    def _templates(
        self,
        day: int,
        slot: np.ndarray,
        segment: np.ndarray,
        wanted: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Template of each exchange: one of the campaign's where wanted, else a customer's."""
        habits, n = self.environment.habits, len(slot)
        u = rng.random(n, np.float32)
        public, private = habits.public_S[segment], habits.private_S[segment]
        count = self.slots.own_templates[slot]
        template = self.slots.first_template[slot] + (rng.random(n) * count).astype(np.uint32)
        popular = self.environment.public_templates(day)[uniform16(rng, n)]
        persona = np.where((count > 0) & (u < public + private), template, 0)
        cover = np.where(u < public, popular, persona)
        cut = self.templates[rng.integers(0, self.settings.templates, n)]
        return np.where(wanted, cut, cover).astype(np.uint32)


class Operator:
    """Runs campaign number `number`: sends its exchanges, and reacts when accounts are closed.

    Args:
        environment: where it opens its accounts.
        settings: what the campaign does.
        number: of the campaign, from 0.
        release: the day on which a new model comes out, if one does.

    Arguments of its methods:
        day: from 0.
        ids: account numbers `[n]`, anybody's.
    """

    def __init__(
        self, environment: Environment, settings: Campaign, number: int, release: int | None = None
    ) -> None:
        self.environment, self.settings = environment, settings
        self.number, self.release = number, release
        self.mix = settings.mix
        cover = environment.habits.topics_SK[RESELLER]
        wanted = target_topics(settings) if settings.targets else cover
        rows = environment.preferences.add(np.stack([wanted, cover]))
        self.target_row = int(rows[0])
        templates = environment.templates.take(settings.templates)
        rng = stream(environment.seed, "campaign", number)
        self.router = Router(environment.seed, settings, number, rng)
        self.slots = Slots(environment, settings, number, int(rows[1]), rng)
        self.prompts = Prompts(environment, settings, self.slots, self.target_row, templates)
        self.source = self._source()
        self.probes: Probes | None = None
        if settings.probes:
            luck = stream(environment.seed, "probes", number)
            self.probes = Probes(environment, settings, self.target_row, luck)

    @property
    def templates(self) -> np.ndarray:
        """Ids of the masked prompts that its own are cut from, `[n]`."""
        return self.prompts.templates

    def _source(self) -> Source:
        """Where its requests come from."""
        environment, settings, clientele = self.environment, self.settings, None
        if settings.customers:
            rng = stream(environment.seed, "customers", self.number)
            clientele = Clientele(environment, settings, rng)
        if settings.kind == "replay":
            return Replay(environment, settings, self.target_row, clientele)
        if clientele is None:
            return self.prompts
        return Relay(clientele, self.slots.pathway if settings.clientele is None else None)

    def day(self, day: int) -> Traffic:
        """The exchanges that reach the provider on a day."""
        rng = stream(self.environment.seed, "campaign", self.number, day)
        counts = self.router.route(day)
        order = np.argsort(self.slots.account, kind="stable")  # events come in order of account
        requests = self._requests(day, np.repeat(order, counts[order]), rng)
        if self.probes is not None:
            requests = self.probes.put(requests, rng)
        slot, minute, asks, wanted = requests
        account = self.slots.account[slot].astype(np.uint32)
        luck = stream(self.environment.seed, "origins", self.number, day)
        starts = run_starts(account)
        sent = np.diff(np.append(starts, len(account)))
        origins = self.environment.origins.draw(account[starts], sent, luck)
        events = Events(day, account, minute, *asks, *origins)
        return still_open(Traffic(events, wanted), self.environment.accounts)

    def _requests(self, day: int, slot: np.ndarray, rng: np.random.Generator) -> Requests:
        """What is asked on a day, in order of account; no account that warms up is wanted for."""
        since = None if self.release is None or day < self.release else day - self.release
        requests = self.source.day(day, since, slot, self.mix, rng)
        if self.source is not self.prompts:
            rows = np.argsort(self.slots.account[requests.slot], kind="stable")
            requests = requests.take(rows)
        return requests._replace(wanted=requests.wanted & is_ready(self.slots, day, requests.slot))

    def sign_up(self, day: int) -> np.ndarray:
        """Open accounts for the slots that are due, `[n]`; a provider may refuse them."""
        return self.slots.replace_due(day)

    def on_closed(self, day: int, ids: np.ndarray) -> None:
        """Some accounts were closed at the end of a day (any accounts; it knows its own).

        After a wave of closures it mixes less in, and rewrites some of its templates.
        """
        lost = self.slots.close(day, ids)
        if lost and lost >= self.settings.wave * self.settings.accounts:
            self.mix *= self.settings.adapts
            self.prompts.rewrite(round(self.settings.renews * self.settings.templates))
