"""The world before its first day: honest accounts, and what no provider sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.campaigns import SEGMENTS, Accounts, stream
from distill.campaigns.environment import CustomerHabits, CustomerRhythm
from distill.campaigns.origins import Origins
from distill.campaigns.sampling import (
    QUANTILES,
    TopicPreferences,
    UniqueIds,
    beta,
    dirichlet,
    minute_quantiles,
    topic_shares,
)
from experiments.campaigns.customers import automate, send_from, settle_origins, subscribe
from experiments.campaigns.neighbour import Neighbour
from experiments.campaigns.population import Population, Segment
from experiments.campaigns.truth import HONEST as HONEST
from experiments.campaigns.truth import Truth as Truth

# Segments whose customers may sit behind a VPN exit or a campus address.
SINGLE = ("chat", "agent", "api")
IDENTIFIED = ("organisation", "research", "reseller")  # verified when they sign up
ZONES = (-8, -5, 0, 1, 5, 8, 9)  # hours from UTC
MEAN_AGE = 200  # days since an account signed up, geometric; assumed
BLOCK = 8192  # customers whose preferences are drawn at once: memory stays small


@dataclass
class World:
    """Everything a simulation stands on; to a campaign it is an `Environment`.

    `hubs`: VPN exits and campus addresses, whoever is behind them. `viral`: weight [viral, days] of
    each viral prompt beside all public ones (1). `neighbour`: another provider, if there is one.
    """

    settings: Population
    seed: int
    days: int
    accounts: Accounts
    truth: Truth
    preferences: TopicPreferences
    tokens: UniqueIds
    templates: UniqueIds
    prompts: UniqueIds
    origins: Origins
    habits: CustomerHabits
    hubs: tuple[np.ndarray, np.ndarray]
    viral: np.ndarray
    neighbour: Neighbour | None = None

    def open_accounts(
        self,
        campaign: int,
        rate: float,
        *,
        segment: np.ndarray,
        created: np.ndarray | int,
        payment: np.ndarray,
        network: np.ndarray,
        verified: bool,
        plan: int,
        origins: tuple[int, int],
    ) -> np.ndarray:
        """Sign accounts of a campaign up, each on a device of its own."""
        ids = self.accounts.add(
            len(segment),
            segment=segment,
            created=created,
            payment=payment,
            network=network,
            device=self.tokens.take(len(segment)),
            verified=verified,
            plan=plan,
        )
        rng = stream(self.seed, "origins", campaign, int(ids[0]))
        send_from(self.origins, ids, *origins, rng)
        if self.neighbour is not None:
            self.neighbour.lend(self.accounts, ids, campaign, self.seed)
        self.truth.campaign[ids], self.truth.rate[ids] = campaign, rate
        # Customers are counted from below, campaigns from above, so that the two never meet.
        self.truth.owner[ids] = np.iinfo(np.uint32).max - campaign
        return ids

    def public_templates(self, day: int) -> np.ndarray:
        """The public template at each of 65,536 quantiles of a day's exchanges on them: lasting
        ones by Zipf(1), viral ones by their weight beside 1.
        """
        weight = 1 / np.arange(1.0, self.settings.public + 1)
        weight = np.concatenate([weight / weight.sum(), self.viral[:, day]])
        edge = np.cumsum(weight) / weight.sum()
        return (np.searchsorted(edge, QUANTILES) + 1).astype(np.uint32)


def build_world(
    settings: Population,
    days: int,
    seed: int,
    room: int = 0,
    campaigns: int = 0,
    customers: int = 0,
) -> World:
    """The honest accounts on day 0.

    Args:
        settings: of the honest population.
        days: of the horizon.
        seed: the same gives the same bytes.
        room: accounts that may be opened later, by campaigns and for what they lose.
        campaigns: how many there will be; each has two rows of preferences of its own.
        customers: of all campaigns, each with a row of preferences.
    """
    capacity = settings.accounts + room
    tokens = UniqueIds()
    world = World(
        settings=settings,
        seed=seed,
        days=days,
        accounts=Accounts.empty(capacity),
        truth=Truth.empty(capacity),
        preferences=TopicPreferences(capacity + len(SEGMENTS) + 2 * campaigns + customers),
        hubs=_hubs(settings, tokens),
        tokens=tokens,
        templates=UniqueIds(settings.public + settings.viral + 1),
        prompts=UniqueIds(),
        origins=Origins(capacity),
        habits=customer_habits(settings),
        viral=_viral(settings, days, seed),
    )
    owners = UniqueIds()
    for number, size in enumerate(settings.sizes().values()):
        if size:
            _settle(world, number, size, owners)
    return world


def customer_habits(settings: Population) -> CustomerHabits:
    """How honest customers ask, by segment, as campaigns may imitate it."""
    segments = [settings.segments[name] for name in SEGMENTS]
    return CustomerHabits(
        topics_SK=np.stack([topic_shares(each.mix) for each in segments]),
        concentration=settings.concentration,
        phrase_S=np.array([each.phrase for each in segments]),
        public_S=np.array([each.public for each in segments], np.float32),
        private_S=np.array([each.private for each in segments], np.float32),
        templates_S=np.array([each.templates for each in segments]),
        tokens_S2=np.array([each.tokens for each in segments]),
        pooled=settings.pooled,
        adopts_S=np.array([each.adopts for each in segments]),
        adoption_days=settings.adoption_days,
        habit=settings.habit,
        rhythm=customer_rhythm(segments),
    )


def customer_rhythm(segments: Sequence[Segment]) -> CustomerRhythm:
    """How much and when honest customers send, as who passes their requests on cannot but do too.

    Args:
        segments: in the order of `SEGMENTS`.
    """
    return CustomerRhythm(
        median_S=np.array([each.median for each in segments]),
        sigma_S=np.array([each.sigma for each in segments]),
        session_S=np.array([each.session for each in segments]),
        gap_S=np.array([each.gap for each in segments], np.float32),
        burst_S=np.array([each.burst for each in segments]),
        weekend_S=np.array([each.weekend for each in segments]),
        clock_SQ=np.stack([minute_quantiles(each.peak) for each in segments]),
        zones=ZONES,
    )


def customer_sizes(accounts: int, group: float, rng: np.random.Generator) -> np.ndarray:
    """Accounts of each customer `[customers]`, which add up.

    Args:
        accounts: of all customers together.
        group: above 1, customers have 1 + Zipf(group) accounts, else geometric(group).
        rng: where they are drawn from.
    """
    drawn = rng.zipf(group, accounts) + 1 if group > 1 else rng.geometric(group, accounts)
    sizes = np.minimum(drawn, max(2, accounts // 20))
    enough = sizes[: int(np.searchsorted(np.cumsum(sizes), accounts)) + 1].copy()
    enough[-1] -= enough.sum() - accounts
    return enough


def behind(settings: Population) -> tuple[int, int]:
    """Accounts expected behind VPN exits, and behind the NAT of campuses.

    Args:
        settings: of the honest population.
    """
    singles = sum(settings.sizes()[name] for name in SINGLE)
    return int(singles * settings.vpn), int(singles * settings.campus)


def _hubs(settings: Population, tokens: UniqueIds) -> tuple[np.ndarray, np.ndarray]:
    """Addresses of VPN exits and of campuses, as many as their customers fill."""
    hidden, on_campus = behind(settings)
    exits = tokens.take(max(1, hidden // settings.exit_size))
    return exits, tokens.take(max(1, on_campus // settings.campus_size))


def hidden(world: World, ids: np.ndarray) -> np.ndarray:
    """Which accounts signed up behind a popular VPN exit, a mask `[n]`.

    Args:
        world: with its exits.
        ids: account numbers `[n]`.
    """
    return np.isin(world.accounts.network[ids], world.hubs[0])


def _settle(world: World, number: int, size: int, owners: UniqueIds) -> None:
    """Add the customers of a segment, and what drives their traffic."""
    name, settings, truth = SEGMENTS[number], world.settings, world.truth
    segment, rng = settings.segments[name], stream(world.seed, "settle", name)
    sizes = customer_sizes(size, segment.group, rng)
    customer = np.repeat(np.arange(len(sizes)), sizes)
    ids = _sign_up(world, number, customer, rng)
    rate = segment.median * np.exp(segment.sigma * rng.standard_normal(size))
    if name == "reseller":  # a router spreads its load over its keys
        rate = rate[np.cumsum(sizes) - 1][customer]
    truth.rate[ids] = rate
    truth.owner[ids] = owners.take(len(sizes))[customer]
    truth.zone[ids] = rng.choice(ZONES, len(sizes))[customer]
    truth.phrase[ids] = rng.beta(*beta(segment.phrase, settings.habit), size)
    truth.adopts[ids] = rng.beta(*beta(segment.adopts, settings.habit), size)
    if segment.templates:
        count = rng.integers(1, segment.templates + 1, len(sizes))
        first = world.templates.take(int(count.sum()))[np.cumsum(count) - count]
        truth.first_template[ids], truth.templates[ids] = first[customer], count[customer]
    truth.preference[ids] = _preferences(world, segment, name, sizes, customer, rng)
    subscribe(settings, world.seed, name, world.accounts, truth, ids)
    settle_origins(settings, world.seed, name, world.origins, ids, customer, hidden(world, ids))
    automate(settings, world.seed, name, world.prompts, truth, ids, customer)


def _sign_up(
    world: World, number: int, customer: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The accounts of a segment's customers, who share a payment method and an address, or sit
    behind one that others share.
    """
    settings, name = world.settings, SEGMENTS[number]
    size, customers = len(customer), int(customer[-1]) + 1
    payment = world.tokens.take(customers)[customer]
    network = world.tokens.take(customers)[customer]
    if name in SINGLE:
        u = rng.random(customers)[customer]
        hidden = u < settings.vpn
        campus = ~hidden & (u < settings.vpn + settings.campus)
        for behind, hubs in zip((hidden, campus), world.hubs, strict=True):
            network[behind] = rng.choice(hubs, int(behind.sum()))
    new = rng.random(size) < settings.joins
    joined = rng.integers(0, world.days, size)
    return world.accounts.add(
        size,
        segment=number,
        created=np.where(new, joined, -rng.geometric(1 / MEAN_AGE, size)),
        payment=payment,
        network=network,
        device=world.tokens.take(size),
        verified=name in IDENTIFIED,
    )


