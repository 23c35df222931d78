"""The honest population: who the customers are, what they share, what they like to ask, how much
and when.

Sources, by the mark after a number: [ServeGen] arXiv 2505.09999, client files; [NBER] paper 34255
(ChatGPT use); [WildChat] 1,039,785 conversations; [Copilot] Azure trace of June 2026, 301,026
agentic sessions; [assumed] by us, to be swept. Real accounts differ from one another far more than
draws from pooled traffic do; `concentration` says by how much, and what detectors reach depends on
it more than on anything else here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pydantic import Field

from distill.campaigns import (
    CAPABILITIES,
    CAPABILITY_OF,
    MINUTES,
    SEGMENTS,
    TOPICS,
    Accounts,
    Part,
    Truth,
    apportion,
    stream,
)

SINGLE = (
    "chat",
    "agent",
    "api",
)  # segments whose customers may sit behind a VPN exit or a campus address
STEPS = 65535  # resolution of a preference: probabilities are multiples of 1/65535


class Segment(Part):
    """One kind of honest customer. Rates are exchanges (model calls) a day and account, lognormal
    over accounts.
    """

    share: float = Field(gt=0, le=1, description="of all accounts")
    median: float = Field(gt=0, description="exchanges a day of the median account")
    sigma: float = Field(ge=0, description="sd of the log rate")
    session: float = Field(ge=1, description="mean exchanges a session, geometric")
    gap: float = Field(gt=0, description="mean minutes between exchanges of a session")
    burst: float = Field(
        ge=0, description="coefficient of variation of an account's daily intensity, gamma"
    )
    weekend: float = Field(
        gt=0, description="intensity on Saturday and Sunday, relative to working days"
    )
    peak: float = Field(ge=1, description="busiest over quietest hour")
    tokens: tuple[float, float] = Field(
        description="mean tokens in (lognormal, sigma 1) and out (exponential)"
    )
    mix: dict[str, float] = Field(description="capabilities asked for, in proportion")
    phrase: float = Field(
        ge=0, lt=1, description="mean share of prompts that ask for reasoning or a rubric"
    )
    public: float = Field(ge=0, le=1, description="share of exchanges on public prompt templates")
    private: float = Field(
        ge=0, le=1, description="share of exchanges on the customer's own templates"
    )
    templates: int = Field(
        ge=0, le=10_000_000, description="own templates a customer has, at most; at least 1 if any"
    )
    adopts: float = Field(
        gt=0, lt=1, description="mean share of traffic that moves to a new model in the end"
    )
    group: float = Field(
        gt=0, description="accounts of a customer: Zipf exponent above 1, else geometric (p)"
    )
    alike: float | None = Field(
        gt=0,
        description=(
            "concentration of members around their group, as a multiple of the population's; "
            "none: equal"
        ),
    )


TALK: dict[str, float] = {
    "guidance": 29,
    "information": 24,
    "writing": 24,
    "coding": 4.2,
    "reasoning": 4,
    "vision": 6,
    "other": 9,
}
CODE: dict[str, float] = {"coding": 60, "agentic": 25, "reasoning": 5, "analysis": 5, "writing": 5}

# share, phrase, public, private, templates, adopts, group, alike, peak (chat), weekend: assumed
# throughout.
HONEST_SEGMENTS = {
    # Median and sigma give a mean of 4.1 a day, beside 3.7 messages per user and day [NBER];
    # session: 2.52 turns [WildChat]; tokens as ServeGen's chat models; `mix` after [NBER]:
    # guidance, seeking and writing near 80 %, coding 4.2 %.
    "chat": Segment(
        share=0.70,
        median=2,
        sigma=1.2,
        session=2.52,
        gap=2,
        burst=1.0,
        weekend=0.9,
        peak=4.0,
        tokens=(500, 250),
        mix=TALK,
        phrase=0.01,
        public=0.04,
        private=0,
        templates=0,
        adopts=0.3,
        group=0.985,
        alike=0.5,
    ),
    # session: 30.9 calls; tokens: 67.8 k in, 527 out a call [Copilot]; gap: 5 to 7 requests a
    # minute in small teams.
    "agent": Segment(
        share=0.17,
        median=4,
        sigma=1.3,
        session=30.9,
        gap=0.2,
        burst=1.2,
        weekend=0.5,
        peak=3.0,
        tokens=(67_800, 527),
        mix=CODE,
        phrase=0.005,
        public=0.02,
        private=0.1,
        templates=2,
        adopts=0.4,
        group=0.9,
        alike=2,
    ),
    # sigma within 1.83 to 2.70 and so 76 % of the load from the top tenth, within 60 to 79 %; burst
    # 1.9 to 2.5 and peak 1.4 to 2.2 [ServeGen].
    "api": Segment(
        share=0.061,
        median=2.5,
        sigma=2.0,
        session=10,
        gap=0.1,
        burst=2.0,
        weekend=0.7,
        peak=2.0,
        tokens=(725, 200),
        mix=TALK | {"coding": 20, "analysis": 15, "grading": 2},
        phrase=0.02,
        public=0.01,
        private=0.9,
        templates=5,
        adopts=0.1,
        group=0.75,
        alike=2,
    ),
    "organisation": Segment(
        share=0.06,
        median=4,
        sigma=1.3,
        session=8,
        gap=1,
        burst=1.0,
        weekend=0.2,
        peak=6.0,
        tokens=(2000, 400),
        mix=TALK | {"coding": 30, "agentic": 10, "analysis": 15},
        phrase=0.01,
        public=0.03,
        private=0.2,
        templates=5,
        adopts=0.2,
        group=2.0,
        alike=2,
    ),
    # The hard negatives for content: few, heavy, batch work with rubrics and requests for
    # reasoning.
    "research": Segment(
        share=0.006,
        median=20,
        sigma=2.2,
        session=100,
        gap=0.05,
        burst=2.0,
        weekend=0.7,
        peak=1.5,
        tokens=(725, 1000),
        mix={"reasoning": 40, "coding": 20, "grading": 25, "analysis": 10, "agentic": 5},
        phrase=0.15,
        public=0.05,
        private=0.8,
        templates=10,
        adopts=0.5,
        group=0.7,
        alike=2,
    ),
    # The hard negatives for everything about pooling: lawful resellers, routers and universities
    # whose keys carry many people's traffic, on one card, evenly.
    "reseller": Segment(
        share=0.003,
        median=150,
        sigma=1.2,
        session=2.5,
        gap=2,
        burst=0.3,
        weekend=0.8,
        peak=2.0,
        tokens=(725, 300),
        mix=TALK | {"coding": 30, "agentic": 10},
        phrase=0.02,
        public=0.04,
        private=0,
        templates=0,
        adopts=0.3,
        group=0.4,
        alike=None,
    ),
}


class Population(Part):
    """The honest accounts. All fields are assumed."""

    accounts: int = Field(default=300_000, ge=100, le=10_000_000)
    concentration: float | None = Field(
        default=10.0, gt=0, description="Dirichlet, over customers; none: all alike"
    )
    pooled: float = Field(
        default=300.0, gt=0, description="the same for resellers, who pool many customers"
    )
    habit: float = Field(
        default=5.0, gt=0, description="concentration of the Beta of phrase and adoption shares"
    )
    vpn: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="chat, agent and api customers behind a popular VPN exit",
    )
    campus: float = Field(
        default=0.08, ge=0, le=1, description="the same, behind the NAT of a campus"
    )
    campus_size: int = Field(default=200, ge=2, le=1_000_000)
    exit_size: int = Field(
        default=400,
        ge=2,
        le=1_000_000,
        description="accounts behind a popular VPN exit, on average",
    )
    joins: float = Field(
        default=0.1, ge=0, le=1, description="accounts that sign up during the horizon, evenly"
    )
    passes: float = Field(
        default=0.97, ge=0, le=1, description="accounts that prove who they are when asked"
    )
    public: int = Field(
        default=5000,
        ge=1,
        le=10_000_000,
        description="public prompt templates, Zipf; ids 1 to this",
    )
    viral: int = Field(
        default=40,
        ge=0,
        le=1_000_000,
        description="prompts that spread during the horizon; the ids after public",
    )
    adoption_days: float = Field(
        default=3.0, gt=0, description="half of those who move to a new model have by then"
    )
    segments: dict[str, Segment] = HONEST_SEGMENTS

    def sizes(self) -> dict[str, int]:
        """Accounts of each segment; they add up."""
        shares = np.array([self.segments[name].share for name in SEGMENTS])
        return dict(zip(SEGMENTS, apportion(self.accounts, shares).tolist(), strict=True))


class Tastes:
    """Topic preferences, a row each, as cumulative shares in units of 1/STEPS: 256 bytes a row."""

    def __init__(self, capacity: int) -> None:
        self.cdf = np.zeros((capacity, TOPICS), np.uint16)
        self.count = 0

    def add(self, p_RK: np.ndarray) -> np.ndarray:
        """Append preferences and return their row numbers."""
        rows = np.arange(self.count, self.count + len(p_RK))
        edge = np.cumsum(p_RK, axis=1, dtype=np.float64)
        self.cdf[rows] = np.round(edge / edge[:, -1:] * STEPS)
        self.count += len(rows)
        return rows

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A topic for each row number, by halving the row's cumulative shares."""
        u = rng.integers(0, STEPS, len(rows), dtype=np.uint16)
        flat, first = self.cdf.reshape(-1), rows.astype(np.int32) * np.int32(TOPICS)
        at, step = first.copy(), TOPICS // 2
        while step:
            at += (flat[at + np.int32(step - 1)] <= u) * np.int32(step)
            step //= 2
        return (at - first).astype(np.uint8)


