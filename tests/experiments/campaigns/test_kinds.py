"""What campaigns of each kind look like to a provider, beside honest traffic of their segment."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from defenses.access import volume
from defenses.access.policy import PolicyEnforcer, Rule, Settings
from defenses.access.provider import OpenAccess, Reply
from distill.campaigns import CAPABILITIES, SEGMENTS, TOPICS, stream
from distill.campaigns.customers import Clientele
from distill.campaigns.kinds import Purchase, elsewhere
from distill.campaigns.operator import Operator
from distill.campaigns.presets import preset, scaled
from distill.campaigns.sampling import minute_quantiles
from distill.campaigns.settings import Campaign
from experiments.campaigns.population import (
    HONEST_SEGMENTS,
    Population,
    expected_share,
    expected_traffic,
)
from experiments.campaigns.simulate import simulate
from experiments.campaigns.traffic import HonestTraffic
from experiments.campaigns.world import build_world
from experiments.measure.noticing import noticed_by_day

LEVEL = 1e-4  # of each test: some forty of them
# Exchanges of these customers are independent draws: sessions of one, no heavy customers, all alike
# but for their zone, so that tests of independent draws hold exactly.
PLAIN = Population(
    accounts=24_000,
    concentration=None,
    habit=1e6,
    segments={
        name: one.model_copy(
            update={"session": 1.0, "sigma": 0.0, "burst": 0.0, "median": 0.6, "group": 0.999}
            | {"share": 1 / len(SEGMENTS)}
        )
        for name, one in HONEST_SEGMENTS.items()
    },
)
JUDGED = ("chat", "agent", "api", "organisation", "research")


def p_value(ours, theirs):
    """Of the hypothesis that two sets of counts are of one distribution; rare values together."""
    common = ours + theirs >= 20
    table = np.array([[*c[common], c[~common].sum()] for c in (ours, theirs)])
    return stats.chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue


@pytest.fixture(scope="module")
def world():
    return build_world(PLAIN, 7, seed=6, room=6000, campaigns=6, customers=40_000)


@pytest.fixture(scope="module")
def honest(world):
    return HonestTraffic(world, release=1).day(3).events


@pytest.fixture(scope="module")
def pairs(world, honest):
    """By segment: a day's honest events, and those of a relay whose accounts are of it."""
    pairs = {}
    for number, name in enumerate(JUDGED):
        campaign = Campaign(
            kind="relay",
            exchanges=7 * 3000,
            accounts=1000,
            days=7,
            customers=8000,
            pathways={name: 1},
        )
        relayed = Operator(world, campaign, number, release=1).day(3)
        assert relayed.wanted.all() and len(relayed.events) == 3000
        pairs[name] = (
            honest.take(world.accounts.segment[honest.account] == SEGMENTS.index(name)),
            relayed.events,
        )
    return pairs


