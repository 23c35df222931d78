"""Presets of the campaigns that were described in September 2026.

Every source is read second-hand: the reports themselves were not at hand, their figures are as
other texts repeat them. All are allegations by the parties that say they were harmed; no figure was
audited.
"""

from __future__ import annotations

from distill.campaigns.reported import Preset, Reported
from distill.campaigns.settings import Campaign

SEPTEMBER = (
    "Anthropic, Detecting and countering misuse of AI: September 2026, 10 Sep 2026 (second-hand)"
)
OPENAI = "OpenAI's report of 30 Sep 2026 (second-hand)"
GTIG_AUTUMN = "Google GTIG, Sep 2026 (second-hand)"
SUMMER = "May to July 2026: 92 days"

AUTUMN_2026: dict[str, Preset] = {
    "gtg_16005": Preset(
        Campaign(
            exchanges=151_000_000,
            accounts=3500,
            days=92,
            busiest=3_000_000,
            targets={"reasoning": 5, "coding": 3, "agentic": 2},
            templates=1,
            phrase=1.0,
            pathways={"api": 0.8, "agent": 0.2},
            tokens=(2000.0, 3000.0),
            respawns=1.0,
        ),
        {
            "exchanges": Reported(151_000_000, SEPTEMBER),
            "days": Reported(SUMMER, SEPTEMBER),
            "busiest": Reported(
                "about 3 million on its busiest day; which day is not said", SEPTEMBER
            ),
            "accounts": Reported("more than 3,500; a first pool of nearly 5,000", SEPTEMBER),
            "templates": Reported("one fixed prompt", SEPTEMBER),
            "phrase": Reported("the prompt makes the model reason in its answer", SEPTEMBER),
            "per_network": Reported("residential proxies", SEPTEMBER),
            "per_payment": Reported("virtual cards", SEPTEMBER),
            "mail": Reported("disposable addresses", SEPTEMBER),
        },
        "Said to be affiliated with Alibaba. Hot accounts that share nothing but their prompt.",
    ),
    "gtg_16002": Preset(
        Campaign(
            kind="relay",
            exchanges=23_000_000,
            accounts=45_000,
            days=92,
            customers=50_000,
            pathways={"chat": 0.6, "agent": 0.4},
            per_payment=5,
            respawns=1.0,
        ),
        {
            "kind": Reported("relay of its own customers' live requests", SEPTEMBER),
            "exchanges": Reported(23_000_000, SEPTEMBER),
            "days": Reported(SUMMER, SEPTEMBER),
            "replay": Reported("signatures of reasoning, replayed in other sessions", SEPTEMBER),
        },
        "Said to be Moonshot's, as a whole. Accounts are not stated: as many as send what those of "
        "gtg_16002_relay do.",
    ),
    "gtg_16002_relay": Preset(
        Campaign(
            kind="relay",
            exchanges=300_000,
            accounts=5380,
            days=10,
            customers=6000,
            pathways={"chat": 0.6, "agent": 0.4},
            per_payment=5,
            respawns=1.0,
        ),
        {
            "kind": Reported("relay of its own customers' live requests", SEPTEMBER),
            "exchanges": Reported("about 300,000", SEPTEMBER),
            "accounts": Reported(5380, SEPTEMBER),
            "days": Reported(10, SEPTEMBER),
        },
        "The ten days of gtg_16002 for which accounts are stated: an account sends less than in "
        "any campaign reported before.",
    ),
    "gtg_16001": Preset(
        Campaign(
            kind="relay",
            exchanges=12_100_000,
            accounts=5000,
            days=14,
            customers=20_000,
            pathways={"agent": 1},
            respawns=1.0,
        ),
        {
            "kind": Reported("relay", SEPTEMBER),
            "exchanges": Reported(12_100_000, SEPTEMBER),
            "days": Reported("14 days of July 2026", SEPTEMBER),
            "pathways": Reported("picked users of agent harnesses", SEPTEMBER),
            "replay": Reported("sessions replayed", SEPTEMBER),
        },
        "Said to be DeepSeek's. Accounts and customers are not stated.",
    ),
    "gtg_16006": Preset(
        Campaign(
            exchanges=3_400_000,
            accounts=273,
            days=17,
            targets={"reasoning": 6, "coding": 4},
            templates=200,
            phrase=0.95,
            tokens=(1000.0, 5000.0),
            respawns=1.0,
        ),
        {
            "exchanges": Reported("3.4 million", SEPTEMBER),
            "accounts": Reported(273, SEPTEMBER),
            "days": Reported("17 days of June and July 2026", SEPTEMBER),
            "rotation": Reported("rotating accounts; how many at once is not said", SEPTEMBER),
            "phrase": Reported("extraction of reasoning traces", SEPTEMBER),
            "cleaning": Reported("the model cleaned its own traces afterwards", SEPTEMBER),
        },
        "Said to be Z.ai's. Simulated with all accounts open at once, so each is as cold as it "
        "could have been.",
    ),
    "gtg_16008": Preset(
        Campaign(
            kind="replay",
            exchanges=400_000,
            accounts=1500,
            days=20,
            customers=2000,
            pathways={"agent": 1},
            respawns=0.5,
        ),
        {
            "kind": Reported("offline replay of sessions of its own users", SEPTEMBER),
            "exchanges": Reported("more than 400,000", SEPTEMBER),
            "accounts": Reported("more than 1,500", SEPTEMBER),
            "days": Reported("20 days of March and April 2026", SEPTEMBER),
            "pathways": Reported("through coding harnesses", SEPTEMBER),
        },
        "Said to be Xiaomi's. How many users' sessions were replayed is not stated.",
    ),
    "gtg_16012": Preset(
        Campaign(
            kind="bought",
            exchanges=1_000_000,
            accounts=0,
            days=60,
            mix=0.5,
            targets={"reasoning": 4, "coding": 4, "agentic": 2},
        ),
        {
            "kind": Reported("transcripts bought of resellers", SEPTEMBER),
            "accounts": Reported(0, SEPTEMBER),
        },
        "Said to be SenseTime's. Nothing of its size is stated.",
    ),
    "openai_july_2026": Preset(
        Campaign(
            kind="replay",
            exchanges=16_000,
            accounts=4000,
            days=2,
            targets={"reasoning": 10},
            narrow=12,
            phrase=0.95,
            pathways={"chat": 1.0},
            turns=2.0,
        ),
        {
            "kind": Reported("replay across users, which was closed", OPENAI),
            "exchanges": Reported(16_000, OPENAI),
            "accounts": Reported("more than 4,000 users on these two days", OPENAI),
            "days": Reported("24 and 25 July 2026", OPENAI),
            "phrase": Reported("requests that extract reasoning", OPENAI),
            "cluster": Reported("more than 15,000 users from 1 July, cut by 28 July", OPENAI),
        },
        "The two days for which requests are stated: 2 a user and day. The cluster's other users "
        "sent an unknown number.",
    ),
    "gtig_media_2026": Preset(
        Campaign(
            exchanges=100_000_000,
            accounts=20_000,
            days=90,
            targets={"vision": 10},
            narrow=6,
            templates=20_000,
            respawns=1.0,
        ),
        {
            "exchanges": Reported("campaigns of more than 100 million prompts", GTIG_AUTUMN),
            "targets": Reported("vision, audio, image and video", GTIG_AUTUMN),
        },
        "Of sound, image and video nothing is simulated: all is vision. Accounts and days are not "
        "stated.",
    ),
}
