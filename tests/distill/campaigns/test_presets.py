"""Preset arithmetic: totals, per account and per day, against the figures that were reported."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distill.campaigns import apportion
from distill.campaigns.operator import Operator, target_topics
from distill.campaigns.presets import PRESETS, Campaign, preset, scaled
from distill.completions import BadInput
from experiments.campaigns.population import Population
from experiments.campaigns.world import build_world

ASKED = (
    "deepseek_2026",
    "moonshot_2026",
    "minimax_2026",
    "qwen_2026",
    "hydra_reseller",
    "gtig_trace_coercion",
    "openai_routers",
    "academic_benign_twin",
    "adaptive_best_response",
)


def test_the_presets_are_those_that_were_asked_for():
    assert tuple(PRESETS) == ASKED


def test_the_only_reported_rate_is_right():
    campaign = preset("qwen_2026")
    assert campaign.per_account == 1152 and round(campaign.per_account_day, 1) == 26.2
    assert round(campaign.exchanges / campaign.days) == 654_545


@pytest.mark.parametrize(
    ("names", "exchanges", "accounts"),
    [
        (("deepseek_2026", "moonshot_2026", "minimax_2026"), 16_000_000, 24_000),
    ],
)
def test_the_three_of_february_add_up(names, exchanges, accounts):
    """More than 16 million and about 24,000 were reported together; within 4 % and 2 %."""
    campaigns = [preset(name) for name in names]
    assert abs(sum(one.exchanges for one in campaigns) / exchanges - 1) < 0.04
    assert abs(sum(one.accounts for one in campaigns) / accounts - 1) < 0.02


@pytest.mark.parametrize("name", ASKED)
def test_what_is_reported_and_what_is_assumed_are_apart_and_sourced(name):
    campaign = PRESETS[name]
    assert not set(campaign.reported) & set(campaign.assumed) and len(campaign.note) > 20
    assert set(Campaign.model_fields) <= set(campaign.reported) | set(campaign.assumed)
    for key, fact in campaign.reported.items():
        assert fact.source and (
            not isinstance(fact.value, int) or fact.value == getattr(campaign.settings, key)
        )


@pytest.mark.parametrize("router", ["round_robin", "random", "sticky"])
@pytest.mark.parametrize("name", ASKED)
def test_routing_adds_up_exactly(name, router):
    campaign = preset(name, router=router)
    if campaign.accounts > 1000:
        campaign = scaled(campaign, 1000 / campaign.accounts)
    made = build_world(
        Population(accounts=200),
        campaign.start + campaign.days,
        seed=3,
        room=campaign.accounts,
        campaigns=1,
    )
    operator = Operator(made, campaign, 0)
    days = np.stack([operator.router.route(day) for day in range(campaign.start + campaign.days)])
    assert days.sum() == campaign.exchanges
    assert (days.sum(axis=1)[campaign.start :] == campaign.daily()).all()
    if router == "round_robin":
        assert np.ptp(days.sum(axis=0)) <= 1 and np.ptp(days, axis=1).max() <= 1


def test_a_closed_account_is_replaced_after_the_delay_and_within_the_budget():
    campaign = preset("gtig_trace_coercion", respawns=0.1, respawn_days=2, reuse=1.0)
    made = build_world(Population(accounts=200), campaign.days, seed=0, room=60, campaigns=1)
    operator = Operator(made, campaign, 0)
    gone = operator.slots.account[:8].copy()
    operator.on_closed(3, gone)
    assert len(operator.sign_up(4)) == 0
    new = operator.sign_up(5)
    assert len(new) == 5 and (made.accounts.created[new] == 5).all()
    assert (made.accounts.payment[new] == made.accounts.payment[gone[:5]]).all()
    assert len(operator.sign_up(6)) == 0, "five replacements were all it could pay for"
    assert np.isin(operator.slots.account, gone).sum() == 3


def test_after_a_ban_wave_a_campaign_mixes_less_and_rewrites_templates():
    campaign = preset("gtig_trace_coercion", adapts=0.5, renews=0.4, wave=0.04)
    operator = Operator(
        build_world(Population(accounts=200), campaign.days, seed=0, room=60, campaigns=1),
        campaign,
        0,
    )
    before = operator.templates.copy()
    operator.on_closed(1, np.array([3]))
    assert operator.mix == 1 and (operator.templates == before).all(), "none of its own"
    operator.on_closed(1, operator.slots.account[:1])
    assert operator.mix == 1 and (operator.templates == before).all(), "one account is no wave"
    operator.on_closed(2, operator.slots.account[1:3])
    assert operator.mix == 0.5 and np.isin(operator.templates, before).sum() == 30
    assert len(np.unique(operator.templates)) == 50


def test_targets_are_topics_of_the_wanted_capabilities_alone():
    shares = target_topics(preset("qwen_2026"))
    assert abs(shares.sum() - 1) < 1e-12 and (shares > 0).sum() == 8


@given(st.integers(0, 10**9), st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50))
def test_apportioned_numbers_add_up_and_stay_within_one_of_their_share(total, weights):
    parts = apportion(total, np.array(weights))
    assert parts.sum() == total
    assert (np.abs(parts - total * np.array(weights) / np.sum(weights)) < 1 + 1e-6 * total).all()


def test_scaling_keeps_the_rate():
    campaign = scaled(preset("qwen_2026"), 0.01)
    assert campaign.accounts == 250 and campaign.per_account == 1152


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="no preset 'qwen'.*qwen_2026"):
        preset("qwen")
    with pytest.raises(ValidationError, match="targets: got codding"):
        preset("qwen_2026", targets={"codding": 1.0})
    with pytest.raises(ValidationError):
        preset("qwen_2026", mix=1.5)