def interface(mix: dict[str, float]) -> np.ndarray:
    """Topic shares of a mix of capabilities; within a capability they fall as 1/rank (Zipf;
    assumed).
    """
    shares = np.zeros(TOPICS)
    for i, name in enumerate(CAPABILITIES):
        members = np.flatnonzero(CAPABILITY_OF == i)
        weights = 1 / np.arange(1.0, len(members) + 1)
        shares[members] = mix.get(name, 0) * weights / weights.sum()
    return shares / shares.sum()


def dirichlet(mean_RK: np.ndarray, concentration: float, rng: np.random.Generator) -> np.ndarray:
    """One Dirichlet(concentration x mean) draw a row; topics of mean 0 stay 0."""
    drawn = rng.standard_gamma((concentration * mean_RK).astype(np.float32), dtype=np.float32)
    total = drawn.sum(axis=1, keepdims=True)
    return np.where(
        total > 0, drawn / np.maximum(total, 1e-30), mean_RK
    )  # all shapes tiny: every draw underflowed


def groups(accounts: int, kind: float, rng: np.random.Generator) -> np.ndarray:
    """Sizes of customers that add up to the accounts: 1 + Zipf with an exponent above 1, or
    geometric(p).
    """
    drawn = rng.zipf(kind, accounts) + 1 if kind > 1 else rng.geometric(kind, accounts)
    sizes = np.minimum(drawn, max(2, accounts // 20))
    kept = sizes[: int(np.searchsorted(np.cumsum(sizes), accounts)) + 1].copy()
    kept[-1] -= kept.sum() - accounts
    return kept


class Names:
    """Hands out numbers that nobody else has: payment tokens, devices, addresses, templates,
    customers.
    """

    def __init__(self, first: int = 1) -> None:
        self.next = first

    def take(self, n: int) -> np.ndarray:
        self.next += n
        return np.arange(self.next - n, self.next, dtype=np.uint32)


class World(NamedTuple):
    """Everything a simulation stands on, before its first day."""

    settings: Population
    seed: int
    days: int
    accounts: Accounts
    truth: Truth
    tastes: Tastes
    tokens: Names  # payment, device and network tokens alike
    templates: Names
    hubs: tuple[np.ndarray, np.ndarray]  # VPN exits and campus addresses, whoever is behind them
    viral: np.ndarray  # [viral, days]: weight of each viral prompt beside all public ones (1)


def world(settings: Population, days: int, seed: int, room: int = 0, campaigns: int = 0) -> World:
    """The honest accounts on day 0, and room for `room` more (those of campaigns, and what replaces
    them).
    """
    capacity = settings.accounts + room
    tokens = Names()
    singles = sum(settings.sizes()[name] for name in SINGLE)
    hubs = tuple(
        tokens.take(max(1, int(singles * share) // each))
        for share, each in (
            (settings.vpn, settings.exit_size),
            (settings.campus, settings.campus_size),
        )
    )
    tastes = Tastes(capacity + len(SEGMENTS) + 2 * campaigns)
    made = World(
        settings,
        seed,
        days,
        Accounts.room(capacity),
        Truth.room(capacity),
        tastes,
        tokens,
        Names(settings.public + settings.viral + 1),
        (hubs[0], hubs[1]),
        _viral(settings, days, seed),
    )
    owners = Names()
    for number, (name, size) in enumerate(settings.sizes().items()):
        if size:
            _settle(
                made, number, settings.segments[name], size, owners, stream(seed, "settle", name)
            )
    return made


def _settle(
    made: World, number: int, one: Segment, size: int, owners: Names, rng: np.random.Generator
) -> None:
    settings, accounts, truth = made.settings, made.accounts, made.truth
    sizes = groups(size, one.group, rng)
    member = np.repeat(np.arange(len(sizes)), sizes)
    payment = made.tokens.take(len(sizes))[member]
    network = made.tokens.take(len(sizes))[member]
    name = SEGMENTS[number]
    if name in SINGLE:
        u = rng.random(len(sizes))[member]
        hidden, campus = (
            u < settings.vpn,
            (u >= settings.vpn) & (u < settings.vpn + settings.campus),
        )
        for behind, hubs in zip((hidden, campus), made.hubs, strict=True):
            network[behind] = rng.choice(hubs, int(behind.sum()))
    new = rng.random(size) < settings.joins
    ids = accounts.add(
        size,
        segment=number,
        created=np.where(new, rng.integers(0, made.days, size), -rng.geometric(1 / 200, size)),
        payment=payment,
        network=network,
        device=made.tokens.take(size),
        verified=name in ("organisation", "research", "reseller"),
    )
    rate = one.median * np.exp(one.sigma * rng.standard_normal(size))
    even = name == "reseller"  # a router spreads its load over its keys
    truth.rate[ids] = rate[np.cumsum(sizes) - 1][member] if even else rate
    truth.owner[ids] = owners.take(len(sizes))[member]
    truth.zone[ids] = rng.choice([-8, -5, 0, 1, 5, 8, 9], len(sizes))[member]
    truth.phrase[ids] = rng.beta(*_beta(one.phrase, settings.habit), size)
    truth.adopts[ids] = rng.beta(*_beta(one.adopts, settings.habit), size)
    if one.templates:
        held = rng.integers(1, one.templates + 1, len(sizes))
        first = made.templates.take(int(held.sum()))[np.cumsum(held) - held]
        truth.first_template[ids], truth.templates[ids] = first[member], held[member]
    truth.taste[ids] = _tastes(made, one, name, sizes, member, rng)


def _beta(mean: float, concentration: float) -> tuple[float, float]:
    return mean * concentration, (1 - mean) * concentration


def _tastes(
    made: World,
    one: Segment,
    name: str,
    sizes: np.ndarray,
    member: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Rows of taste: a customer differs from its segment, a member from its customer; in blocks, to
    save memory.
    """
    base = interface(one.mix)[None]
    spread = made.settings.pooled if name == "reseller" else made.settings.concentration
    if made.settings.concentration is None or spread is None:
        return np.full(len(member), made.tastes.add(base)[0])
    rows = np.empty(len(member), np.int64)
    for start in range(0, len(sizes), 8192):
        block = slice(start, start + 8192)
        of_group = dirichlet(np.repeat(base, len(sizes[block]), 0), spread, rng)
        inside = slice(*np.searchsorted(member, [start, start + len(of_group)]))
        local = member[inside] - start
        if one.alike is None:
            rows[inside] = made.tastes.add(of_group)[local]
        else:
            own, many = of_group[local], sizes[member[inside]] > 1
            own[many] = dirichlet(own[many], one.alike * spread, rng)
            rows[inside] = made.tastes.add(own)
    return rows


def _viral(settings: Population, days: int, seed: int) -> np.ndarray:
    """Weights [viral, days]: each starts on some day and halves every other day; log-sd 1 around
    0.1. Assumed.
    """
    rng = stream(seed, "viral")
    start = rng.integers(-7, max(days, 1), settings.viral)
    age = np.arange(days)[None] - start[:, None]
    return np.where(
        age >= 0, 0.1 * np.exp(rng.standard_normal(settings.viral))[:, None] * 2.0 ** (-age / 2), 0
    )


def clock(peak: float) -> np.ndarray:
    """Minute of the local day at each of 65,536 quantiles, busiest at 15:00, sinusoidal,
    busiest/quietest = peak.
    """
    minute = np.arange(MINUTES)
    swing = (peak - 1) / (peak + 1)
    weight = 1 + swing * np.cos(2 * np.pi * (minute - 15 * 60) / MINUTES)
    edge = np.cumsum(weight) / weight.sum()
    return np.searchsorted(edge, (np.arange(65536) + 0.5) / 65536).astype(np.int16)
