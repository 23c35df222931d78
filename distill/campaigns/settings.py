"""What a campaign does, as settings; those that contradict each other are refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from distill.campaigns import CAPABILITIES, SEGMENTS, FrozenSettings, apportion
from distill.campaigns.footprint import Footprint

Share = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[int, Field(ge=0, le=3650)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Some = Annotated[int, Field(ge=0, le=10_000_000)]
Kind = Literal["own", "relay", "replay", "bought"]

LATER = (
    "kind",
    "busiest",
    "busiest_day",
    "most",
    "customers",
    "clientele",
    "turns",
    "continues",
    "probes",
    "probe_set",
    "probe_accounts",
    *Footprint.model_fields,
)
"""Settings that came later: at their defaults they are not written down, so that the addresses of
earlier campaigns are as they were.
"""

WORDING = ("narrow", "templates", "phrase", "tokens", "pivot")  # of requests that are its own
RHYTHM = ("timing", "bursts", "cover", "renews")
SESSIONS = ("turns", "continues")
ACCOUNTS = (
    "pathways",
    "per_payment",
    "per_network",
    "router",
    "warm_up",
    "respawn_days",
    "respawns",
    "reuse",
    "adapts",
    "wave",
    "passes",
    "most",
    "customers",
    "clientele",
    "probes",
    "probe_set",
    "probe_accounts",
)
UNUSED: dict[Kind, tuple[str, ...]] = {
    "own": (*SESSIONS, "customers", "clientele"),
    "relay": (*WORDING, *RHYTHM, *SESSIONS, "most", "peak"),
    "replay": ("templates", *RHYTHM, "most"),
    "bought": (
        *ACCOUNTS,
        *Footprint.model_fields,
        "narrow",
        "templates",
        "phrase",
        "pivot",
        *RHYTHM,
        *SESSIONS,
    ),
}
"""What a kind of campaign makes nothing of; nor has a replay of customers' sessions a wording."""


class Plan(FrozenSettings):
    """How many exchanges, through how many accounts, on which days. An exchange is one model
    call.
    """

    exchanges: int = Field(
        gt=0,
        le=100_000_000_000,
        description="of all its accounts over all its days, cover included",
    )
    accounts: Some = Field(description="open at the same time; 0 where transcripts are bought")
    days: int = Field(gt=0, le=3650)
    start: Days = Field(default=0, description="day of the horizon on which it begins")
    schedule: Literal["flat", "working"] = Field(
        default="flat", description="every day alike, or weekends at a third"
    )
    busiest: Count | None = Field(
        default=None, description="exchanges on its busiest day; none: no day stands out"
    )
    busiest_day: Days | None = Field(
        default=None, description="which of its days, from 0, that is; none: the middle one"
    )
    most: Count | None = Field(
        default=None,
        description="exchanges that an account sends on a day at most; none: no such bound",
    )

    @property
    def per_account(self) -> float:
        """Exchanges of an account over the campaign; 0 without accounts."""
        return self.exchanges / self.accounts if self.accounts else 0.0

    @property
    def per_account_day(self) -> float:
        """Exchanges of an account on a day of the campaign, on average."""
        return self.per_account / self.days

    @property
    def day_of_peak(self) -> int:
        """The day of the campaign, from 0, on which its peak is."""
        return self.days // 2 if self.busiest_day is None else self.busiest_day

    def daily(self) -> np.ndarray:
        """Exchanges planned for each of its days `[days]`; they add up exactly."""
        weekday = (self.start + np.arange(self.days)) % 7
        weights = np.where((weekday >= 5) & (self.schedule == "working"), 1 / 3, 1.0)
        if self.busiest is None or self.days == 1:
            return apportion(self.exchanges, weights)
        weights[self.day_of_peak] = 0
        days = apportion(self.exchanges - self.busiest, weights)
        days[self.day_of_peak] = self.busiest
        return days


