"""A campaign in parts: whatever is cut adds up exactly, and what cannot be cut is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.campaigns.presets import PRESETS, apart, preset
from distill.campaigns.settings import Campaign
from distill.completions import BadInput

SUMS = ("accounts", "exchanges", "customers", "probes")
UNCUT = {"academic_benign_twin": 1, "deepseek_2026": 5}  # shards at most: accounts, or cards
SHARDS = (1, 2, 3, 7)


def check_parts(campaign, parts):
    """Sums are the campaign's, each part is one that settings allow, and accounts send as much."""
    for name in SUMS:
        assert sum(getattr(part, name) for part in parts) == getattr(campaign, name), name
    if campaign.busiest is not None:
        assert sum(part.busiest for part in parts) == campaign.busiest
    probing = [part for part in parts if part.probes]
    assert sum(part.probe_accounts for part in probing) == (
        campaign.probe_accounts if campaign.probes else 0
    )
    cut = {*SUMS, "busiest", "probe_set", "probe_accounts"}
    for part in parts:
        assert Campaign(**part.model_dump()) == part, "it is checked again"
        assert part.model_dump(exclude=cut) == campaign.model_dump(exclude=cut)
        assert abs(part.exchanges - campaign.per_account * part.accounts) <= 1 or not part.accounts
    assert sum(part.daily().sum() for part in parts) == campaign.exchanges


@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("name", PRESETS)
def test_parts_of_every_preset_add_up(name, shards):
    campaign = PRESETS[name].settings
    if shards > UNCUT.get(name, shards):
        with pytest.raises(BadInput, match=f"accounts={campaign.accounts}.* too few for {shards}"):
            apart(campaign, shards)
        return
    parts = apart(campaign, shards)
    assert len(parts) == shards
    check_parts(campaign, parts)


def test_one_shard_is_the_campaign_itself():
    campaign = preset("gtg_16005")
    assert apart(campaign, 1)[0] is campaign


def test_the_largest_by_hand():
    """3,500 accounts by 15 are 233 or 234, 151 M exchanges 43,142.86 an account."""
    parts = apart(preset("gtg_16005"), 15)
    assert [part.accounts for part in parts] == [234] * 5 + [233] * 10
    assert {part.exchanges for part in parts[:5]} <= {10_095_428, 10_095_429}
    assert {part.busiest for part in parts} <= {200_571, 200_572, 199_714, 199_715}


def test_a_card_and_an_address_stay_in_one_part():
    """By 4 and by 6 of a hundred: cut at multiples of 12, of which the last has 4."""
    campaign = Campaign(
        exchanges=5000, accounts=100, days=5, targets={"coding": 1}, per_payment=4, per_network=6
    )
    accounts = [part.accounts for part in apart(campaign, 3)]
    assert accounts == [36, 36, 28]
    assert not any(n % 12 for n in np.cumsum(accounts)[:-1])


def test_who_probes_is_in_one_part():
    parts = apart(preset("qwen_2026", probes=40, probe_set=20, probe_accounts=4), 5)
    assert [(p.probes, p.probe_set, p.probe_accounts) for p in parts] == [
        (40, 20, 4),
        *[(0, 0, 1)] * 4,
    ]


@pytest.mark.parametrize(
    ("name", "changes", "shards", "message"),
    [
        ("deepseek_2026", {}, 6, "accounts=100 that share cards or addresses by 20 are too few"),
        ("gtg_16008", {"accounts": 3}, 2, "accounts=3 are too few for 2"),
        ("gtg_16008", {"customers": 3}, 7, "customers=3 are too few for 7"),
        ("gtg_16002_relay", {"customers": 13}, 7, "customers=13 are too few for 7"),
        ("gtg_16012", {"exchanges": 5}, 7, "exchanges=5 are too few for 7"),
        ("gtg_16005", {"exchanges": 500, "accounts": 50, "busiest": 6}, 7, "busiest=6 are too few"),
        (
            "qwen_2026",
            {"probes": 40, "probe_set": 2, "probe_accounts": 9000},
            3,
            "cannot be cut into 3 shards, as in one probe_accounts=9000 are more than",
        ),
        (
            "gtg_16006",
            {"exchanges": 2990, "accounts": 99, "days": 10, "busiest": 299},
            7,
            "cannot be cut into 7 shards, as in one busiest=4. a day is below",
        ),
    ],
)
def test_what_cannot_be_cut_says_why(name, changes, shards, message):
    with pytest.raises(BadInput, match=message) as raised:
        apart(preset(name, **changes), shards)
    assert "\n" not in str(raised.value)


@given(
    exchanges=st.integers(1, 10_000_000),
    accounts=st.integers(1, 5000),
    days=st.integers(1, 100),
    together=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    peak=st.floats(1.2, 5.0),
    shards=st.integers(2, 40),
)
def test_parts_add_up_or_are_refused(exchanges, accounts, days, together, peak, shards):
    busiest = min(int(peak * exchanges / days) + 1, exchanges)
    campaign = Campaign(
        exchanges=exchanges,
        accounts=accounts,
        days=days,
        busiest=busiest,
        targets={"coding": 1},
        per_payment=together[0],
        per_network=together[1],
    )
    try:
        parts = apart(campaign, shards)
    except BadInput as error:
        assert "shards" in str(error)
        return
    check_parts(campaign, parts)
    rates = [part.busiest - campaign.busiest / accounts * part.accounts for part in parts]
    assert max(map(abs, rates)) <= 1
