"""Honest traffic against the public statistics it was set by, and the simulation's own rules."""

import hashlib

import numpy as np
import pytest
from pydantic import ValidationError

from defenses.access.provider import OpenAccess, Reply
from distill.campaigns import SEGMENTS, TOPICS, cells, stream
from distill.campaigns.origins import Origins
from distill.campaigns.presets import preset, scaled
from distill.campaigns.sampling import TopicPreferences, dirichlet, minute_quantiles, topic_shares
from experiments.campaigns.population import HONEST_SEGMENTS, Population, Segment
from experiments.campaigns.simulate import simulate
from experiments.campaigns.traffic import HonestTraffic
from experiments.campaigns.truth import CRON, STEADY
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
            "prompt",
            "address",
            "client",
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plans": (0, 0, 0, 0)}, "plans must be shares, some above 0"),
        ({"plans": (1, 1, 1, -1)}, "plans must be shares"),
        ({"steady": 0.7, "cron": 0.4}, "steady and cron are 1.1 of customers together"),
    ],
)
def test_a_segment_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        Segment(**HONEST_SEGMENTS["api"].model_dump() | change)


class TestHabits:
    """Where honest customers send from, what they pay for, and which are machines."""

    def test_who_uses_more_pays_more_and_plans_have_their_shares(self):
        made = build_world(Population(accounts=40_000), 1, seed=2)
        rows = np.flatnonzero(made.accounts.segment[:40_000] == of("api"))
        plan, rate = made.accounts.plan[rows], np.log(made.truth.rate[rows])
        shares = np.array(HONEST_SEGMENTS["api"].plans) / 100
        error = 4 * (shares * (1 - shares) / len(rows)) ** 0.5
        assert (abs(np.bincount(plan, minlength=4) / len(rows) - shares) < error).all()
        means = [rate[plan == p].mean() for p in range(4)]
        assert means == sorted(means) and means[3] - means[0] > 2
        blind = build_world(Population(accounts=40_000, fit=0), 1, seed=2)
        plan = blind.accounts.plan[rows]
        assert abs(rate[plan == 3].mean() - rate[plan == 0].mean()) < 0.4

    def test_accounts_of_an_organisation_share_addresses_that_nobody_else_has(self, month):
        made, days = month
        origins, owner = made.origins, made.truth.owner[:6000]
        rows = np.flatnonzero(made.accounts.segment[:6000] == of("organisation"))
        for ids in (rows[owner[rows] == one] for one in np.unique(owner[rows])[:20]):
            assert len(np.unique(origins.address[ids])) == 1
        _, first = np.unique(owner, return_index=True)
        spans = sorted(zip(origins.address[first], origins.addresses[first], strict=True))
        assert all(a + n <= b for (a, n), (b, _) in zip(spans, spans[1:], strict=False))
        for events in days[:3]:
            away = events.address - origins.address[events.account]
            assert (away < origins.addresses[events.account]).all()
            away = events.client - origins.client[events.account]
            assert (away < origins.clients[events.account]).all()

    def test_the_first_addresses_carry_what_is_stated(self):
        """The first of 100 carries a tenth, the first 25 half."""
        origins = Origins(1)
        origins.addresses[0] = 100
        address, _ = origins.draw(np.zeros(1, int), np.array([100_000]), stream(0, "u"))
        assert abs((address == 0).mean() - 0.1) < 0.005
        assert abs((address < 25).mean() - 0.5) < 0.01

    def test_machines_send_all_day_or_by_the_hour_and_people_do_not(self, month):
        made, days = month
        account = np.concatenate([events.account for events in days])
        minute = np.concatenate([events.minute for events in days]).astype(int)
        clock, zone = made.truth.clock[account], made.truth.zone[account].astype(int)
        tests = made.truth.prompts[account] > 0
        local = (minute + 60 * zone) % 1440
        api = made.accounts.segment[account] == of("api")

        def hand(rows):
            return abs(np.exp(2j * np.pi * local[rows] / 1440).mean())

        assert hand(api & (clock == STEADY) & ~tests) < 0.02
        assert hand((made.accounts.segment[account] == 0) & ~tests) > 0.25
        jobs = np.flatnonzero((clock == CRON) & ~tests)
        assert ((minute[jobs] - made.truth.cron[account[jobs]]) % 1440 < 30).all()

    def test_suites_ask_their_own_questions_night_after_night(self, month):
        made, days = month
        truth = made.truth
        for events in days[:5]:
            rows = np.flatnonzero(events.prompt)
            account = events.account[rows]
            offset = events.prompt[rows].astype(int) - truth.first_prompt[account]
            assert ((offset >= 0) & (offset < truth.prompts[account])).all() and len(rows)
        account = np.concatenate([events.account for events in days])
        asks = np.concatenate([events.prompt for events in days]) > 0
        assert abs(asks[truth.prompts[account] > 0].mean() - SMALL.suite) < 0.02

    def test_new_accounts_grow_to_their_rate(self):
        """Sessions at age a are 1 - exp(-(a + 1) / 7) of what they are without a ramp."""
        worlds = [
            build_world(Population(accounts=20_000, ramp=ramp), 28, seed=6) for ramp in (7.0, None)
        ]
        created = worlds[0].accounts.created[:20_000].astype(int)
        sent = np.zeros((2, 28))
        for which, made in enumerate(worlds):
            honest = HonestTraffic(made)
            for day in range(28):
                ids, sessions, n = honest.counts(day, stream(made.seed, "counts", day))
                age = day - created[ids]
                young = (created[ids] >= 0) & (age < 28)
                sent[which] += np.bincount(age[young], sessions[young], 28)
                assert (n >= sessions).all()
        share = -np.expm1(-np.arange(1, 29) / 7)
        error = 4 * (share * (1 - share) / sent[1]) ** 0.5
        assert (abs(sent[0] / sent[1] - share)[:14] < error[:14] + 1e-9).all()
