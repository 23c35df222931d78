"""Honest traffic against the public statistics it was set by, and the simulation's own rules."""

import hashlib

import numpy as np
import pytest

from defenses.access.provider import OpenAccess, Reply
from distill.campaigns import SEGMENTS, TOPICS, cells, stream
from distill.campaigns.presets import preset, scaled
from distill.campaigns.sampling import TopicPreferences, dirichlet, minute_quantiles, topic_shares
from experiments.campaigns.population import HONEST_SEGMENTS, Population
from experiments.campaigns.simulate import simulate
from experiments.campaigns.traffic import HonestTraffic
from experiments.campaigns.world import HONEST, build_world, customer_sizes

SMALL = Population(accounts=6000)


@pytest.fixture(scope="module")
def month():
    """28 days of 6,000 accounts: the world and all its days."""
    made = build_world(SMALL, 28, seed=5)
    honest = HonestTraffic(made, release=14)
    return made, [honest.day(day).events for day in range(28)]


def of(name):
    return SEGMENTS.index(name)


def test_shares_add_up():
    assert abs(sum(one.share for one in HONEST_SEGMENTS.values()) - 1) < 1e-9
    assert sum(SMALL.sizes().values()) == 6000 and SMALL.sizes()["chat"] == 4200


def test_chat_users_send_what_was_reported(month):
    made, _ = month
    rates = made.truth.rate[made.accounts.segment[:6000] == of("chat")]
    assert 3.5 < rates.mean() < 4.8  # 3.7 messages per user and day