class Pool(Plan):
    """The accounts: what they sign up as, what they share, and what becomes of closed ones."""

    pathways: dict[str, float] = Field(
        default={"api": 1.0}, description="what its accounts sign up as, in proportion"
    )
    per_payment: int = Field(
        default=1, ge=1, le=1_000_000, description="accounts on one payment method"
    )
    per_network: int = Field(
        default=1, ge=1, le=1_000_000, description="accounts behind one exit address"
    )
    router: Literal["round_robin", "random", "sticky"] = Field(
        default="round_robin",
        description="even; by chance; or lasting unequal shares (lognormal, sigma 0.5)",
    )
    warm_up: Days = Field(default=0, description="days for which an account sends cover only")
    respawn_days: int = Field(
        default=1, ge=1, le=3650, description="days until a closed account is replaced"
    )
    respawns: float = Field(
        default=0.0, ge=0, description="replacements it can pay for, as a multiple of `accounts`"
    )
    reuse: Share = Field(
        default=0.0, description="replacements that keep the closed account's payment"
    )
    passes: Share = Field(
        default=0.05, description="its accounts that get through an identity check"
    )


class Campaign(Pool, Footprint):
    """What a campaign does.

    `kind`: its `own` prompts through its own accounts; a `relay` of the live requests of its
    customers; a `replay` of recorded sessions, each continued at another account than it was begun
    at; or transcripts that were `bought`, without any account.
    """

    kind: Kind = Field(default="own", description="where its exchanges come from")
    customers: Some = Field(
        default=0, description="whose requests it passes on, or whose sessions it replays"
    )
    clientele: dict[str, float] | None = Field(
        default=None,
        description=(
            "segments of its customers, in proportion; none: those that its accounts sign up as, "
            "and an account of a relay carries its own segment's"
        ),
    )
    turns: float = Field(
        default=8.0, ge=2, le=10_000, description="mean exchanges of a session that is replayed"
    )
    continues: float = Field(
        default=30.0,
        ge=0,
        le=1440,
        description="mean minutes until a replayed session goes on at another account",
    )
    mix: Share = Field(default=1.0, description="share of the exchanges that are for the student")
    cover: Literal["pooled", "persona"] = Field(
        default="pooled",
        description="what the rest looks like: many customers at once, or one coherent customer",
    )
    targets: dict[str, float] = Field(
        default_factory=dict,
        description="capabilities wanted, in proportion; customers ask what they like",
    )
    narrow: int = Field(
        default=4, ge=1, le=1000, description="topics within a capability that it keeps to"
    )
    templates: Count = Field(
        default=1000, description="masked prompts that the wanted exchanges are cut from"
    )
    phrase: Share = Field(
        default=0.0, description="wanted exchanges that ask for reasoning or a rubric"
    )
    timing: Literal["spread", "bursts"] = Field(
        default="spread", description="by the clock, or all accounts at once"
    )
    bursts: int = Field(
        default=24,
        ge=1,
        le=1440,
        description="moments a day at which all accounts send, if in bursts",
    )
    pivot: Share = Field(
        default=0.0, description="share of traffic that follows a new model within a day"
    )
    tokens: tuple[float, float] = Field(
        default=(2000.0, 1500.0), description="mean in and out of wanted exchanges"
    )
    adapts: float = Field(
        default=1.0, gt=0, le=1, description="factor on its mix after each wave of bans"
    )
    renews: Share = Field(
        default=0.0, description="share of its templates rewritten after each wave"
    )
    wave: Share = Field(
        default=0.02, description="share of its accounts closed in a day that it reacts to"
    )
    probes: Some = Field(
        default=0,
        description="exchanges a day that ask what it knows the answer to, to notice worse ones",
    )
    probe_set: Some = Field(default=0, description="different ones that it has")
    probe_accounts: Count = Field(default=1, description="accounts that they are asked through")
    lawful: bool = Field(
        default=False, description="honest work that looks like a campaign: closing it is an error"
    )

    @model_validator(mode="after")
    def _check(self) -> Campaign:
        _check_kind(self)
        if not self.customers:
            _check_shares("targets", self.targets, CAPABILITIES)
        if self.clientele is not None:
            _check_shares("clientele", self.clientele, SEGMENTS)
        _check_shares("pathways", self.pathways, SEGMENTS)
        _check_peak(self)
        _check_bound(self)
        _check_probes(self)
        return self

    @model_serializer(mode="wrap")
    def _as_addressed(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if not _is_as_ever(self, name)}

    def planned(self, days: int) -> float:
        """Wanted exchanges expected within a horizon of so many days if nothing is closed or
        refused.

        Args:
            days: of the horizon, from day 0.
        """
        within = self.daily()[: max(0, days - self.start)]
        return float((within.sum() - self.probes * len(within)) * self.mix)


