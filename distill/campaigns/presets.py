"""Presets: campaigns shaped by what was reported, completed by what we assume. They are not
reconstructions.

Every company figure is an allegation by the party that says it was harmed, without methods or error
rates, and "exchange" is defined nowhere. `reported` holds what a source states and where; whatever
a preset's `settings` say beyond that is assumed by us, and `assumed` lists those fields by name, so
that the two cannot be confused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from distill.campaigns import CAPABILITIES, SEGMENTS, apportion
from distill.campaigns.footprint import Footprint
from distill.completions import BadInput


class Reported(NamedTuple):
    """A figure as a source gives it; `value` may be a bound or words."""

    value: Any
    source: str


Share = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[int, Field(ge=0, le=3650)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]


class Campaign(Footprint):
    """What a campaign does. An exchange is one model call."""

    exchanges: int = Field(
        gt=0,
        le=100_000_000_000,
        description="of all its accounts over all its days, cover included",
    )
    accounts: int = Field(gt=0, le=10_000_000, description="open at the same time")
    days: int = Field(gt=0, le=3650)
    start: Days = Field(default=0, description="day of the horizon on which it begins")
    mix: Share = Field(default=1.0, description="share of the exchanges that are for the student")
    cover: Literal["pooled", "persona"] = Field(
        default="pooled",
        description="what the rest looks like: many customers at once, or one coherent customer",
    )
    targets: dict[str, float] = Field(description="capabilities wanted, in proportion")
    narrow: int = Field(
        default=4, ge=1, le=1000, description="topics within a capability that it keeps to"
    )
    templates: Count = Field(
        default=1000, description="masked prompts that the wanted exchanges are cut from"
    )
    phrase: Share = Field(
        default=0.0, description="wanted exchanges that ask for reasoning or a rubric"
    )
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
    timing: Literal["spread", "bursts"] = Field(
        default="spread", description="by the clock, or all accounts at once"
    )
    bursts: int = Field(
        default=24,
        ge=1,
        le=1440,
        description="moments a day at which all accounts send, if in bursts",
    )
    schedule: Literal["flat", "working"] = Field(
        default="flat", description="every day alike, or weekends at a third"
    )
    pivot: Share = Field(
        default=0.0, description="share of traffic that follows a new model within a day"
    )
    tokens: tuple[float, float] = Field(
        default=(2000.0, 1500.0), description="mean in and out of wanted exchanges"
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
    adapts: float = Field(
        default=1.0, gt=0, le=1, description="factor on its mix after each wave of bans"
    )
    renews: Share = Field(
        default=0.0, description="share of its templates rewritten after each wave"
    )
    wave: Share = Field(
        default=0.02, description="share of its accounts closed in a day that it reacts to"
    )
    passes: Share = Field(
        default=0.05, description="its accounts that get through an identity check"
    )
    lawful: bool = Field(
        default=False, description="honest work that looks like a campaign: closing it is an error"
    )

    @model_validator(mode="after")
    def _name_what_exists(self) -> Campaign:
        _check_shares("targets", self.targets, CAPABILITIES)
        _check_shares("pathways", self.pathways, SEGMENTS)
        return self

    @property
    def per_account(self) -> float:
        """Exchanges of an account over the campaign."""
        return self.exchanges / self.accounts

    @property
    def per_account_day(self) -> float:
        """Exchanges of an account on a day of the campaign."""
        return self.per_account / self.days

    def daily(self) -> np.ndarray:
        """Exchanges planned for each of its days `[days]`; they add up exactly."""
        weekday = (self.start + np.arange(self.days)) % 7
        return apportion(
            self.exchanges, np.where((weekday >= 5) & (self.schedule == "working"), 1 / 3, 1.0)
        )

    def planned(self, days: int) -> float:
        """Wanted exchanges expected within a horizon of so many days if nothing is closed or
        refused.

        Args:
            days: of the horizon, from day 0.
        """
        return float(self.daily()[: max(0, days - self.start)].sum() * self.mix)


def _check_shares(field: str, shares: dict[str, float], allowed: Iterable[str]) -> None:
    """ValueError where shares are of things that do not exist, or not positive."""
    if wrong := sorted(set(shares) - set(allowed)):
        raise ValueError(f"{field}: got {', '.join(wrong)} (there are: {', '.join(allowed)})")
    if not shares or min(shares.values()) <= 0:
        raise ValueError(f"{field}: shares must be positive, got {shares}")


class Preset(NamedTuple):
    """A campaign with its sources; reported under a name that is no setting: what we do not
    simulate.
    """

    settings: Campaign
    reported: dict[str, Reported]
    note: str

    @property
    def assumed(self) -> tuple[str, ...]:
        """The settings that no source states."""
        return tuple(name for name in Campaign.model_fields if name not in self.reported)


FEB = "Anthropic, Detecting and preventing distillation attacks, 23 Feb 2026"
LETTER = (
    "Anthropic's letter of 10 June 2026 as reported by the press from 24 June; disputed by Alibaba"
)
GTIG = "Google GTIG AI Threat Tracker, 12 Feb 2026, as reported by the press"
MEMO = "OpenAI's memo to the House Select Committee, 12 Feb 2026, as reproduced by the press"

PRESETS = {
    "deepseek_2026": Preset(
        Campaign(
            exchanges=150_000,
            accounts=100,
            days=30,
            mix=0.9,
            targets={"reasoning": 6, "grading": 3, "guidance": 1},
            templates=200,
            phrase=0.6,
            pathways={"api": 0.7, "research": 0.3},
            per_payment=20,
            per_network=20,
            timing="bursts",
            tokens=(500, 6000),
            respawns=1.0,
            reuse=0.2,
        ),
        {
            "exchanges": Reported("more than 150,000", FEB),
            "targets": Reported(
                "reasoning, rubric-based grading, rewrites of politically sensitive questions", FEB
            ),
            "timing": Reported("synchronised across accounts", FEB),
        },
        "Few accounts, loud: synchronised, on shared payment methods (how many on each is not "
        "said).",
    ),
    "moonshot_2026": Preset(
        Campaign(
            exchanges=3_400_000,
            accounts=600,
            days=60,
            mix=0.8,
            targets={"agentic": 4, "coding": 3, "analysis": 2, "vision": 1},
            templates=5000,
            phrase=0.2,
            pathways={"api": 0.5, "agent": 0.2, "chat": 0.1, "organisation": 0.1, "research": 0.1},
            per_payment=5,
            per_network=5,
            router="sticky",
            tokens=(2000, 1500),
            respawns=1.0,
        ),
        {
            "exchanges": Reported("more than 3.4 million", FEB),
            "accounts": Reported("hundreds", FEB),
            "targets": Reported(
                "agentic reasoning and tool use, coding, data analysis, computer use, vision", FEB
            ),
            "pathways": Reported("several access pathways; shares not said", FEB),
        },
        "Few and hot: each account's volume shows.",
    ),
    "minimax_2026": Preset(
        Campaign(
            exchanges=13_000_000,
            accounts=23_000,
            days=90,
            mix=0.5,
            targets={"agentic": 6, "coding": 4},
            templates=20_000,
            pathways={"api": 0.8, "agent": 0.2},
            per_payment=10,
            per_network=10,
            pivot=0.5,
            respawns=1.0,
        ),
        {
            "exchanges": Reported("more than 13 million", FEB),
            "targets": Reported("agentic coding, tool use and orchestration", FEB),
            "pivot": Reported("nearly half of the traffic within 24 hours of a release", FEB),
        },
        "Many and cold; accounts inferred: 24,000 of three campaigns, less hundreds for each of "
        "the other two.",
    ),
    "qwen_2026": Preset(
        Campaign(
            exchanges=28_800_000,
            accounts=25_000,
            days=44,
            mix=0.5,
            targets={"coding": 5, "agentic": 5},
            templates=20_000,
            pathways={"api": 0.8, "agent": 0.2},
            per_payment=5,
            per_network=5,
            respawns=1.0,
        ),
        {
            "exchanges": Reported(28_800_000, LETTER),
            "accounts": Reported("about 25,000", LETTER),
            "days": Reported("22 April to 5 June 2026: 44 days between them", LETTER),
            "targets": Reported("software engineering and agentic reasoning", LETTER),
        },
        "The only campaign with a stated duration, so the only one from which a rate follows.",
    ),
    "hydra_reseller": Preset(
        Campaign(
            exchanges=12_000_000,
            accounts=20_000,
            days=90,
            mix=0.2,
            targets={"coding": 4, "agentic": 3, "reasoning": 3},
            templates=5000,
            pathways={"api": 0.9, "agent": 0.1},
            per_payment=5,
            per_network=5,
            respawns=2.0,
        ),
        {
            "accounts": Reported("more than 20,000 at once, in one proxy network", FEB),
            "cover": Reported("mixed with unrelated customers' requests", FEB),
        },
        "A proxy network for which distillation is one customer among many: cover is revenue, "
        "not cost.",
    ),
    "gtig_trace_coercion": Preset(
        Campaign(
            exchanges=100_000,
            accounts=50,
            days=14,
            targets={"reasoning": 10},
            narrow=12,
            templates=50,
            phrase=0.95,
            tokens=(500, 6000),
        ),
        {
            "exchanges": Reported("more than 100,000", GTIG),
            "targets": Reported("internal reasoning traces, in many languages and tasks", GTIG),
        },
        "Makes the model write its reasoning out; detected while it ran, as reported.",
    ),
    "openai_routers": Preset(
        Campaign(
            exchanges=1_000_000,
            accounts=50,
            days=60,
            mix=0.3,
            targets={"reasoning": 4, "coding": 4, "analysis": 2},
            templates=2000,
            pathways={"chat": 0.4, "api": 0.6},
            schedule="working",
            tokens=(500, 1500),
        ),
        {"access": Reported("third-party routers that hide the source; programmatic", MEMO)},
        "No volumes or account counts were given; the routers that were reported hide addresses, "
        "not load.",
    ),
    "academic_benign_twin": Preset(
        Campaign(
            exchanges=150_000,
            accounts=1,
            days=14,
            targets={"reasoning": 5, "grading": 5},
            narrow=6,
            templates=10,
            phrase=0.5,
            pathways={"research": 1.0},
            tokens=(500, 2000),
            passes=1.0,
            lawful=True,
        ),
        {},
        "An evaluation by one research group, as large as deepseek_2026. Must not be closed.",
    ),
    "adaptive_best_response": Preset(
        Campaign(
            exchanges=5_000_000,
            accounts=10_000,
            days=44,
            mix=0.2,
            cover="persona",
            targets={"coding": 4, "reasoning": 3, "agentic": 3},
            narrow=12,
            templates=100_000,
            pathways={"api": 0.4, "agent": 0.4, "chat": 0.2},
            router="sticky",
            schedule="working",
            warm_up=7,
            respawns=2.0,
            adapts=0.5,
            renews=1.0,
        ),
        {},
        "Knows the detectors: one coherent customer's cover, nothing shared; a ban makes it mix "
        "less and rewrite.",
    ),
}


def preset(name: str, **changes: Any) -> Campaign:
    """A preset's settings, some of them changed.

    Args:
        name: of the preset.
        changes: other settings, by field.

    Raises:
        BadInput: there is no such preset.
    """
    if name not in PRESETS:
        raise BadInput(f"campaign: no preset {name!r} (there are: {', '.join(PRESETS)})")
    return Campaign(**(PRESETS[name].settings.model_dump() | changes))


def scaled(campaign: Campaign, share: float) -> Campaign:
    """The same campaign with this share of its accounts and exchanges, so the same rate for each
    account.

    Args:
        campaign: as it was reported.
        share: above 0; at least one account is left.
    """
    accounts = max(1, round(campaign.accounts * share))
    return campaign.model_copy(
        update={"accounts": accounts, "exchanges": round(campaign.per_account * accounts)}
    )
