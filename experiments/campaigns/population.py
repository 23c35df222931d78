"""The honest population: who the customers are, what they share, what they like to ask, how much
and when.

Sources, by the mark after a number: [ServeGen] arXiv 2505.09999, client files; [NBER] paper 34255
(ChatGPT use); [WildChat] 1,039,785 conversations; [Copilot] Azure trace of June 2026, 301,026
agentic sessions; [assumed] by us, to be swept. Real accounts differ from one another far more than
draws from pooled traffic do; `concentration` says by how much, and what detectors reach depends on
it more than on anything else here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from distill.campaigns import SEGMENTS, FrozenSettings, apportion

Questions = Annotated[int, Field(ge=1, le=10_000)]


class Segment(FrozenSettings):
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
    plans: tuple[float, float, float, float] = Field(
        description="accounts on each plan, in proportion; who uses more pays more"
    )
    addresses: float = Field(
        ge=1, le=10_000, description="that the median customer's accounts send from"
    )
    clients: float = Field(ge=1, le=1000, description="kinds of client, the same")
    steady: float = Field(
        ge=0, le=1, description="share of customers that are machines around the clock"
    )
    cron: float = Field(
        ge=0, le=1, description="the same, that are jobs which start at an hour of the day"
    )
    suites: float = Field(
        ge=0, le=1, description="share of customers that ask the questions of a test suite nightly"
    )

    @model_validator(mode="after")
    def _check_shares(self) -> Segment:
        if min(self.plans) < 0 or not sum(self.plans):
            raise ValueError(f"plans must be shares, some above 0, got {self.plans}")
        if self.steady + self.cron > 1:
            raise ValueError(
                f"steady and cron are {self.steady + self.cron:g} of customers together"
            )
        return self


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

# share, phrase, public, private, templates, adopts, group, alike, peak (chat), weekend, and all
# from plans to suites: assumed throughout.
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
        plans=(85, 12, 3, 0),
        addresses=3,
        clients=2,
        steady=0,
        cron=0,
        suites=0,
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
        plans=(10, 50, 35, 5),
        addresses=2,
        clients=2,
        steady=0.05,
        cron=0.03,
        suites=0.02,
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
        plans=(30, 35, 25, 10),
        addresses=1.5,
        clients=1.2,
        steady=0.25,
        cron=0.15,
        suites=0.1,
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
        plans=(0, 20, 50, 30),
        addresses=20,
        clients=6,
        steady=0.03,
        cron=0.05,
        suites=0.05,
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
        plans=(10, 30, 40, 20),
        addresses=2,
        clients=2,
        steady=0.3,
        cron=0.1,
        suites=0.1,
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
        plans=(0, 0, 30, 70),
        addresses=40,
        clients=10,
        steady=0,
        cron=0,
        suites=0,
    ),
}


class Population(FrozenSettings):
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
    ramp: float | None = Field(
        default=7.0,
        gt=0,
        le=3650,
        description="days in which a new account comes to 63 % of its rate; none: at once",
    )
    fit: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="correlation of what an account pays for with its log rate",
    )
    spread: float = Field(
        default=1.0, ge=0, le=5, description="sd of the log of a customer's addresses"
    )
    exits: float = Field(
        default=5.0, ge=1, le=1000, description="times as many addresses behind a VPN"
    )
    suite: float = Field(
        default=0.3, ge=0, le=1, description="exchanges of a nightly suite, where there is one"
    )
    questions: tuple[Questions, Questions] = Field(
        default=(20, 200), description="of a nightly suite, fewest and most"
    )
    segments: dict[str, Segment] = HONEST_SEGMENTS

    @model_validator(mode="after")
    def _check_questions(self) -> Population:
        if self.questions[0] > self.questions[1]:
            raise ValueError(f"questions must go from few to many, got {self.questions}")
        return self

    def sizes(self) -> dict[str, int]:
        """Accounts of each segment; they add up."""
        shares = np.array([self.segments[name].share for name in SEGMENTS])
        return dict(zip(SEGMENTS, apportion(self.accounts, shares).tolist(), strict=True))


def expected_share(
    honest: Population, traffic: Mapping[str, float], capabilities: Collection[str]
) -> float:
    """Of what honest customers ask, the share that is of some capabilities.

    Args:
        honest: how customers of each segment ask.
        traffic: exchanges by segment, in proportion.
        capabilities: names.

    Returns:
        0 to 1.
    """
    useful = 0.0
    for name, sent in traffic.items():
        mix = honest.segments[name].mix
        wanted = sum(weight for kind, weight in mix.items() if kind in capabilities)
        useful += sent * wanted / sum(mix.values())
    return useful / sum(traffic.values())


def expected_traffic(honest: Population, clientele: Mapping[str, float]) -> dict[str, float]:
    """Exchanges a day that customers send on average, by segment.

    Args:
        honest: how much customers of each segment send, lognormal.
        clientele: customers by segment, in proportion.
    """
    return {
        name: share * honest.segments[name].median * math.exp(honest.segments[name].sigma ** 2 / 2)
        for name, share in clientele.items()
    }
