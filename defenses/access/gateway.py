"""Gateway: rate limits, caps and tiers, and what an account is answered at all.

Three token buckets an account (requests, tokens in, tokens out a minute), a cap on exchanges a day
and one on dollars a month, and tiers that an account climbs by what it has spent and how old it is.
What does not pass gets a 429 and is not sent again. Caps, not rates, are what binds: at a reported
$20 an account, a campaign never meets its rate limits.

Sources: [docs] platform.claude.com rate limits, October 2026 (Start, Build, Scale; caps of $500,
$1,000, $200,000 a month; Start and Scale rates); everything else assumed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings
from distill.campaigns import MINUTES, SEGMENTS, Accounts, Events

MONTH = 30  # days


class Tier(AccessSettings):
    """Limits a minute, a cap in dollars a month, and what it takes to get here from
    the tier below.
    """

    requests: float = Field(gt=0)
    tokens_in: float = Field(gt=0, description="not counting what was cached")
    tokens_out: float = Field(gt=0)
    dollars: float = Field(gt=0, description="a month")
    spent: float = Field(ge=0, description="dollars so far that open this tier")
    age: int = Field(ge=0, le=3650, description="days since sign-up that open it, as well")


TIERS = (
    Tier(
        requests=50, tokens_in=30_000, tokens_out=8_000, dollars=100, spent=0, age=0
    ),  # evaluation: 2025's tier 1
    Tier(
        requests=1_000, tokens_in=500_000, tokens_out=100_000, dollars=500, spent=40, age=7
    ),  # Start [docs]
    Tier(
        requests=2_000, tokens_in=1_000_000, tokens_out=200_000, dollars=1_000, spent=200, age=14
    ),  # Build
    Tier(
        requests=4_000,
        tokens_in=4_000_000,
        tokens_out=800_000,
        dollars=200_000,
        spent=1_000,
        age=30,
    ),  # Scale [docs]
)


class Settings(AccessSettings):
    """Limits of every account, and the tiers that raise them."""

    tiers: tuple[Tier, ...] = Field(default=TIERS, min_length=1)
    trusted: int = Field(
        default=3,
        ge=0,
        le=1_000_000,
        description="tier of verified accounts, and of those older than the horizon",
    )
    burst: float = Field(default=1.0, ge=1, description="minutes' worth that a bucket holds")
    daily: float = Field(default=100_000, gt=0, description="exchanges a day of an account")
    throttled: float = Field(
        default=10, gt=0, description="the same, of an account that is throttled"
    )
    price: tuple[float, float] = Field(
        default=(3.0, 15.0), description="dollars a million tokens in and out"
    )
    cached: dict[str, float] = Field(
        default={"agent": 0.86},
        description="share of tokens in that were cached, by segment; a tenth of the price",
    )


class Bill(NamedTuple):
    """What each event counts for: tokens in that were not cached, tokens out, dollars."""

    tokens_in: np.ndarray
    tokens_out: np.ndarray
    dollars: np.ndarray


def bill(events: Events, segment: np.ndarray, settings: Settings) -> Bill:
    """Prices a million tokens; cached ones at a tenth (platform.claude.com, cache reads).

    Args:
        events: of a day.
        segment: number of the segment of the account of each event `[events]`.
        settings: prices.
    """
    cached = np.array([settings.cached.get(name, 0.0) for name in SEGMENTS])[segment]
    fresh, out = events.tokens_in * (1 - cached), events.tokens_out.astype(float)
    dollars = (
        settings.price[0] * (fresh + 0.1 * events.tokens_in * cached) + settings.price[1] * out
    ) / 1e6
    return Bill(fresh, out, dollars)


def buckets(
    n_AM: np.ndarray, each_LAM: np.ndarray, rate_LA: np.ndarray, burst: float
) -> np.ndarray:
    """Requests that L token buckets let through, [A, M] for accounts x minutes.

    `each_LAM`: mean cost of a request in that minute for each bucket; `rate_LA`: refill a minute; a
    bucket holds `burst` minutes of it and starts full. A minute's requests are served from the
    first on while every bucket pays.

    Args:
        n_AM: requests.
        each_LAM: tokens.
        rate_LA: tokens.
        burst: minutes.
    """
    level, out = burst * rate_LA, np.zeros_like(n_AM)
    for m in range(n_AM.shape[1]):
        if m:
            level = np.minimum(level + rate_LA, burst * rate_LA)
        can = np.floor(level / np.maximum(each_LAM[..., m], 1e-9) + 1e-9).min(axis=0)
        out[:, m] = np.minimum(n_AM[:, m], can)
        level = level - out[:, m] * each_LAM[..., m]
    return out


def running(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Cumulative sum that starts again at each of `starts`.

    Args:
        values: `[N]` of any unit.
        starts: places `[runs]`, rising, the first of them 0.

    Returns:
        `[N]`.
    """
    total = np.cumsum(values)
    before = np.repeat(total[starts] - values[starts], np.diff(np.append(starts, len(values))))
    since: np.ndarray = total - before
    return since


