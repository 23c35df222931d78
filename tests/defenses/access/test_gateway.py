"""Limits against an exchange-by-exchange replay and hand arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defenses.access.gateway import TIERS, Gateway, Settings, Tier, bill, buckets, running
from distill.campaigns import SEGMENTS, Accounts, Events

WIDE = {
    "requests": 1e9,
    "tokens_in": 1e12,
    "tokens_out": 1e12,
    "dollars": 1e9,
    "spent": 0,
    "age": 0,
}


def events(account, minute=0, tokens=(100, 100), day=0):
    n = len(account)
    return Events(
        day,
        np.array(account, np.uint32),
        np.broadcast_to(np.array(minute, np.uint16), n),
        np.zeros(n, np.uint8),
        np.zeros(n, np.uint32),
        np.zeros(n, bool),
        np.zeros(n, bool),
        np.full(n, tokens[0], np.uint32),
        np.full(n, tokens[1], np.uint32),
        np.zeros(n, np.uint32),
        np.zeros(n, np.uint32),
        np.zeros(n, np.uint16),
    )


def table(n=4, segment="api", created=0, verified=False):
    accounts = Accounts.empty(n)
    accounts.add(n, segment=SEGMENTS.index(segment), created=created, verified=verified)
    return accounts


def gate(accounts=None, tiers=None, **changes):
    tiers = tuple(Tier(**WIDE | one) for one in tiers) if tiers else TIERS
    return Gateway(Settings(tiers=tiers, **changes), accounts or table())


def replay(arrivals, cost, rate, burst):
    """One account, one bucket, one request after another."""
    level, out = burst * rate, []
    for m, n in enumerate(arrivals):
        level = min(level + rate, burst * rate) if m else level
        served = 0
        for _ in range(n):
            if level >= cost - 1e-9:
                level, served = level - cost, served + 1
        out.append(served)
    return out


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(1, 20),
    st.sampled_from([1.0, 2.0, 5.0]),
)
def test_a_bucket_lets_through_what_a_replay_does(arrivals, cost, rate, burst):
    n = np.array([arrivals])
    passed = buckets(n, np.full((1, *n.shape), cost), np.array([[rate]]), burst)
    assert passed[0].tolist() == replay(arrivals, cost, rate, burst)


def test_the_tightest_bucket_decides():
    n = np.array([[10, 10]])
    each = np.stack([np.ones((1, 2)), np.full((1, 2), 50.0)])
    assert buckets(n, each, np.array([[8], [200]]), 1.0).tolist() == [[4, 4]]


def test_running_sums_begin_again():
    assert running(np.array([1, 2, 3, 4, 5]), np.array([0, 2])).tolist() == [1, 3, 3, 7, 12]


def test_requests_a_minute():
    """The quiet account passes; the loud one is cut in the one minute in which it is loud."""
    g = gate(tiers=[{"requests": 5}])
    mask = g.admit(events([0] * 3 + [1] * 12, [0, 0, 1] + [7] * 8 + [8] * 4))
    assert mask[:3].all() and mask[3:].sum() == 5 + 4
    assert g.refused.tolist() == [0, 3, 0, 0]


def test_tokens_a_minute_count_what_was_not_cached():
    for segment, passed in (("api", 2), ("agent", 10)):
        g = gate(table(segment=segment), tiers=[{"tokens_in": 250}])
        assert g.admit(events([0] * 10)).sum() == (passed if segment == "api" else 10)
    g = gate(table(segment="api"), tiers=[{"tokens_out": 350}])
    assert g.admit(events([0] * 10)).sum() == 3


def test_prices():
    """1,000 in and 1,000 out at $3 and $15 a million: $0.018; 86 % of the input cached: 3 (0.14 +
    0.086) + 15.
    """
    exchange = events([0], tokens=(1000, 1000))
    plain, cached = (
        bill(exchange, np.array([SEGMENTS.index(segment)]), Settings())
        for segment in ("api", "agent")
    )
    assert plain.dollars[0] == pytest.approx(0.018)
    assert cached.dollars[0] == pytest.approx((3 * 0.226 + 15) / 1000)
    assert cached.tokens_in[0] == pytest.approx(140)


def test_the_reported_spend_cap_binds_before_the_rates():
    """$100 a month buys 656 reasoning exchanges (500 in, 6,000 out at $5 and $25): 652 to 656 with
    rounding.
    """
    g = gate(table(), tiers=[{"dollars": 100}], price=(5.0, 25.0))
    total = sum(
        g.admit(events([0] * 100, np.arange(100), (500, 6000), day)).sum() for day in range(30)
    )
    assert 650 <= total <= 656
    assert g.admit(events([0] * 100, np.arange(100), (500, 6000), 30)).sum() == 100, "a new month"


def test_daily_caps_and_throttling_are_in_order_of_time():
    g = gate(tiers=[{}], daily=3, throttled=1)
    minute = np.array([50, 10, 40, 20, 30])
    assert g.admit(events([0] * 5, minute)).tolist() == [False, True, False, True, True]
    g.throttled[0] = True
    assert g.admit(events([0] * 5, minute, day=1)).tolist() == [False, True, False, False, False]


def test_tiers_are_climbed_by_spend_and_age():
    accounts = table()
    g = gate(accounts)
    assert g.tier(10, np.array([0])) == 0
    g.spent[0] = 250
    assert [int(g.tier(day, np.array([0]))[0]) for day in (3, 7, 14)] == [0, 1, 2]
    accounts.verified[1], accounts.created[2] = True, -31
    assert g.tier(0, np.array([1, 2])).tolist() == [3, 3]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_looking_at_every_minute_changes_nothing_for_those_far_from_their_limits(seed):
    """The short cut for quiet accounts is exact: with it or without, the same exchanges pass."""
    rng = np.random.default_rng(seed)
    account = np.sort(rng.integers(0, 6, 200))
    day = events(account, rng.integers(0, 20, 200))
    tiers = [
        {
            "requests": float(rng.integers(2, 60)),
            "tokens_out": float(rng.integers(200, 5000)),
            "dollars": 0.05,
        }
    ]
    short, long = gate(table(6), tiers=tiers, daily=30), gate(table(6), tiers=tiers, daily=30)
    starts = np.flatnonzero(np.diff(account, prepend=-1))
    n = np.diff(np.append(starts, 200))
    rate = np.array([[tiers[0]["requests"]], [1e12], [tiers[0]["tokens_out"]]]).repeat(len(n), 1)
    cost = bill(day, np.full(200, SEGMENTS.index("api")), long.settings)
    expected = long._slow(day.minute, cost, n, rate, np.full(len(n), 30.0), np.full(len(n), 0.05))
    assert (short.admit(day) == expected).all()


def test_no_events_no_trouble():
    assert gate().admit(events([])).tolist() == []