class TestRelay:
    @pytest.mark.parametrize("name", JUDGED)
    def test_topics_are_those_of_honest_customers(self, pairs, name):
        counts = [np.bincount(one.topic, minlength=TOPICS) for one in pairs[name]]
        assert p_value(*counts) > LEVEL
        assert p_value(counts[0], np.roll(counts[1], 8)) < LEVEL, "the test sees other topics"

    @pytest.mark.parametrize("name", JUDGED)
    def test_hours_are_those_of_honest_customers(self, pairs, name):
        hours = [np.bincount(one.minute // 60, minlength=24) for one in pairs[name]]
        assert p_value(*hours) > LEVEL
        assert stats.ks_2samp(*(one.minute for one in pairs[name])).pvalue > LEVEL

    @pytest.mark.parametrize("name", JUDGED)
    def test_phrases_new_models_and_templates_are_those_of_honest_customers(self, pairs, name):
        """Templates by their rank among public ones, or as the customer's own (5041), or none."""
        for column in ("phrase", "newest"):
            yes = [getattr(one, column).sum() for one in pairs[name]]
            n = [len(one) for one in pairs[name]]
            rows = [[k, total - k] for k, total in zip(yes, n, strict=True)]
            assert stats.fisher_exact(rows).pvalue > LEVEL, column
        kinds = [np.bincount(np.minimum(one.template, 5041), minlength=5042) for one in pairs[name]]
        assert p_value(*kinds) > LEVEL

    @pytest.mark.parametrize("name", JUDGED)
    def test_tokens_are_those_of_honest_customers(self, pairs, name):
        for column in ("tokens_in", "tokens_out"):
            values = [getattr(one, column) for one in pairs[name]]
            assert stats.ks_2samp(*values).pvalue > LEVEL, column

    def test_what_its_own_prompts_look_like_is_told_apart(self, world, honest):
        """The same tests see the same accounts with prompts of the campaign's own."""
        segment = world.accounts.segment[honest.account]
        chat = honest.take(segment == SEGMENTS.index("chat"))
        settings = preset("gtg_16006", pathways={"chat": 1}, exchanges=51_000, accounts=1000)
        prompts = Operator(world, settings, 5, release=1).day(3).events
        counts = [np.bincount(one.topic, minlength=TOPICS) for one in (chat, prompts)]
        assert p_value(*counts) < LEVEL
        assert stats.ks_2samp(chat.tokens_out, prompts.tokens_out).pvalue < LEVEL

    def test_an_account_carries_many_customers(self):
        """By whose own templates it sends: api customers have nine in ten of their own."""
        campaign = Campaign(
            kind="relay", exchanges=2000, accounts=4, days=1, customers=300, pathways={"api": 1}
        )
        made = build_world(Population(accounts=300), 1, 0, room=4, campaigns=1, customers=300)
        operator = Operator(made, campaign, 0)
        events, clientele = operator.day(0).events, operator.source.clientele
        last = clientele.first_template[-1] + clientele.own_templates[-1]
        for account in np.unique(events.account):
            template = events.template[events.account == account].astype(np.int64)
            private = template[(template >= clientele.first_template[0]) & (template < last)]
            whose = np.searchsorted(clientele.first_template, private, side="right") - 1
            assert len(private) > 400 and len(np.unique(whose)) > 5
            assert (private < (clientele.first_template + clientele.own_templates)[whose]).all()

    def test_sessions_stay_at_an_account_of_their_segment_unless_there_is_a_clientele(self):
        """Resellers' customers send three exchanges a session, agents thirty; by their tokens."""
        settings = Campaign(
            kind="relay",
            exchanges=40_000,
            accounts=50,
            days=1,
            customers=900,
            pathways={"agent": 0.5, "reseller": 0.5},
        )
        made = build_world(Population(accounts=300), 1, 0, room=200, campaigns=2, customers=1800)
        agent = SEGMENTS.index("agent")
        mean = []
        for number, changes in enumerate(({}, {"clientele": {"agent": 1.0}})):
            changed = settings.model_copy(update=changes)
            events = Operator(made, changed, number).day(0).events
            of_agents = made.accounts.segment[events.account] == agent
            assert len(events) == 40_000 and abs(of_agents.mean() - 0.5) < 0.02
            mean.append([events.tokens_in[rows].mean() for rows in (of_agents, ~of_agents)])
            sent = np.bincount(events.account)[-50:]
            assert sent.mean() == 800 and 400 < sent.min() < sent.max() < 1200
            assert sent[:25].std() > 10, "sessions are not cut to make accounts even"
        assert mean[0] == pytest.approx([67_800, 725], rel=0.1)
        assert mean[1] == pytest.approx([67_800, 67_800], rel=0.1)

    def test_customers_differ_as_honest_ones_do_and_send_in_sessions(self):
        settings = Campaign(
            kind="relay",
            exchanges=10,
            accounts=1,
            days=1,
            customers=20_002,
            clientele={"agent": 0.75, "reseller": 0.25},
        )
        made = build_world(Population(accounts=300), 9, 0, room=1, campaigns=1, customers=20_002)
        made_of = Clientele(made, settings, stream(0, "x"))
        agents = made_of.segment == SEGMENTS.index("agent")
        assert agents.sum() == 15_001
        assert np.log(made_of.rate[agents]).std() == pytest.approx(1.3, rel=0.03)
        assert made_of.phrase[agents].mean() == pytest.approx(0.005, rel=0.2)
        shares = np.diff(made.preferences.cdf[made_of.preference] / 65535, axis=1, prepend=0)
        spread = [shares[rows].std(axis=0).sum() for rows in (agents, ~agents)]
        assert spread[1] < 0.5 * spread[0], "resellers pool many, so they are more alike"
        drawn = made_of.sessions(2, 400_000, stream(0, "y"))
        assert len(drawn.session) == 400_000 and (np.diff(drawn.session) >= 0).all()
        first = np.unique(drawn.session, return_index=True)[1]
        lengths = np.diff(np.append(first, 400_000))[:-1]
        of_agents = agents[drawn.customer[first]][:-1]
        assert lengths[of_agents].mean() == pytest.approx(30.9, rel=0.05)
        assert lengths[~of_agents].mean() == pytest.approx(2.5, rel=0.05)

    def test_what_stands_for_a_task_is_expected_of_its_customers(self):
        """An agent's share of coding is 60 %; with as many resellers it is weighed by traffic."""
        honest = Population()
        assert expected_share(honest, {"agent": 2}, ["coding"]) == pytest.approx(0.60)
        agent, reseller = 4 * np.exp(1.3**2 / 2), 150 * np.exp(1.2**2 / 2)
        of_resellers = 30 / (29 + 24 + 24 + 30 + 10 + 4 + 6 + 9)
        traffic = expected_traffic(honest, {"agent": 1, "reseller": 1})
        assert expected_share(honest, traffic, ["coding"]) == pytest.approx(
            (0.6 * agent + of_resellers * reseller) / (agent + reseller)
        )
        campaign = scaled(preset("gtg_16001"), 0.02)
        out = simulate(Population(accounts=300), [campaign], days=14, seed=2)
        got = out.got(0)
        assert got.sum() == campaign.exchanges
        coding = got[list(CAPABILITIES).index("coding")] / got.sum()
        assert coding == pytest.approx(0.6, abs=0.06)


class Diary(OpenAccess):
    """Keeps what it is shown of campaign accounts, and closes some others on day 1."""

    def __init__(self, first, gone=0):
        self.first, self.gone, self.days = first, gone, []

    def serve(self, events):
        self.days.append(events.take(events.account >= self.first))
        return Reply()

    def close(self, day):
        return np.arange(self.gone if day == 1 else 0)


class TestReplay:
    @pytest.mark.parametrize("name", ["gtg_16008", "openai_july_2026"])
    @pytest.mark.parametrize("router", ["round_robin", "sticky"])
    def test_a_session_goes_on_at_another_account_soon_after(self, name, router):
        campaign = scaled(preset(name, router=router), 0.05)
        diary = Diary(300)
        simulate(Population(accounts=300), [campaign], diary, days=2, seed=1)
        for events, planned in zip(diary.days, campaign.daily(), strict=False):
            assert len(events) == planned
            sessions = [
                np.flatnonzero(events.template == name) for name in np.unique(events.template)
            ]
            whole = [rows for rows in sessions if len(rows) > 1]
            assert len(whole) >= len(sessions) - 1, "the last of a day may be cut"
            for rows in whole:
                accounts, counts = np.unique(events.account[rows], return_counts=True)
                assert len(accounts) == 2 and counts.min() == 1, "one turn, and all the others"
            turns = np.array([len(rows) for rows in whole])
            assert turns.mean() == pytest.approx(campaign.turns, abs=4 / len(turns) ** 0.5 * 8)

    def test_the_pause_is_as_long_as_it_says(self):
        campaign = Campaign(
            kind="replay",
            exchanges=20_000,
            accounts=100,
            days=1,
            targets={"coding": 1},
            turns=2,
            continues=20.0,
        )
        diary = Diary(300)
        simulate(Population(accounts=300), [campaign], diary, days=1, seed=1)
        (events,) = diary.days
        assert np.bincount(events.account)[300:].max() <= 2 * 200 + 2
        order = np.argsort(events.template, kind="stable")
        pairs = events.minute[order].astype(int).reshape(-1, 2)
        apart = (pairs[:, 1] - pairs[:, 0]) % 1440
        # The two are in order of account, so the later turn is either.
        apart = np.minimum(apart, 1440 - apart)
        assert (apart >= 1).all() and apart.mean() == pytest.approx(20.5, rel=0.05)

    def test_sessions_of_customers_are_worded_by_them_but_not_timed(self):
        campaign = scaled(preset("gtg_16008", pathways={"organisation": 1}), 0.2)
        campaign = campaign.model_copy(update={"clientele": {"organisation": 1.0}})
        plain = PLAIN.model_copy(update={"accounts": 6000})
        made = build_world(plain, 7, seed=3, room=1000, campaigns=1, customers=1000)
        honest = HonestTraffic(made).day(3).events
        office = honest.take(
            made.accounts.segment[honest.account] == SEGMENTS.index("organisation")
        )
        replayed = Operator(made, campaign, 0).day(3).events
        counts = [np.bincount(one.topic, minlength=TOPICS) for one in (office, replayed)]
        assert p_value(*counts) > LEVEL
        assert stats.ks_2samp(office.tokens_in, replayed.tokens_in).pvalue > LEVEL
        # A session's account with one turn is where it began.
        pairs = np.stack([replayed.template, replayed.account], axis=1)
        _, at, turns = np.unique(pairs, axis=0, return_index=True, return_counts=True)
        began = replayed.minute[at[turns == 1]]
        assert len(began) > 400
        assert stats.ks_1samp(began, stats.ecdf(minute_quantiles(2.0)).cdf.evaluate).pvalue > LEVEL
        assert stats.ks_1samp(began, stats.ecdf(minute_quantiles(6.0)).cdf.evaluate).pvalue < LEVEL

    @pytest.mark.parametrize("counts", [[5], [3, 3], [9, 1], [1, 1, 1], [40, 30, 30], []])
    def test_another_slot_is_never_the_same(self, counts):
        first = np.repeat(np.arange(len(counts)), np.array(counts, int))
        for seed in range(20):
            later = elsewhere(first, max(2, len(counts)), stream(seed, "x"))
            assert (later != first).all() and len(later) == len(first)
            if counts and max(counts) * 2 <= sum(counts):
                assert sorted(later) == sorted(first), "each account sends what it was to send"


class TestBought:
    def test_it_leaves_no_event_and_no_account_and_nothing_stops_it(self):
        bought = preset("gtg_16012", exchanges=30_000, days=10)
        clean, diary = Diary(300, gone=3), Diary(300, gone=3)
        without = simulate(Population(accounts=300), [], clean, days=6, seed=0)
        out = simulate(Population(accounts=300), [bought], diary, days=6, seed=0)
        assert not any(len(events) for events in diary.days)
        assert out.events == without.events and out.accounts.count == out.first == 300
        got = out.got(0)
        assert got.sum() == pytest.approx(18_000 * 0.5, rel=0.03) and out.planned[0] == 9000
        assert (got > 0).sum() == 3 and (got == out.got(0, np.zeros(300))).all()
        exchanges, tokens_in, tokens_out = out.bought[0]
        assert exchanges == 18_000
        assert tokens_in / 18_000 == pytest.approx(2000, rel=0.05)
        assert tokens_out / 18_000 == pytest.approx(1500, rel=0.05)

    def test_it_is_the_same_beside_another_campaign(self):
        both = [scaled(preset("qwen_2026"), 0.001), preset("gtg_16012", exchanges=6000)]
        out = simulate(Population(accounts=300), both, days=6, seed=0)
        assert out.got(1).sum() > 0 and out.bought[1, 0] == 600
        assert (out.truth.campaign[out.first : out.accounts.count] == 0).all()

    def test_days_outside_are_empty(self):
        purchase = Purchase(0, preset("gtg_16012", exchanges=50, days=5, start=2), 0)
        assert [purchase.day(day).exchanges for day in range(8)] == [0, 0, *[10] * 5, 0]


class TestProbes:
    PROBING = Campaign(
        exchanges=6000,
        accounts=20,
        days=6,
        targets={"coding": 1},
        probes=25,
        probe_set=4,
        probe_accounts=2,
    )

    def test_a_few_questions_through_a_few_accounts_day_after_day(self):
        diary = Diary(300)
        out = simulate(Population(accounts=300), [self.PROBING], diary, days=6, seed=0)
        made = build_world(Population(accounts=300), 6, 0, room=20, campaigns=1)
        templates = Operator(made, self.PROBING, 0).probes.templates
        for events in diary.days:
            rows = np.isin(events.template, templates)
            assert rows.sum() == 25 and len(events) == 1000 and not events.phrase[rows].any()
            assert np.unique(events.account[rows], return_counts=True)[1].tolist() == [13, 12]
            topics = {
                (t, k) for t, k in zip(events.template[rows], events.topic[rows], strict=True)
            }
            assert len(topics) == len({t for t, _ in topics}) == 4, "a question has one topic"
            assert len({k for _, k in topics}) > 1, "and questions have several"
        assert out.got(0).sum() == 6 * (1000 - 25) == out.planned[0]
        assert out.probes_ND2[0].tolist() == [[25, 0]] * 6

    @pytest.mark.parametrize("kind", ["relay", "replay"])
    def test_other_kinds_probe_as_well(self, kind):
        campaign = self.PROBING.model_copy(
            update={"kind": kind, "customers": 30, "targets": {}, "accounts": 10}
        )
        out = simulate(Population(accounts=300), [campaign], days=6, seed=0)
        assert out.probes_ND2[0].tolist() == [[25, 0]] * 6
        assert out.got(0).sum() == 6 * 975

    def test_what_a_policy_reduces_is_counted_from_the_day_after(self):
        """Everybody crosses on day 0, so answers are reduced from day 1 on."""
        watch = volume.Detector(volume.Settings(), None)
        rule = Rule(detector="volume", rate=0.01, action="reduce")
        everybody = {"volume": np.full((1, len(SEGMENTS)), -1.0)}
        enforcer = PolicyEnforcer(Settings(rules=(rule,)), [watch], everybody, [0.01])
        out = simulate(Population(accounts=300), [self.PROBING], enforcer, days=6, seed=0)
        full_D, reduced_D = out.probes_ND2[0].T
        assert full_D[0] > 20 and not full_D[1:].any(), "limits refuse a few"
        assert reduced_D[0] == 0 and (reduced_D[1:] > 20).all()
        by_day = noticed_by_day(0.9, 0.5, *out.probes_ND2[0].T)
        assert by_day[0] == 0 and by_day[1] > 0.9, "25 answers that are right half of the time"


DIGESTS = {
    "deepseek_2026": "6cf24e4732e19cb2",
    "moonshot_2026": "bae30e8e93e45e04",
    "minimax_2026": "7c522d4e443bdbe1",
    "qwen_2026": "177f4bd0453dc501",
    "hydra_reseller": "a758cc44c61d6141",
    "gtig_trace_coercion": "35e9054730b1d0c2",
    "openai_routers": "69d33adade41171e",
    "academic_benign_twin": "090a60481ab7840e",
    "adaptive_best_response": "f9f5b193e4479fa1",
}
"""Digests of small horizons: no change of code changes what campaigns do unnoticed."""
COLUMNS = (
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
)


class Digest(Diary):
    """Of all that it is shown; closes three campaign accounts on each of the first days."""

    def __init__(self):
        super().__init__(1200)
        self.sha = hashlib.sha256()

    def begin(self, accounts, days, identify):
        self.accounts = accounts

    def serve(self, events):
        for column in COLUMNS:
            self.sha.update(getattr(events, column).tobytes())
        return Reply()

    def close(self, day):
        gone = self.first + np.arange(3) + 3 * day
        return gone[(gone < self.accounts.count) & (day < 3)]


@pytest.mark.parametrize("name", DIGESTS)
def test_campaigns_are_the_same_byte_for_byte(name):
    campaign = preset(name)
    campaign = scaled(campaign, min(1, 12 / campaign.accounts))
    campaign = campaign.model_copy(update={"exchanges": min(campaign.exchanges, 4000), "days": 10})
    digest = Digest()
    out = simulate(Population(accounts=1200), [campaign], digest, days=9, seed=4, release=4)
    digest.sha.update(out.leaked_ADC.tobytes())
    digest.sha.update(out.bought.tobytes())
    assert digest.sha.hexdigest()[:16] == DIGESTS[name]
