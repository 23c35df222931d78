"""Day by day: customers and campaigns send, a provider serves, and acts at the end of the day.

Time and memory are linear in the events of a day and in the accounts; no day is kept. A provider
that only watches gives the trajectory on which any number of detectors are compared; one that acts
closes the loop, and campaigns replace what they lose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from defenses.access.provider import Identify, OpenAccess, Provider, Reply
from distill.campaigns import (
    CAPABILITIES,
    CAPABILITY_OF,
    SEGMENTS,
    Accounts,
    Events,
    Traffic,
    stream,
)
from distill.campaigns.kinds import Purchase
from distill.campaigns.operator import Operator
from distill.campaigns.settings import Campaign
from experiments.campaigns.lens import Lens, Texts
from experiments.campaigns.neighbour import Neighbour
from experiments.campaigns.population import Population
from experiments.campaigns.second import join
from experiments.campaigns.traffic import HonestTraffic
from experiments.campaigns.world import Truth, World, build_world


@dataclass
class Outcome:
    """What happened. Rows of `leaked` are the accounts from `first` on, the campaigns'; axes A
    accounts, D days, S segments, C capabilities.

    `leaked_ADC`: exchanges that campaigns wanted and got, by capability. `value_AD`: their worth to
    a student. `bought`: what each campaign was served, cover included: exchanges, tokens in, tokens
    out. `planned`: the wanted exchanges each campaign would have got from a provider that serves
    all (expected). `sent_SD`, `refused_SD`: exchanges of honest accounts by segment. `turned_away`:
    accounts that were refused when they signed up. `reduced_NDC`: of the leaked, those of each
    campaign N that were answered less; `reduced_SD`: the same of what honest accounts sent.
    `events`: all exchanges sent. Of campaigns N: `transcripts_NDC`, wanted exchanges that were
    bought of others, which no provider sees, None where nobody buys; `probes_ND2`, probes that
    were answered in full and in part.
    """

    days: int
    first: int
    accounts: Accounts
    truth: Truth
    campaigns: tuple[Campaign, ...]
    leaked_ADC: np.ndarray
    value_AD: np.ndarray
    bought: np.ndarray
    planned: np.ndarray
    sent_SD: np.ndarray
    refused_SD: np.ndarray
    turned_away: np.ndarray
    reduced_NDC: np.ndarray
    reduced_SD: np.ndarray
    events: int = 0
    transcripts_NDC: np.ndarray | None = None
    probes_ND2: np.ndarray | None = None

    @classmethod
    def empty(cls, world: World, campaigns: Sequence[Campaign]) -> Outcome:
        """Nothing has happened yet; every account so far is honest.

        Args:
            world: before its first day.
            campaigns: in the order of their numbers.
        """
        first, days = world.accounts.count, world.days
        room = world.accounts.capacity - first
        return cls(
            days=days,
            first=first,
            accounts=world.accounts,
            truth=world.truth,
            campaigns=tuple(campaigns),
            leaked_ADC=np.zeros((room, days, len(CAPABILITIES)), np.uint32),
            value_AD=np.zeros((room, days), np.float32),
            bought=np.zeros((len(campaigns), 3), np.int64),
            planned=np.array([each.planned(days) for each in campaigns]),
            sent_SD=np.zeros((len(SEGMENTS), days), np.int64),
            refused_SD=np.zeros((len(SEGMENTS), days), np.int64),
            turned_away=np.zeros(world.accounts.capacity, bool),
            transcripts_NDC=np.zeros((len(campaigns), days, len(CAPABILITIES)), np.int64),
            probes_ND2=np.zeros((len(campaigns), days, 2), np.int64),
            reduced_NDC=np.zeros((len(campaigns), days, len(CAPABILITIES)), np.int64),
            reduced_SD=np.zeros((len(SEGMENTS), days), np.int64),
        )

    def bought_DC(self, number: int) -> np.ndarray:
        """Wanted exchanges that a campaign bought of others, by day and capability.

        Args:
            number: of the campaign.

        Returns:
            `[D, C]`.
        """
        if self.transcripts_NDC is None:
            return np.zeros((self.days, len(CAPABILITIES)), np.int64)
        bought: np.ndarray = self.transcripts_NDC[number]
        return bought

    def got(self, number: int, closed: np.ndarray | None = None) -> np.ndarray:
        """Wanted exchanges that a campaign got, by capability [C].

        Args:
            number: of the campaign.
            closed: by account `[accounts]`, the day at the end of which it would have been closed;
                as it was, if None. What was bought of others is got whatever is closed.
        """
        got_C: np.ndarray = self.bought_DC(number).sum(axis=0)
        rows = np.flatnonzero(self.truth.campaign[self.first : self.accounts.count] == number)
        if closed is None:
            got_C += self.leaked_ADC[rows].sum(axis=(0, 1), dtype=np.int64)
            return got_C
        until = np.arange(self.days)[None] <= closed[self.first + rows][:, None]
        got_C += np.einsum("adc,ad->c", self.leaked_ADC[rows].astype(np.int64), until)
        return got_C


def merge(parts: Sequence[Traffic]) -> Traffic:
    """Traffic of several senders as one day, in order of account.

    Args:
        parts: of one day, at least one, each in order of account.
    """
    first = parts[0].events
    names = [field.name for field in fields(Events)[1:] if getattr(first, field.name) is not None]
    columns = {
        name: np.concatenate([getattr(part.events, name) for part in parts]) for name in names
    }
    events = Events(first.day, **columns)
    wanted = np.concatenate([part.wanted for part in parts])
    if (events.account[1:] >= events.account[:-1]).all():
        return Traffic(events, wanted)
    # Replacements of one campaign come after another's accounts.
    order = np.argsort(events.account, kind="stable")
    return Traffic(events.take(order), wanted[order])


def simulate(
    population: Population,
    campaigns: Sequence[Campaign],
    provider: Provider | None = None,
    *,
    days: int,
    seed: int,
    release: int | None = None,
    neighbour: Neighbour | None = None,
    texts: Texts | None = None,
) -> Outcome:
    """Run a horizon of days.

    Args:
        population: the honest customers.
        campaigns: those beside them; none is a clean horizon.
        provider: what stands between; serves all and closes none, if None.
        days: of the horizon.
        seed: the same gives the same bytes.
        release: the day on which a new model comes out, if one does.
        neighbour: another provider, some of whose customers and operators come here too.
        texts: that exchanges have, as the provider reads them; it is shown topics, if None.
    """
    provider = provider or OpenAccess()
    room = sum(each.accounts + int(each.respawns * each.accounts) for each in campaigns)
    customers = sum(each.customers for each in campaigns)
    world = build_world(population, days, seed, room, len(campaigns), customers)
    if neighbour is not None:
        join(world, neighbour)
    outcome, honest = Outcome.empty(world, campaigns), HonestTraffic(world, release)
    operators = [
        Operator(world, each, number, release)
        for number, each in enumerate(campaigns)
        if each.accounts
    ]
    _buy(
        outcome, [Purchase(seed, each, i) for i, each in enumerate(campaigns) if not each.accounts]
    )
    accounts, lens = world.accounts, Lens(texts, seed) if texts else None
    provider.begin(accounts, days, identity_check(world, campaigns))
    for day in range(days):
        for operator in operators:
            opened = operator.sign_up(day)
            refused = opened[~provider.sign_up(day, opened)]
            accounts.closed[refused], outcome.turned_away[refused] = day, True
            operator.on_closed(day, refused)
        today = merge([honest.day(day), *(operator.day(day) for operator in operators)])
        reply = provider.serve(lens.read(today.events) if lens else today.events)
        _record(outcome, today, reply)
        _record_probes(outcome, today.events, reply, operators)
        closed = provider.close(day)
        accounts.closed[closed] = np.minimum(accounts.closed[closed], day)
        for operator in operators:
            operator.on_closed(day, closed)
    return outcome


def identity_check(world: World, campaigns: Sequence[Campaign]) -> Identify:
    """Honest accounts give proof with the population's probability, a campaign's with its own.

    Args:
        world: before its first day.
        campaigns: in the order of their numbers.

    Returns:
        A function of account numbers; it returns a mask, the same however often it is asked.
    """
    luck = stream(world.seed, "identity").random(world.accounts.capacity, np.float32)
    # HONEST is -1, so that the last chance is that of honest accounts.
    chances = np.array([*(each.passes for each in campaigns), world.settings.passes])

    def identify(ids: np.ndarray) -> np.ndarray:
        passed: np.ndarray = luck[ids] < chances[world.truth.campaign[ids]]
        return passed

    return identify


def _buy(outcome: Outcome, purchases: Sequence[Purchase]) -> None:
    """Count what is bought of others: no provider is there to stop it."""
    assert outcome.transcripts_NDC is not None
    for each in purchases:
        for day in range(outcome.days):
            got = each.day(day)
            outcome.transcripts_NDC[each.number, day] = got.wanted_C
            outcome.bought[each.number] += [got.exchanges, got.tokens_in, got.tokens_out]


def _record_probes(
    outcome: Outcome, events: Events, reply: Reply, operators: Sequence[Operator]
) -> None:
    """Count the probes of each campaign that were answered, in full and in part."""
    assert outcome.probes_ND2 is not None
    for operator in operators:
        if operator.probes is None:
            continue
        answered = np.isin(events.template, operator.probes.templates)
        if reply.served is not None:
            answered &= reply.served
        reduced = answered & (False if reply.reduced is None else reply.reduced)
        counts = [int((answered & ~reduced).sum()), int(reduced.sum())]
        outcome.probes_ND2[operator.number, events.day] = counts


def _record(outcome: Outcome, today: Traffic, reply: Reply) -> None:
    """Count a day: what was sent, what was refused, and what campaigns bought and wanted."""
    events, day = today.events, today.events.day
    outcome.events += len(events)
    split = int(np.searchsorted(events.account, outcome.first))  # honest accounts come first
    segment = outcome.accounts.segment[events.account[:split]]
    served = np.ones(len(events), bool) if reply.served is None else reply.served
    outcome.sent_SD[:, day] = np.bincount(segment, minlength=len(SEGMENTS))
    outcome.refused_SD[:, day] = np.bincount(segment[~served[:split]], minlength=len(SEGMENTS))
    sold = np.flatnonzero(served[split:]) + split
    number, campaigns = outcome.truth.campaign[events.account[sold]], len(outcome.bought)
    for column, what in enumerate((None, events.tokens_in[sold], events.tokens_out[sold])):
        bought = np.bincount(number, what, minlength=campaigns)
        outcome.bought[:, column] += bought.astype(np.int64)
    leaked = np.flatnonzero(today.wanted[split:] & served[split:]) + split
    row = events.account[leaked].astype(np.int64) - outcome.first
    capability = CAPABILITY_OF[events.topic[leaked]]
    cell, counts = np.unique(row * len(CAPABILITIES) + capability, return_counts=True)
    outcome.leaked_ADC[cell // len(CAPABILITIES), day, cell % len(CAPABILITIES)] = counts
    if reply.reduced is not None:
        _record_reduced(outcome, today, reply.reduced & served, split)
    worth = None if reply.value is None else reply.value[leaked]
    outcome.value_AD[:, day] = np.bincount(row, worth, minlength=len(outcome.value_AD))


def _record_reduced(outcome: Outcome, today: Traffic, reduced: np.ndarray, split: int) -> None:
    """Count what was answered less on a day: of honest accounts, and of what campaigns wanted."""
    events, day = today.events, today.events.day
    segment = outcome.accounts.segment[events.account[:split][reduced[:split]]]
    outcome.reduced_SD[:, day] = np.bincount(segment, minlength=len(SEGMENTS))
    rows = np.flatnonzero(reduced[split:] & today.wanted[split:]) + split
    number = outcome.truth.campaign[events.account[rows]]
    np.add.at(outcome.reduced_NDC, (number, day, CAPABILITY_OF[events.topic[rows]]), 1)
