"""Presets: campaigns shaped by what was reported, completed by what we assume. They are not
reconstructions.

Every company figure is an allegation by the party that says it was harmed, without methods or error
rates, and "exchange" is defined nowhere. `reported` holds what a source states and where; whatever
a preset's `settings` say beyond that is assumed by us, and `assumed` lists those fields by name, so
that the two cannot be confused.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import ValidationError

from distill.campaigns import apportion
from distill.campaigns.autumn_2026 import AUTUMN_2026
from distill.campaigns.reported import Preset, Reported
from distill.campaigns.settings import Campaign
from distill.completions import BadInput

FEB = "Anthropic, Detecting and preventing distillation attacks, 23 Feb 2026"
LETTER = (
    "Anthropic's letter of 10 June 2026 as reported by the press from 24 June; disputed by Alibaba"
)
GTIG = "Google GTIG AI Threat Tracker, 12 Feb 2026, as reported by the press"
MEMO = "OpenAI's memo to the House Select Committee, 12 Feb 2026, as reproduced by the press"

PRESETS: dict[str, Preset] = {
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
        "The only campaign reported before autumn 2026 with its days, exchanges and accounts, so "
        "that a rate follows.",
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
        ours=True,
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
        ours=True,
    ),
} | AUTUMN_2026


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
    account; of its peak and its customers as well.

    Args:
        campaign: as it was reported.
        share: above 0; at least one account is left, two of a replay.
    """
    if campaign.accounts:
        accounts = max(2 if campaign.kind == "replay" else 1, round(campaign.accounts * share))
        exchanges = round(campaign.per_account * accounts)
    else:
        accounts, exchanges = 0, max(1, round(campaign.exchanges * share))
    changes: dict[str, Any] = {"accounts": accounts, "exchanges": exchanges}
    if campaign.customers:
        fewest = len(campaign.clientele or campaign.pathways)
        changes["customers"] = max(fewest, round(campaign.customers * share))
    if campaign.busiest is not None:
        # Up to the next exchange: no peak is then below the mean.
        changes["busiest"] = min(-(-campaign.busiest * exchanges // campaign.exchanges), exchanges)
    if campaign.probes:
        changes["probe_accounts"] = min(campaign.probe_accounts, accounts)
    return campaign.model_copy(update=changes)


def apart(campaign: Campaign, shards: int) -> list[Campaign]:
    """The same campaign in so many parts whose accounts, exchanges, busiest days, customers and
    probes add up to its own.

    All else follows the accounts, so that each sends as much as ever. Accounts that share a card or
    an address stay in one part, and all that probe in the first, since they ask the same.

    Args:
        campaign: as it is to be simulated.
        shards: how many parts; one is the campaign itself.

    Raises:
        BadInput: it has too little of something to be cut so finely, or a part contradicts itself.
    """
    if shards == 1:
        return [campaign]
    accounts = _accounts_apart(campaign, shards)
    weights = accounts if campaign.accounts else np.ones(shards)
    few = len(campaign.clientele or campaign.pathways)
    cut = {"accounts": accounts}
    for name, least in (("exchanges", 1), ("busiest", 1), ("customers", few)):
        if total := getattr(campaign, name):
            cut[name] = apportion(total, weights)
            if cut[name].min() < least:
                raise BadInput(f"{name}={total} are too few for {shards} shards")
    silent = {"probes": 0, "probe_set": 0, "probe_accounts": 1}
    parts = [{name: int(share[n]) for name, share in cut.items()} for n in range(shards)]
    parts = [parts[0], *(part | silent for part in parts[1:])]
    try:
        return [Campaign(**(campaign.model_dump() | part)) for part in parts]
    except ValidationError as error:
        fault = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInput(f"cannot be cut into {shards} shards, as in one {fault}") from None


def _accounts_apart(campaign: Campaign, shards: int) -> np.ndarray:
    """Accounts of each part `[shards]`, cut where no card and no address is shared."""
    together = math.lcm(campaign.per_payment, campaign.per_network)
    groups = -(-campaign.accounts // together)
    accounts = apportion(groups, np.ones(shards)) * together
    accounts[-1] -= groups * together - campaign.accounts
    least = 2 if campaign.kind == "replay" else 1
    if campaign.accounts and accounts.min() < least:
        shared = f" that share cards or addresses by {together}" if together > 1 else ""
        raise BadInput(f"accounts={campaign.accounts}{shared} are too few for {shards} shards")
    return accounts