def _preferences(
    world: World,
    segment: Segment,
    name: str,
    sizes: np.ndarray,
    customer: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Rows of preferences: a customer differs from its segment, an account from its customer; in
    blocks, to save memory.
    """
    settings, base_1K = world.settings, topic_shares(segment.mix)[None]
    if settings.concentration is None:
        return np.full(len(customer), world.preferences.add(base_1K)[0])
    spread = settings.pooled if name == "reseller" else settings.concentration
    rows = np.empty(len(customer), np.int64)
    for start in range(0, len(sizes), BLOCK):
        count = len(sizes[start : start + BLOCK])
        customers_CK = dirichlet(np.repeat(base_1K, count, 0), spread, rng)
        inside = slice(*np.searchsorted(customer, [start, start + count]))
        local = customer[inside] - start
        if segment.alike is None:
            rows[inside] = world.preferences.add(customers_CK)[local]
            continue
        accounts_AK = customers_CK[local]
        several = sizes[customer[inside]] > 1
        accounts_AK[several] = dirichlet(accounts_AK[several], segment.alike * spread, rng)
        rows[inside] = world.preferences.add(accounts_AK)
    return rows


def _viral(settings: Population, days: int, seed: int) -> np.ndarray:
    """Weights [viral, days]: each starts on some day and halves every other day; log-sd 1 around
    0.1. Assumed.
    """
    rng = stream(seed, "viral")
    start = rng.integers(-7, max(days, 1), settings.viral)
    age = np.arange(days)[None] - start[:, None]
    weight = 0.1 * np.exp(rng.standard_normal(settings.viral))[:, None] * 2.0 ** (-age / 2)
    return np.where(age >= 0, weight, 0)
