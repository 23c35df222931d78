"""Preset arithmetic: totals, per account and per day, against the figures that were reported."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distill.campaigns import apportion
from distill.campaigns.operator import Operator, target_topics
from distill.campaigns.presets import PRESETS, preset, scaled
from distill.campaigns.reported import Preset, Reported
from distill.campaigns.settings import Campaign
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
    "gtg_16005",
    "gtg_16002",
    "gtg_16002_relay",
    "gtg_16001",
    "gtg_16006",
    "gtg_16008",
    "gtg_16012",
    "openai_july_2026",
    "gtig_media_2026",
)
SENDING = [name for name in ASKED if PRESETS[name].settings.accounts]


def test_the_presets_are_those_that_were_asked_for():
    assert tuple(PRESETS) == ASKED


@pytest.mark.parametrize(
    ("name", "exchanges", "accounts", "days", "per_account_day", "per_day"),
    [
        ("gtg_16005", 151_000_000, 3500, 92, 469, 1_641_304),
        ("gtg_16002_relay", 300_000, 5380, 10, 5.6, 30_000),
        ("gtg_16001", 12_100_000, None, 14, None, 864_286),
        ("gtg_16002", 23_000_000, None, 92, None, 250_000),
        ("gtg_16006", 3_400_000, 273, 17, 733, 200_000),
        ("gtg_16008", 400_000, 1500, 20, 13, 20_000),
        ("openai_july_2026", 16_000, 4000, 2, 2, 8000),
        ("gtig_media_2026", 100_000_000, None, None, None, None),
    ],
)
def test_what_autumn_2026_reports_is_simulated_to_the_exchange(
    name, exchanges, accounts, days, per_account_day, per_day
):
    """The rates are those that the reference works out of the reports; None is not stated."""
    campaign, reported = PRESETS[name].settings, PRESETS[name].reported
    assert campaign.exchanges == exchanges == campaign.daily().sum()
    for field, value in (("accounts", accounts), ("days", days)):
        assert (field in reported) == (value is not None)
        assert value is None or getattr(campaign, field) == value
    if per_account_day is not None:
        digits = 1 if isinstance(per_account_day, float) else 0
        assert round(campaign.per_account_day, digits) == per_account_day
    if per_day is not None:
        assert round(campaign.exchanges / campaign.days) == per_day


def test_a_reported_peak_is_reached_on_one_day_and_the_total_stays():
    campaign = preset("gtg_16005")
    days = campaign.daily()
    assert days.max() == days[46] == 3_000_000 and days.sum() == 151_000_000
    assert round(days.max() / campaign.accounts) == 857
    others = np.delete(days, 46)
    assert others.max() - others.min() <= 1 and others.max() == 1_626_374
    early = preset("gtg_16005", busiest_day=0, schedule="working").daily()
    assert early[0] == early.max() == 3_000_000 and early.sum() == 151_000_000
    assert preset("gtg_16005", days=1, exchanges=10, busiest=10).daily().tolist() == [10]
    for share in (1e-4, 0.013, 0.5):
        part = scaled(campaign, share)
        again = Campaign(**part.model_dump())  # which checks the sizes
        assert again == part and part.daily().max() == part.busiest
        assert -0.1 < part.busiest - 3_000_000 / 3500 * part.accounts < 1


def test_no_older_remark_says_that_only_one_campaign_has_a_duration():
    assert "before autumn 2026" in PRESETS["qwen_2026"].note
    dated = [name for name in ASKED if "days" in PRESETS[name].reported]
    assert len(dated) == 8 and "qwen_2026" in dated


def test_every_source_of_autumn_2026_is_marked_as_second_hand():
    for name in ASKED[9:]:
        assert PRESETS[name].reported
        for fact in PRESETS[name].reported.values():
            assert fact.source.endswith("(second-hand)")


class TestSources:
    @pytest.mark.parametrize("name", ASKED)
    def test_every_preset_has_one_or_says_that_it_is_ours(self, name):
        made = PRESETS[name]
        assert made.ours == (name in ("academic_benign_twin", "adaptive_best_response"))
        assert made.ours or all(fact.source.strip() for fact in made.reported.values())

    @pytest.mark.parametrize(
        ("reported", "ours", "message"),
        [
            ({}, False, "needs a source"),
            ({"days": Reported(14, "a letter")}, True, "needs a source"),
            ({"days": Reported(14, " ")}, False, "days=14 has no source"),
            ({"days": Reported(15, "a letter")}, False, "days is reported as 15, got 14"),
        ],
    )
    def test_without_one_it_cannot_be_declared(self, reported, ours, message):
        with pytest.raises(BadInput, match=message):
            Preset(preset("gtig_trace_coercion"), reported, "A campaign.", ours)


SMALL = {"exchanges": 100, "accounts": 10, "days": 5}
OWN = SMALL | {"targets": {"coding": 1}}
RELAY = SMALL | {"kind": "relay", "customers": 20}


class TestSizes:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (OWN | {"accounts": 0}, "accounts must be at least 1"),
            (OWN | {"busiest": 19}, "busiest=19 a day is below the mean of 20"),
            (OWN | {"busiest": 101}, "more than all 100 exchanges"),
            (OWN | {"busiest": 30, "busiest_day": 5}, "busiest_day must be one of 5 days"),
            (OWN | {"busiest_day": 2}, "busiest_day must be one of 5 days"),
            (OWN | {"days": 7, "busiest": 17, "schedule": "working"}, r"another day \(18\)"),
            (OWN | {"most": 1}, "100 exchanges are more than 10 accounts x 5 days x most=1"),
            (OWN | {"most": 2, "busiest": 40}, "40 exchanges on the busiest day are more than 10"),
            (OWN | {"customers": 3}, "customers ask what they like"),
            (OWN | {"clientele": {"chat": 1}}, "clientele is of customers"),
            (OWN | {"turns": 3}, "kind=own makes nothing of turns"),
            (RELAY | {"customers": 0}, "a relay passes requests of customers on"),
            (RELAY | {"targets": {"coding": 1}}, "customers ask what they like"),
            (RELAY | {"phrase": 0.5, "templates": 3}, "kind=relay makes nothing of .*phrase"),
            (RELAY | {"clientele": {"people": 1}}, "clientele: got people"),
            (RELAY | {"most": 20}, "kind=relay makes nothing of most"),
            (RELAY | {"customers": 1, "pathways": {"chat": 1, "api": 1}}, "each segment needs"),
            (OWN | {"kind": "replay", "accounts": 1}, "goes on at another account"),
            (OWN | {"kind": "replay", "most": 9}, "kind=replay makes nothing of most"),
            (RELAY | {"kind": "replay", "tokens": (1, 1)}, "replay of customers makes nothing of"),
            (OWN | {"kind": "bought"}, "bought transcripts need no account, got accounts=10"),
            (
                OWN | {"kind": "bought", "accounts": 0, "respawns": 1.0},
                "kind=bought makes nothing of respawns",
            ),
            (SMALL | {"kind": "bought", "accounts": 0}, "targets: shares must be positive"),
            (OWN | {"probes": 2}, "probes need known questions"),
            (OWN | {"probe_set": 2}, "probes need known questions"),
            (OWN | {"probes": 3, "probe_set": 2}, "probes=3 a day do not fit through 1 accounts"),
            (
                OWN | {"probes": 2, "probe_set": 2, "probe_accounts": 11},
                "probe_accounts=11 are more than accounts=10",
            ),
        ],
    )
    def test_what_contradicts_itself_is_refused(self, settings, message):
        with pytest.raises(ValidationError, match=message):
            Campaign(**settings)

    @pytest.mark.parametrize(
        "settings",
        [
            OWN | {"busiest": 20},
            OWN | {"most": 2},
            RELAY,
            RELAY | {"kind": "replay"},
            OWN | {"kind": "replay"},
            OWN | {"kind": "bought", "accounts": 0},
            OWN | {"probes": 2, "probe_set": 1},
        ],
    )
    def test_what_just_fits_is_not(self, settings):
        assert Campaign(**settings).daily().sum() == 100

    def test_later_settings_are_written_down_only_where_they_are_set(self):
        """An address of an earlier campaign is of what is written down."""
        before = set(Campaign(**OWN).model_dump())
        assert not before & {"kind", "busiest", "customers", "probes"} and "targets" in before
        assert set(Campaign(**RELAY).model_dump()) - before == {"kind", "customers"}
        assert Campaign(**Campaign(**RELAY).model_dump()) == Campaign(**RELAY)

    def test_probes_are_no_exchanges_for_the_student(self):
        probing = Campaign(**OWN, probes=2, probe_set=1, mix=0.5)
        assert probing.planned(5) == (100 - 5 * 2) * 0.5 and probing.planned(2) == (40 - 4) * 0.5


@pytest.mark.parametrize("router", ["round_robin", "random", "sticky"])
def test_no_account_sends_more_than_it_may(router):
    campaign = Campaign(
        exchanges=5000, accounts=50, days=4, most=26, router=router, targets={"coding": 1}
    )
    made = build_world(Population(accounts=200), 4, seed=1, room=50, campaigns=1)
    router = Operator(made, campaign, 0).router
    days = np.stack([router.route(day) for day in range(4)])
    assert days.max() <= 26 and (days.sum(axis=1) == 1250).all()


def test_the_rate_of_june_2026_is_right():
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
@pytest.mark.parametrize("name", SENDING)
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
        customers=campaign.customers,
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
