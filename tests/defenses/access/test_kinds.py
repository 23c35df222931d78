"""Detectors beside campaigns whose requests are customers': what sees them and what does not."""

import numpy as np
import pytest

from distill.campaigns import NEVER
from distill.campaigns.presets import preset, scaled
from distill.campaigns.settings import Campaign
from tests.defenses.access.horizons import DAYS, horizon

RATE = 1e-2
BLIND = {"content": 0.06, "phrase": 0.06, "mmd": 0.06, "pivot": 0.06, "cotiming": 0.15}
"""The most that each may find; who sends more meets others more often, so co-timing finds 4 % of a
hot relay (five seeds, 0 to 10 %)."""
# As cold as the ten days of gtg_16002, and as hot as gtg_16001.
COLD = {"exchanges": 150 * 6 * DAYS, "accounts": 150, "days": DAYS, "per_payment": 5}
HOT = {"exchanges": 100 * 173 * DAYS, "accounts": 100, "days": DAYS}
BOTH, AGENT = {"chat": 0.6, "agent": 0.4}, {"agent": 1.0}
CAMPAIGNS = {
    "cold relay": Campaign(kind="relay", customers=170, pathways=BOTH, **COLD),
    "hot relay": Campaign(kind="relay", customers=400, pathways=AGENT, **HOT),
    "replay": scaled(preset("gtg_16008", days=DAYS), 0.1),
    "cold prompts": Campaign(
        targets={"coding": 5, "reasoning": 5}, phrase=0.6, pathways=BOTH, **COLD
    ),
}


@pytest.fixture(scope="module")
def flagged(baseline, calibration):
    """By campaign and detector, the share of its accounts that are flagged."""
    limits = {name: calibration.threshold(name, RATE)[None] for name in calibration.sorted}
    shares = {}
    for name, campaign in CAMPAIGNS.items():
        run = horizon(baseline, [campaign], seed=40, thresholds=limits)
        rows = slice(run.out.first, run.out.accounts.count)
        shares[name] = {
            detector: float(np.mean(crossed[0, rows] < NEVER))
            for detector, crossed in run.watch.crossed.items()
        }
    return shares


@pytest.mark.parametrize("name", ["cold relay", "hot relay"])
@pytest.mark.parametrize("detector", BLIND)
def test_what_looks_at_single_requests_finds_a_relay_as_rarely_as_honest_accounts(
    flagged, name, detector
):
    """At 1 % of honest customers, of 100 and 150 accounts: about 1 expected, 6 % is far beyond."""
    assert flagged[name][detector] <= BLIND[detector]


def test_what_compares_accounts_finds_that_a_relay_pools_customers(flagged):
    assert flagged["cold relay"]["homogeneity"] > 0.8, "five accounts on a card, one router"
    assert flagged["hot relay"]["average"] > 0.8 and flagged["cold relay"]["average"] > 0.3
    assert flagged["hot relay"]["templates"] > 0.8, "a customer's own template at many accounts"
    assert flagged["cold relay"]["volume"] == 0


def test_the_same_detectors_see_prompts_of_the_same_accounts(flagged):
    assert min(flagged["cold prompts"][name] for name in ("content", "phrase", "templates")) > 0.3


def test_a_replay_of_customers_sessions_shows_pooling_alone(flagged):
    assert flagged["replay"]["average"] > 0.8
    assert max(flagged["replay"][name] for name in ("content", "mmd", "templates", "volume")) < 0.1