def test_heavy_api_customers_carry_the_reported_share():
    made = build_world(Population(accounts=100_000), 1, seed=1)
    rates = np.sort(made.truth.rate[made.accounts.segment[:100_000] == of("api")])
    assert (
        0.60 < rates[-len(rates) // 10 :].sum() / rates.sum() < 0.82
    )  # 60 to 79 % in ServeGen's pools
    assert 1.83 < np.log(rates).std() < 2.70


def test_sessions_are_as_long_as_the_agentic_trace_says(month):
    made, _ = month
    honest = HonestTraffic(made)
    ids, sessions, n = honest.counts(3, stream(0, "x"))
    agent = made.accounts.segment[ids] == of("agent")
    assert abs(n[agent].sum() / sessions[agent].sum() / 30.9 - 1) < 0.1


def test_working_days_and_afternoons_are_busier(month):
    made, days = month
    per_day = np.array(
        [(made.accounts.segment[e.account] == of("organisation")).sum() for e in days]
    )
    weekend = np.arange(28) % 7 >= 5
    assert per_day[weekend].mean() < 0.5 * per_day[~weekend].mean()
    hours = np.bincount(minute_quantiles(4.0) // 60, minlength=24)
    assert hours.argmax() in (14, 15) and 3.5 < hours.max() / hours.min() < 4.1


def test_days_are_ordered_by_account_and_within_bounds(month):
    _, days = month
    for events in days[:3]:
        assert (np.diff(events.account.astype(int)) >= 0).all()
        assert (
            events.minute.max() < 1440
            and events.topic.max() < TOPICS
            and events.tokens_in.min() >= 1
        )


def test_organisations_and_resellers_share_cards_and_single_customers_mostly_do_not(month):
    made, _ = month
    segment, payment = made.accounts.segment[:6000], made.accounts.payment[:6000]
    shared = np.bincount(payment)[payment] > 1
    assert shared[segment == of("organisation")].all()
    assert abs(shared[segment == of("chat")].mean() - 0.03) < 0.01  # 1 - p^2 for geometric groups
    assert abs(shared[segment == of("api")].mean() - (1 - 0.75**2)) < 0.1
    assert len(np.unique(made.truth.owner[:6000])) == len(np.unique(payment))


def test_addresses_are_shared_by_strangers(month):
    made, _ = month
    sharing = np.bincount(made.accounts.network[:6000])[made.accounts.network[:6000]]
    behind = sharing > 60
    single = made.accounts.segment[:6000] < 3
    assert (
        abs(behind[single].mean() - SMALL.vpn - SMALL.campus) < 0.02 and not behind[~single].any()
    )


def test_a_new_model_is_taken_up_slowly_and_never_before_it_is_out(month):
    _, days = month
    shares = [events.newest.mean() for events in days]
    assert max(shares[:14]) == 0 and 0 < shares[14] < shares[20]


def test_viral_prompts_come_and_go(month):
    made, days = month
    counts = np.stack([np.bincount(e.template, minlength=5041)[5001:5041] for e in days])
    seen = counts.sum(axis=0) > 30
    assert seen.sum() > 5 and (counts[:, seen] == 0).any()


@pytest.mark.parametrize("concentration", [5.0, 50.0])
def test_topic_counts_are_over_dispersed_as_their_concentration_says(concentration):
    """Pearson's X2 of n draws has mean (K - 1) (1 + (n - 1) / (c + 1)) under a
    Dirichlet-multinomial.
    """
    rng, n = stream(0, "dispersion"), 200
    base = np.full(TOPICS, 1 / TOPICS)
    tastes = TopicPreferences(400)
    rows = tastes.add(dirichlet(np.repeat(base[None], 400, 0), concentration, rng))
    drawn = tastes.draw(np.repeat(rows, n), rng).reshape(400, n)
    x2 = np.array(
        [
            ((np.bincount(one, minlength=TOPICS) - n / TOPICS) ** 2).sum() / (n / TOPICS)
            for one in drawn
        ]
    )
    assert abs(x2.mean() / ((TOPICS - 1) * (1 + (n - 1) / (concentration + 1))) - 1) < 0.06


def test_no_concentration_means_that_all_are_alike():
    made = build_world(Population(accounts=3000, concentration=None), 1, seed=0)
    for number in range(len(SEGMENTS)):
        assert (
            len(np.unique(made.truth.preference[:3000][made.accounts.segment[:3000] == number]))
            == 1
        )


def test_draws_follow_the_taste_and_never_leave_its_topics():
    tastes = TopicPreferences(1)
    base = topic_shares({"coding": 1.0, "other": 3.0})
    drawn = tastes.draw(np.repeat(tastes.add(base[None]), 200_000), stream(0, "draw"))
    share = np.bincount(drawn, minlength=TOPICS) / len(drawn)
    assert (share[base == 0] == 0).all()
    assert np.abs(share - base).max() < 5 * np.sqrt(0.25 / len(drawn)) + 1 / 65535


@pytest.mark.parametrize("kind", [0.985, 0.4, 2.0])
def test_group_sizes_add_up(kind):
    sizes = customer_sizes(1000, kind, stream(0, "groups"))
    assert sizes.sum() == 1000 and sizes.min() >= 1


def test_cells_are_the_counts_of_pairs():
    account, topic = np.array([3, 1, 3, 3, 1]), np.array([2, 0, 2, 5, 7], np.uint8)
    assert [c.tolist() for c in cells(account, topic, 8)] == [
        [1, 1, 3, 3],
        [0, 7, 2, 5],
        [1, 1, 2, 1],
    ]
    assert [len(c) for c in cells(account[:0], topic[:0], 8)] == [0, 0, 0]


CAMPAIGNS = [
    scaled(preset("qwen_2026", days=20, exchanges=12_000_000), 0.004),
    preset("deepseek_2026", days=20),
]


class Log(OpenAccess):
    """Hashes whatever it is shown, and closes the first campaign accounts it was
    told of on day 6.
    """

    def __init__(self, gone=()):
        self.hash, self.gone = hashlib.sha256(), np.array(gone, np.int64)

    def serve(self, events):
        for name in (
            "account",
            "minute",
            "topic",
            "template",
            "phrase",
            "newest",
            "tokens_in",
            "tokens_out",
        ):
            self.hash.update(getattr(events, name).tobytes())
        return Reply()

    def close(self, day):
        return self.gone if day == 6 else self.gone[:0]


def run(seed=0, gone=(), campaigns=CAMPAIGNS):
    log = Log(gone)
    return simulate(
        Population(accounts=1500), campaigns, log, days=20, seed=seed, release=9
    ), log.hash.hexdigest()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    (a, first), (b, again), (_, other) = run(), run(), run(seed=1)
    assert first == again != other
    assert a.leaked_ADC.tobytes() == b.leaked_ADC.tobytes()


def test_honest_traffic_does_not_depend_on_campaigns():
    with_them, without = run()[0], run(campaigns=[])[0]
    assert (with_them.sent_SD == without.sent_SD).all()


def test_every_wanted_exchange_leaks_when_nobody_is_closed():
    out, _ = run()
    assert out.events == out.sent_SD.sum() + sum(one.exchanges for one in CAMPAIGNS)
    for number in range(len(CAMPAIGNS)):
        assert abs(out.got(number).sum() / out.planned[number] - 1) < 0.02
    assert out.bought[:, 0].tolist() == [one.exchanges for one in CAMPAIGNS]
    mean_in, mean_out = (
        out.bought[1, 1:] / out.bought[1, 0]
    )  # 9 in 10 at (500, 6000), the cover at (725, 300)
    assert mean_in == pytest.approx(522, rel=0.03) and mean_out == pytest.approx(5430, rel=0.03)
    assert (out.value_AD.sum(axis=0) == out.leaked_ADC.sum(axis=(0, 2))).all()


def test_nothing_leaks_after_an_account_is_closed_and_replacements_go_on():
    start = run()[0]
    gone = start.first + np.arange(40)
    for respawns in (0.0, 1.0):
        out, _ = run(
            gone=gone,
            campaigns=[CAMPAIGNS[0].model_copy(update={"respawns": respawns}), CAMPAIGNS[1]],
        )
        leaked_AD = out.leaked_ADC.sum(axis=2)
        assert (leaked_AD[:40, 7:] == 0).all() and (leaked_AD[:40, :7].sum(axis=0) > 0).all()
        assert (leaked_AD[200:, 8:].sum() > 0) == (respawns > 0)
        assert out.got(0).sum() == leaked_AD[out.truth.campaign[out.first :] == 0].sum()


class Closer(OpenAccess):
    """Closes one account of each campaign a day; sees that days come in order and that the closed
    are silent.
    """

    def begin(self, accounts, days, identify):
        self.accounts, self.first = accounts, 1500

    def serve(self, events):
        assert (np.diff(events.account.astype(np.int64)) >= 0).all()
        assert (self.accounts.closed[events.account] > events.day).all()
        return Reply()

    def close(self, day):
        return self.first + np.array([day, 100 + day])


def test_days_stay_in_order_when_two_campaigns_replace_accounts():
    both = [one.model_copy(update={"respawns": 1.0}) for one in CAMPAIGNS]
    out = simulate(Population(accounts=1500), both, Closer(), days=6, seed=0)
    new = np.arange(out.first + 200, out.accounts.count)
    assert len(new) == 10 and (np.diff(out.truth.campaign[new]) != 0).all(), (
        "replacements take turns"
    )
    assert (out.leaked_ADC[200:210].sum(axis=(1, 2)) > 0).all()


def test_what_would_have_leaked_counts_the_day_of_closure():
    out, _ = run()
    closed = np.full(out.accounts.capacity, 4)
    assert out.got(0, closed).sum() == out.leaked_ADC[:100, :5].sum()
    assert (out.got(0, np.full(out.accounts.capacity, 99)) == out.got(0)).all()


def test_honest_accounts_are_marked_honest():
    out, _ = run()
    assert (out.truth.campaign[: out.first] == HONEST).all() and (
        out.truth.campaign[out.first : out.accounts.count] >= 0
    ).all()