class Gateway:
    """Limits of a table of accounts. `refused`: 429s by account. `spent`: dollars so far.

    Args:
        settings: tiers, prices and caps.
        accounts: those that are there and those to come.
    """

    def __init__(self, settings: Settings, accounts: Accounts) -> None:
        self.settings, self.accounts = settings, accounts
        self.spent = np.zeros(accounts.capacity)
        self.month = np.zeros(accounts.capacity)
        self.refused = np.zeros(accounts.capacity, np.int64)
        self.throttled = np.zeros(accounts.capacity, bool)

    def tier(self, day: int, ids: np.ndarray) -> np.ndarray:
        """The highest tier `[A]` that each account paid and waited for; verified and old ones are
        trusted.

        Args:
            day: from 0.
            ids: of accounts `[A]`.
        """
        age = day - self.accounts.created[ids].astype(np.int64)
        tier = np.zeros(len(ids), np.int64)
        for number, step in enumerate(self.settings.tiers):
            tier[(self.spent[ids] >= step.spent) & (age >= step.age)] = number
        trusted = self.accounts.verified[ids] | (self.accounts.created[ids] < -MONTH)
        return np.where(
            trusted,
            np.maximum(tier, min(self.settings.trusted, len(self.settings.tiers) - 1)),
            tier,
        )

    def admit(self, events: Events) -> np.ndarray:
        """A mask `[events]` of those served of a day's, in order of account; totals move on."""
        if events.day % MONTH == 0:
            self.month[:] = 0
        served = np.ones(len(events), bool)
        if not len(events):
            return served
        account = events.account.astype(np.int64)
        starts = np.flatnonzero(np.concatenate([[True], account[1:] != account[:-1]]))
        ids, n = account[starts], np.diff(np.append(starts, len(account)))
        cost = bill(events, self.accounts.segment[account], self.settings)
        tier = self.tier(events.day, ids)
        rate_LA = np.array(
            [[one.requests, one.tokens_in, one.tokens_out] for one in self.settings.tiers]
        ).T[:, tier]
        cap = np.array([one.dollars for one in self.settings.tiers])[tier]
        daily = np.where(self.throttled[ids], self.settings.throttled, self.settings.daily)
        totals = [np.add.reduceat(part, starts) for part in cost]
        # An account whose whole day fits into full buckets and under its caps is served without a
        # look at minutes.
        near = (n > rate_LA[0]) | (totals[0] > rate_LA[1]) | (totals[1] > rate_LA[2])
        near |= (n > daily) | (self.month[ids] + totals[2] > cap)
        rows = np.flatnonzero(np.repeat(near, n))
        if len(rows):
            served[rows] = self._slow(
                events.minute[rows],
                Bill(*(part[rows] for part in cost)),
                n[near],
                rate_LA[:, near],
                daily[near],
                cap[near] - self.month[ids[near]],
            )
        paid = np.add.reduceat(np.where(served, cost.dollars, 0), starts)
        self.spent[ids] += paid
        self.month[ids] += paid
        self.refused[ids] += np.add.reduceat(~served, starts, dtype=np.int64)
        return served

    def _slow(
        self,
        minute: np.ndarray,
        cost: Bill,
        n: np.ndarray,
        rate_LA: np.ndarray,
        daily: np.ndarray,
        left: np.ndarray,
    ) -> np.ndarray:
        """The same, minute by minute, for accounts of n events each that may meet a limit today."""
        row = np.repeat(np.arange(len(n)), n)
        order = np.lexsort((minute, row))
        cell = row[order] * MINUTES + minute[order]
        served = np.zeros(len(cell), bool)
        block = (
            2048  # accounts at a time: dense minutes of all of them would not be linear in events
        )
        for first in range(0, len(n), block):
            size = min(block, len(n) - first)
            rows = slice(*np.searchsorted(cell, [first * MINUTES, (first + size) * MINUTES]))
            at = cell[rows] - first * MINUTES
            count = np.bincount(at, minlength=size * MINUTES)
            each = np.stack(
                [
                    np.ones(len(count)),
                    *(
                        np.bincount(at, part[order[rows]], size * MINUTES) / np.maximum(count, 1)
                        for part in (cost.tokens_in, cost.tokens_out)
                    ),
                ]
            ).reshape(3, size, MINUTES)
            passed = buckets(
                count.reshape(size, MINUTES),
                each,
                rate_LA[:, first : first + size],
                self.settings.burst,
            )
            rank = running(np.ones(len(at)), np.flatnonzero(np.diff(at, prepend=-1)))
            served[rows] = rank <= passed.reshape(-1)[at]
        begin = np.cumsum(n) - n
        served &= running(served.astype(float), begin) <= np.repeat(daily, n)
        served &= (
            running(np.where(served, cost.dollars[order], 0), begin) <= np.repeat(left, n) + 1e-9
        )
        out = np.empty(len(served), bool)
        out[order] = served
        return out
