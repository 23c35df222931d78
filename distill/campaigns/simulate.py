"""Day by day: customers and campaigns send, a provider serves, and acts at the end of the day.

Time and memory are linear in the events of a day and in the accounts; no day is kept. A provider
that only watches gives the trajectory on which any number of detectors are compared; one that acts
closes the loop, and campaigns replace what they lose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np

from distill.campaigns import (
    CAPABILITIES,
    CAPABILITY_OF,
    SEGMENTS,
    Accounts,
    Events,
    Traffic,
    Truth,
    stream,
)
from distill.campaigns.operator import Operator
from distill.campaigns.population import Population, World, world
from distill.campaigns.presets import Campaign
from distill.campaigns.traffic import Honest


class Reply(NamedTuple):
    """What a provider did with a day's events: which it served, and how much each answer is worth
    to a student.

    None means all of them, and the whole value (1).
    """

    served: np.ndarray | None = None
    value: np.ndarray | None = None


Identify = Callable[[np.ndarray], np.ndarray]
"""Asks accounts for proof of identity and says which of them gave it; the same answer however often
it is asked.
"""


class Provider(Protocol):
    """Sees accounts and events, never the truth."""

    def begin(self, accounts: Accounts, days: int, identify: Identify) -> None:
        """Before the first day."""

    def sign_up(self, day: int, ids: np.ndarray) -> np.ndarray:
        """Which of these new accounts it lets in, a mask."""

    def serve(self, events: Events) -> Reply:
        """A day's exchanges."""

    def close(self, day: int) -> np.ndarray:
        """Accounts that it closes at the end of the day; they send nothing from the next day on."""


class Open:
    """Serves everybody and closes nobody."""

    def begin(self, accounts: Accounts, days: int, identify: Identify) -> None:
        pass

    def sign_up(self, day: int, ids: np.ndarray) -> np.ndarray:
        return np.ones(len(ids), bool)

    def serve(self, events: Events) -> Reply:
        return Reply()

    def close(self, day: int) -> np.ndarray:
        return np.zeros(0, np.int64)


@dataclass
class Outcome:
    """What happened. Rows of `leaked` are the accounts from `first` on, the campaigns'; axes A
    accounts, D days.

    `leaked_ADC`: exchanges that campaigns wanted and got, by capability. `value_AD`: their worth to
    a student. `bought`: what each campaign was served, cover included: exchanges, tokens in, tokens
    out. `planned`: the wanted exchanges each campaign would have got from a provider that serves
    all (expected). `sent_SD`, `refused_SD`: exchanges of honest accounts by segment. `turned_away`:
    accounts that were refused when they signed up. `events`: all exchanges sent.
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
    events: int = 0

    def got(self, number: int, closed: np.ndarray | None = None) -> np.ndarray:
        """Wanted exchanges a campaign got, by capability, had its accounts been closed at the end
        of these days.
        """
        mine = np.flatnonzero(self.truth.campaign[self.first : self.accounts.count] == number)
        if closed is None:
            return self.leaked_ADC[mine].sum(axis=(0, 1), dtype=np.int64)
        until = np.arange(self.days)[None] <= closed[self.first + mine][:, None]
        return np.einsum("adc,ad->c", self.leaked_ADC[mine].astype(np.int64), until)


def join(parts: Sequence[Traffic]) -> Traffic:
    """Traffic of several senders as one day, in order of account."""
    names = [f.name for f in fields(Events)[1:]]
    columns = {
        name: np.concatenate([getattr(part.events, name) for part in parts]) for name in names
    }
    events, wanted = (
        Events(parts[0].events.day, **columns),
        np.concatenate([part.wanted for part in parts]),
    )
    if (events.account[1:] >= events.account[:-1]).all():
        return Traffic(events, wanted)
    order = np.argsort(
        events.account, kind="stable"
    )  # replacements of one campaign come after another's accounts
    return Traffic(events.take(order), wanted[order])


def simulate(
    population: Population,
    campaigns: Sequence[Campaign],
    provider: Provider | None = None,
    *,
    days: int,
    seed: int,
    release: int | None = None,
) -> Outcome:
    """Run a horizon of days; on day `release`, if any, a new model comes out. The same seed gives
    the same bytes.
    """
    provider = provider or Open()
    room = sum(one.accounts + int(one.respawns * one.accounts) for one in campaigns)
    made = world(population, days, seed, room, len(campaigns))
    first, honest = made.accounts.count, Honest(made, release)
    operators = [Operator(made, one, number, release) for number, one in enumerate(campaigns)]
    out = Outcome(
        days,
        first,
        made.accounts,
        made.truth,
        tuple(campaigns),
        np.zeros((room, days, len(CAPABILITIES)), np.uint32),
        np.zeros((room, days), np.float32),
        np.zeros((len(campaigns), 3), np.int64),
        np.array([one.planned(days) for one in campaigns]),
        np.zeros((len(SEGMENTS), days), np.int64),
        np.zeros((len(SEGMENTS), days), np.int64),
        np.zeros(made.accounts.capacity, bool),
    )
    provider.begin(made.accounts, days, identity(made, campaigns))
    for day in range(days):
        for one in operators:
            new = one.sign_up(day)
            refused = new[~provider.sign_up(day, new)]
            made.accounts.closed[refused], out.turned_away[refused] = day, True
            one.closed(day, refused)
        today = join([honest.day(day), *(one.day(day) for one in operators)])
        _record(out, today, provider.serve(today.events))
        closed = provider.close(day)
        made.accounts.closed[closed] = np.minimum(made.accounts.closed[closed], day)
        for one in operators:
            one.closed(day, closed)
    return out


def identity(made: World, campaigns: Sequence[Campaign]) -> Identify:
    """Honest accounts give proof with the population's probability, a campaign's with its own."""
    luck = stream(made.seed, "identity").random(made.accounts.capacity, np.float32)
    chances = np.array(
        [*(one.passes for one in campaigns), made.settings.passes]
    )  # HONEST is -1, the last

    def identify(ids: np.ndarray) -> np.ndarray:
        return luck[ids] < chances[made.truth.campaign[ids]]

    return identify


def _record(out: Outcome, today: Traffic, reply: Reply) -> None:
    events, day = today.events, today.events.day
    out.events += len(events)
    split = int(np.searchsorted(events.account, out.first))  # honest accounts come first
    of = out.accounts.segment[events.account[:split]]
    out.sent_SD[:, day] = np.bincount(of, minlength=len(SEGMENTS))
    served = np.ones(len(events), bool) if reply.served is None else reply.served
    out.refused_SD[:, day] = np.bincount(of[~served[:split]], minlength=len(SEGMENTS))
    theirs = np.flatnonzero(served[split:]) + split
    number = out.truth.campaign[events.account[theirs]]
    for column, what in enumerate((None, events.tokens_in[theirs], events.tokens_out[theirs])):
        out.bought[:, column] += np.bincount(number, what, minlength=len(out.bought)).astype(
            np.int64
        )
    got = np.flatnonzero(today.wanted[split:] & served[split:]) + split
    row, capability = (
        events.account[got].astype(np.int64) - out.first,
        CAPABILITY_OF[events.topic[got]],
    )
    key, counts = np.unique(row * len(CAPABILITIES) + capability, return_counts=True)
    out.leaked_ADC[key // len(CAPABILITIES), day, key % len(CAPABILITIES)] = counts
    worth = None if reply.value is None else reply.value[got]
    out.value_AD[:, day] = np.bincount(row, worth, minlength=len(out.value_AD))