def _is_as_ever(campaign: Campaign, name: str) -> bool:
    """Whether a later setting is at its default."""
    value = getattr(campaign, name)
    return name in LATER and bool(value == Campaign.model_fields[name].default)


def _check_shares(field: str, shares: dict[str, float], allowed: Iterable[str]) -> None:
    """ValueError where shares are of things that do not exist, or not positive."""
    if wrong := sorted(set(shares) - set(allowed)):
        raise ValueError(f"{field}: got {', '.join(wrong)} (there are: {', '.join(allowed)})")
    if not shares or min(shares.values()) <= 0:
        raise ValueError(f"{field}: shares must be positive, got {shares}")


def _check_kind(campaign: Campaign) -> None:
    """ValueError where a kind lacks what it needs, or has what it makes nothing of."""
    kind = campaign.kind
    if kind == "bought" and campaign.accounts:
        raise ValueError(f"bought transcripts need no account, got accounts={campaign.accounts}")
    if kind != "bought" and not campaign.accounts:
        raise ValueError("accounts must be at least 1, got 0; only bought transcripts need none")
    if kind == "replay" and campaign.accounts < 2:
        raise ValueError("a replay goes on at another account, so it needs two; got accounts=1")
    if kind == "relay" and not campaign.customers:
        raise ValueError("a relay passes requests of customers on, got customers=0")
    if campaign.clientele is not None and not campaign.customers:
        raise ValueError("clientele is of customers, got customers=0")
    if 0 < campaign.customers < len(campaign.clientele or campaign.pathways):
        raise ValueError(f"each segment needs customers, got customers={campaign.customers}")
    if campaign.customers and campaign.targets:
        raise ValueError(f"customers ask what they like, got targets={campaign.targets}")
    unused = {*UNUSED[kind], *(WORDING if campaign.customers else ())}
    fields = Campaign.model_fields
    if idle := [n for n in fields if n in unused and getattr(campaign, n) != _default(n)]:
        of = f"{kind} of customers" if campaign.customers and kind != "relay" else kind
        raise ValueError(f"kind={of} makes nothing of {', '.join(idle)}; leave it out")


def _default(name: str) -> Any:
    return Campaign.model_fields[name].get_default(call_default_factory=True)


def _check_peak(campaign: Campaign) -> None:
    """ValueError where the busiest day is not the busiest, or no day of the campaign."""
    peak, days = campaign.busiest, campaign.days
    if campaign.busiest_day is not None and (peak is None or campaign.busiest_day >= days):
        raise ValueError(
            f"busiest_day must be one of {days} days that has a peak, got {campaign.busiest_day}"
        )
    if peak is None:
        return
    if peak > campaign.exchanges:
        raise ValueError(f"busiest={peak} a day is more than all {campaign.exchanges} exchanges")
    most = int(campaign.daily().max())
    if peak * days < campaign.exchanges or most > peak:
        mean = campaign.exchanges / days
        raise ValueError(
            f"busiest={peak} a day is below the mean of {mean:,.0f}, or below another day ({most})"
        )


def _check_bound(campaign: Campaign) -> None:
    """ValueError where accounts may not send what is planned."""
    if campaign.most is None:
        return
    accounts, days, most = campaign.accounts, campaign.days, campaign.most
    if campaign.exchanges > accounts * days * most:
        raise ValueError(
            f"{campaign.exchanges} exchanges are more than {accounts} accounts x {days} days x "
            f"most={most} a day"
        )
    busiest = int(campaign.daily().max())
    if busiest > accounts * most:
        raise ValueError(
            f"{busiest} exchanges on the busiest day are more than {accounts} accounts x "
            f"most={most}"
        )


def _check_probes(campaign: Campaign) -> None:
    """ValueError where probes ask nothing, or accounts do not send as many."""
    probes, through = campaign.probes, campaign.probe_accounts
    if bool(probes) != bool(campaign.probe_set):
        raise ValueError(
            f"probes need known questions, and these probes: got probes={probes} a day of "
            f"probe_set={campaign.probe_set}"
        )
    if not probes:
        return
    if through > campaign.accounts:
        raise ValueError(f"probe_accounts={through} are more than accounts={campaign.accounts}")
    each = int(campaign.daily().min()) // campaign.accounts
    if probes > through * each:
        raise ValueError(
            f"probes={probes} a day do not fit through {through} accounts (probe_accounts) that "
            f"send {each} each"
        )
