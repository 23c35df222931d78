"""The detectors of the advisory's indicators: their statistics against independent ones, planted
campaigns, and clean horizons.
"""

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from defenses.access import (
    BaselineFitter,
    Line,
    addresses,
    onset,
    plan,
    repeats,
    rhythm,
    shared,
)
from defenses.access.calibration import Calibration
from defenses.access.moments import line_by_segment, normal_by_part, rhythm_moments
from defenses.access.policy import PolicyEnforcer, Rule, Settings
from defenses.access.records import HOUR_HAND, linear_counts, scattered
from defenses.access.share_list import ShareList
from distill.campaigns import NEVER, PLANS, SEGMENTS, stream
from distill.campaigns.presets import preset, scaled
from experiments.campaigns.neighbour import Neighbour, Overlap
from experiments.campaigns.simulate import simulate
from experiments.campaigns.traffic import HonestTraffic
from experiments.campaigns.world import HONEST as NOBODYS
from experiments.campaigns.world import build_world
from experiments.contracts.detectors import flat_baseline
from experiments.measure.detection import clopper_pearson
from tests.defenses.access.days import events, table, watch
from tests.defenses.access.horizons import DAYS, HONEST, horizon, merged

S = len(SEGMENTS)
FILES = (rhythm, onset, plan, addresses, repeats)
NAMES = [file.Detector.name for file in FILES]
ALPHA = 1e-2


class TestRhythm:
    @pytest.mark.parametrize(("length", "n", "r", "d"), [(30, 400, 0.2, 3), (2, 90, 0.4, 1)])
    def test_flatness_is_the_ratio_of_two_densities_with_the_phase_integrated_out(
        self, length, n, r, d
    ):
        """Effective sums are normal around m r (cos, sin) with variance m / 2 in each direction."""
        m, x = n / d, length / d

        def density(strength, phase):
            away = np.array([x, 0]) - m * strength * np.array([np.cos(phase), np.sin(phase)])
            return stats.multivariate_normal.pdf(away, cov=m / 2 * np.eye(2))

        cycle = integrate.quad(lambda phase: density(r, phase) / (2 * np.pi), 0, 2 * np.pi)[0]
        expected = np.log(density(0, 0)) - np.log(cycle)
        got = rhythm.flatness(*(np.array([value], float) for value in (length, n, r, d)))
        assert got[0] == pytest.approx(expected, abs=1e-6)

    def test_it_is_blind_to_the_time_zone_and_sees_a_night(self):
        """Accounts 0 and 1 send at noon and at midnight, account 2 every five minutes all day."""
        noon, all_day = np.arange(288) % 200 + 620, np.arange(288) * 5
        minute = np.concatenate([noon, (noon + 720) % 1440, all_day])
        day = events(np.repeat([0, 1, 2], 288), minute=minute)
        score = watch(rhythm.Detector(rhythm.Settings(), flat_baseline()), table(3), [day])[0]
        assert score[0] == pytest.approx(score[1], rel=1e-4) and score[0] < 0
        usual = flat_baseline().rhythm
        assert score[2] == pytest.approx(288 / usual.design[0] * usual.strength[0] ** 2, rel=1e-3)

    def test_linked_accounts_are_one_and_too_few_exchanges_say_nothing(self):
        """Halves of a flat day on one card are flat together; the same on two cards are not."""
        minute = np.concatenate([np.arange(48) * 15, 720 + np.arange(48) * 15])
        day, accounts = events(np.repeat([0, 1], 48), minute=minute), table(2)
        detector = rhythm.Detector(rhythm.Settings(least=48), flat_baseline())
        alone = watch(detector, accounts, [day])[0]
        together = watch(detector, table(2, payment=7), [day])[0]
        assert together[0] == together[1] > 0 > alone.max()
        strict = rhythm.Detector(rhythm.Settings(least=49), flat_baseline())
        assert np.isneginf(watch(strict, accounts, [day])[0]).all()

    def test_what_is_learned_of_it_by_all_pairs_of_days(self):
        """r^2 from products of different days, and the rest: by a loop over days."""
        rng = stream(0, "rhythm")
        n_AD = rng.integers(1, 30, (40, 5))
        hands_AD = np.zeros((40, 5), complex)
        for a in range(40):
            for d in range(5):
                minute = (rng.integers(0, 300) + rng.integers(0, 700, n_AD[a, d])) % 1440
                hands_AD[a, d] = HOUR_HAND[minute].sum()
        r2, design = [], []
        for hands_D, n_D in zip(hands_AD, n_AD, strict=True):
            pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
            dots = sum((hands_D[i] * hands_D[j].conj()).real for i, j in pairs)
            r2.append(dots / sum(n_D[i] * n_D[j] for i, j in pairs))
            design.append(((abs(hands_D) ** 2).sum() - r2[-1] * (n_D**2).sum()) / n_D.sum())
        strength, effect = rhythm_moments(
            hands_AD.sum(1),
            n_AD.sum(1),
            (abs(hands_AD) ** 2).sum(1),
            (n_AD**2).sum(1),
            np.zeros(40, int),
        )
        assert strength[0] == pytest.approx(np.mean(r2) ** 0.5)
        assert effect[0] == pytest.approx(max(np.mean(design), 1))

    def test_exchanges_that_come_alone_have_no_design_effect(self):
        rng = stream(1, "alone")
        n_AD = rng.integers(5, 40, (3000, 4))
        made = np.zeros((3000, 4), complex)
        for d in range(4):
            minute = (rng.integers(0, 600, n_AD[:, d].sum()) + 400) % 1440
            starts = np.cumsum(n_AD[:, d]) - n_AD[:, d]
            made[:, d] = np.add.reduceat(HOUR_HAND[minute], starts)
        _, effect = rhythm_moments(
            made.sum(1), n_AD.sum(1), (abs(made) ** 2).sum(1), (n_AD**2).sum(1), np.zeros(3000, int)
        )
        assert 1 <= effect[0] < 1.05


class TestMoments:
    def test_means_by_plan_and_of_wider_groups_where_there_are_few(self):
        rng = stream(2, "parts")
        x, part = rng.standard_normal(300), np.repeat([0, 1, 2], [200, 95, 5])
        segment = np.where(np.arange(300) < 250, 0, 1)
        mean, sd = normal_by_part(x, segment, part, 3)
        for s, p in ((0, 0), (0, 1), (1, 1)):
            inside = x[(segment == s) & (part == p)]
            assert (mean[s, p], sd[s, p]) == pytest.approx(stats.norm.fit(inside), rel=0.02)
            assert sd[s, p] == pytest.approx(np.std(inside, ddof=1))
        assert mean[1, 2] == pytest.approx(x[segment == 1].mean())
        assert mean[5, 0] == pytest.approx(x.mean())
        assert normal_by_part(x[:5], segment[:5], part[:5], 1)[1][0, 0] == 1

    def test_a_line_is_that_of_least_squares(self):
        rng = stream(3, "line")
        x = rng.uniform(3, 8, 60)
        y = 0.3 + 0.4 * x + 0.5 * rng.standard_normal(60)
        start, slope, sd = line_by_segment(x, y, np.zeros(60, int))
        fit = stats.linregress(x, y)
        assert (start[0], slope[0]) == pytest.approx((fit.intercept, fit.slope))
        rest = y - fit.intercept - fit.slope * x
        assert sd[0] == pytest.approx((rest @ rest / 58) ** 0.5) and slope[3] == slope[0]

    @pytest.mark.parametrize("n", [1, 5, 30, 100, 200])
    def test_addresses_in_a_row_are_counted_as_if_they_were_any(self, n):
        """Within four standard errors of linear counting over 300 rows of numbers next to each
        other.
        """
        ids = np.arange(1, 300 * n + 1).reshape(300, n)
        bits = np.bitwise_or.reduce(np.uint64(1) << scattered(ids), axis=1)
        counted, load = linear_counts(bits), n / 64
        error = (64 * (np.exp(load) - load - 1)) ** 0.5
        # The estimate itself is a little too large, by half of the variance over 64 (Whang).
        bias = (np.exp(load) - load - 1) / 2
        assert abs(counted.mean() - n - bias) < 4 * error / 300**0.5 + 0.02 * n

    def test_a_baseline_of_starts_and_plans_by_a_loop(self):
        """New chat accounts on the third day after their first exchange; api customers on a plan.

        Sent so far is counted from the events alone.
        """
        population = HONEST.model_copy(update={"accounts": 1000})
        learner = BaselineFitter(release=5)
        out = simulate(population, [], learner, days=10, seed=7, release=5)
        honest = HonestTraffic(build_world(population, 10, 7), 5)
        per_day = np.array(
            [np.bincount(honest.day(d).events.account, minlength=1000) for d in range(10)]
        )
        created, segment = out.accounts.created[:1000].astype(int), out.accounts.segment[:1000]
        third = []
        for a in np.flatnonzero((segment == 0) & per_day.any(axis=0)):
            first = int(np.argmax(per_day[:, a] > 0))
            if first - created[a] <= 30 and first + 2 < 10:
                third.append(np.log1p(per_day[: first + 3, a].sum()))
        learned = learner.baseline()
        assert learned.start.mean[0, 2] == pytest.approx(np.mean(third))
        assert learned.start.sd[0, 2] == pytest.approx(np.std(third, ddof=1))
        basic, api = PLANS.index("basic"), SEGMENTS.index("api")
        n = per_day.sum(axis=0)
        rows = (segment == api) & (out.accounts.plan[:1000] == basic) & (n >= 20)
        use = np.log(n[rows] / (9 - np.maximum(created[rows], 0) + 1))
        assert rows.sum() >= 10 and learned.plan.mean[api, basic] == pytest.approx(use.mean())


def test_onset_is_a_standard_score_of_new_accounts_alone():
    """Account 0 signed up 10 days before its first exchange, account 1 a hundred."""
    days = [events([0] * 9 + [1] * 9, 3), events([0] * 10, 5), events([0] * 50, 12)]
    accounts, usual = table(2, created=np.array([-7, -97])), flat_baseline().start
    usual.mean[0, 2], usual.sd[0, 2] = 1.5, 0.5
    baseline = flat_baseline()._replace(start=usual)
    scores = watch(onset.Detector(onset.Settings(), baseline), accounts, days)
    assert scores[0, 0] == pytest.approx(np.log(10) - 1)
    assert scores[1, 0] == pytest.approx((np.log(20) - 1.5) / 0.5)
    assert scores[2, 0] == scores[1, 0], "a week later it is not new any more"
    assert np.isneginf(scores[:, 1]).all()


def test_use_is_judged_against_the_same_plan():
    """24 exchanges a day on a plan where others have 10, and on one where they have 24."""
    accounts = table(3, plan=np.array([0, 3, 0]), created=np.array([-5, -5, 1]))
    usual = flat_baseline().plan
    usual.mean[0], usual.sd[0] = np.log([10, 1, 1, 24]), 0.5
    days = [events([0] * 24 + [1] * 24, 0), events([0] * 24 + [1] * 24 + [2] * 20, 1)]
    baseline = flat_baseline()._replace(plan=usual)
    scores = watch(plan.Detector(plan.Settings(), baseline), accounts, days)
    assert scores[:, 0] == pytest.approx([np.log(2.4) / 0.5] * 2)
    assert scores[:, 1] == pytest.approx([0, 0], abs=1e-6)
    assert scores[1, 2] == pytest.approx(np.log(2) / 0.5), "since it signed up"


class TestAddresses:
    @pytest.mark.parametrize("z", [(1.5, 0.4), (-2, 1.1), (-1, -3)])
    def test_the_score_is_the_root_of_a_likelihood_ratio_against_means_above_0(self, z):
        best = optimize.minimize(
            lambda mu: ((np.array(z) - mu) ** 2).sum(), [0.5, 0.5], bounds=[(0, None)] * 2
        ).fun
        line = Line(np.zeros(S), np.zeros(S), np.ones(S))
        n, s = np.array([50]), np.zeros(1, int)
        parts = [addresses.above(np.exp([value]), n, s, line)[0] for value in z]
        assert np.hypot(*parts) ** 2 == pytest.approx((np.array(z) ** 2).sum() - best, abs=1e-4)

    def test_either_alone_is_enough_and_use_alone_is_not(self):
        """Account 0 rotates addresses, 1 clients, 2 only sends much."""
        many = np.arange(60)
        day = events(
            np.repeat([0, 1, 2], 60),
            address=np.concatenate([many, 0 * many, 0 * many]),
            client=np.concatenate([0 * many, many, 0 * many]),
        )
        detector = addresses.Detector(addresses.Settings(), flat_baseline())
        score = watch(detector, table(3), [day])[0]
        assert min(score[0], score[1]) > 2.5 and score[2] == 0

    def test_they_add_up_over_days(self):
        days = [events([0] * 30, d, address=30 * d + np.arange(30)) for d in range(3)]
        detector = addresses.Detector(addresses.Settings(), flat_baseline())
        scores = watch(detector, table(1), days)[:, 0]
        bits = np.bitwise_or.reduce(np.uint64(1) << scattered(np.arange(90)))
        z = np.log(linear_counts(np.array([bits]))) - 0.2 * np.log(90)
        assert scores[-1] == pytest.approx(z[0], rel=1e-5) and (np.diff(scores) > 0).all()


class TestRepeats:
    def test_hits_are_prompts_of_an_earlier_day_by_a_loop(self):
        rng, seen, hits = stream(4, "repeats"), {}, np.zeros(4, int)
        days = []
        for d in range(5):
            account = np.sort(rng.integers(0, 4, 80))
            prompt = rng.integers(0, 60, 80) * (rng.random(80) < 0.7)
            days.append(events(account, d, prompt=prompt))
            hits += np.bincount(account, [p > 0 and seen.get(p, d) < d for p in prompt], 4).astype(
                int
            )
            for p in prompt:
                seen.setdefault(p, d)
        detector = repeats.Detector(repeats.Settings(least=2), flat_baseline())
        watch(detector, table(4), days)
        assert detector.hits.tolist() == hits.tolist() and hits.sum() > 50

    def test_the_score_is_a_beta_binomials_standard_score(self):
        days = [events([0] * 40, d, prompt=np.arange(40)) for d in range(2)]
        detector = repeats.Detector(repeats.Settings(), flat_baseline())
        usual = flat_baseline().repeats
        a, b = (p * (1 / usual.rho[0] - 1) for p in (usual.mean[0], 1 - usual.mean[0]))
        law = stats.betabinom(80, a, b)
        score = watch(detector, table(1), days)[-1, 0]
        assert score == pytest.approx((39 - law.mean()) / law.std(), rel=1e-5)


class TestShared:
    def listed(self, **tokens):
        """Account 0 elsewhere has these tokens and is named on day 2, account 1 on day 4."""
        elsewhere = table(2, **tokens)
        return ShareList.of(elsewhere, np.array([2, 4], np.int16))

    def test_weights_are_those_of_record_linkage(self):
        """Of ten accounts here, account 0 has the card, and 0 to 3 the address; m is .5."""
        ours = table(10, network=np.array([7] * 4 + [*range(20, 26)]))
        detector = shared.Detector(shared.Settings(), flat_baseline())
        detector.receive(
            self.listed(payment=np.array([0, 99]), device=500, network=np.array([7, 98]))
        )
        scores = watch(detector, ours, [events([0], day) for day in (2, 3, 4, 5)])
        assert np.isneginf(scores[0]).all(), "what is named at a day's end is known on the next"
        card, unlisted = np.log(0.5 / (1 / 11)), np.log(0.5 / (1 - 1 / 11))
        exit_of_four = np.log(0.5 / (4 / 11))
        assert scores[1, 0] == pytest.approx(card + unlisted + exit_of_four)
        assert scores[1, 1] == pytest.approx(2 * unlisted + exit_of_four)
        assert np.isneginf(scores[:, 4:]).all() and (scores[1] == scores[3]).all()

    def test_a_token_of_two_is_known_from_the_first(self):
        listed = self.listed(payment=5)
        assert listed.tokens["payment"].tolist() == [5] and listed.since["payment"].tolist() == [2]
        assert listed.has("payment", np.array([5, 6]), 3).tolist() == [True, False]
        assert not ShareList.of(table(2), np.array([NEVER, NEVER])).has("device", np.arange(9), 9)[
            0
        ]


@pytest.fixture(scope="module")
def parts(baseline):
    return lambda: [file.Detector(file.Settings(), baseline) for file in FILES]


@pytest.fixture(scope="module")
def calm(baseline, parts):
    """Six clean horizons: four to calibrate on, two to be judged by."""
    return [horizon(baseline, seed=100 + seed, parts=parts()) for seed in range(6)]


@pytest.fixture(scope="module")
def limits(calm):
    made = Calibration(*merged(calm[:4]))
    return {name: made.threshold(name, ALPHA)[None] for name in NAMES}


HOT = scaled(
    preset(
        "qwen_2026",
        days=DAYS,
        exchanges=28_800_000 * DAYS // 44,
        pathways={"chat": 1.0},
        start=0,
    ),
    0.006,
)


def caught(baseline, parts, limits, **changes):
    run = horizon(
        baseline, [HOT.model_copy(update=changes)], seed=140, thresholds=limits, parts=parts()
    )
    rows = slice(run.out.first, run.out.accounts.count)
    return {name: (held[0, rows] < NEVER).mean() for name, held in run.watch.crossed.items()}


class TestPlanted:
    """Campaigns that show one indicator, beside what they look like without it."""

    def test_a_flat_day(self, baseline, parts, limits):
        flat = caught(baseline, parts, limits, peak=1.0)["rhythm"]
        assert flat > 0.95 and caught(baseline, parts, limits, peak=4.0)["rhythm"] < 0.1

    def test_a_flat_day_among_customers_who_have_none(self, baseline, parts, limits):
        """One in four api customers runs around the clock: nothing is left to see."""
        assert caught(baseline, parts, limits, peak=1.0, pathways={"api": 1.0})["rhythm"] < 0.05

    def test_full_quota_from_the_first_day(self, baseline, parts, limits):
        cold = HOT.model_copy(update={"exchanges": 4 * DAYS * HOT.accounts})
        full = caught(baseline, parts, limits)["onset"]
        assert full > 0.9
        assert caught(baseline, parts, limits, exchanges=cold.exchanges)["onset"] < 0.05

    def test_more_than_the_plan_is_used_for(self, baseline, parts, limits):
        much = {"exchanges": 10 * HOT.exchanges}
        assert caught(baseline, parts, limits, **much)["plan"] > 0.9
        assert caught(baseline, parts, limits)["plan"] < 0.1

    @pytest.mark.parametrize("many", [{"addresses": 300}, {"clients": 40}])
    def test_many_addresses_or_clients(self, baseline, parts, limits, many):
        assert caught(baseline, parts, limits, **many)["addresses"] > 0.9
        assert caught(baseline, parts, limits)["addresses"] < 0.05

    def test_known_questions(self, baseline, parts, limits):
        """One exchange in twenty is one of thirty known questions, which the referee plants."""

        class Planted(type(horizon(baseline, seed=1, parts=[]).watch)):
            def serve(self, sent):
                theirs = np.flatnonzero(sent.account >= HONEST.accounts)
                u = stream(sent.day, "plant").random((2, len(theirs)))
                sent.prompt[theirs] = np.where(u[0] < 0.05, 900_000 + (30 * u[1]).astype(int), 0)
                return super().serve(sent)

        watcher = Planted(parts(), limits)
        out = simulate(HONEST, [HOT], watcher, days=DAYS, seed=140)
        flagged = watcher.crossed["repeats"][0, out.first : out.accounts.count] < NEVER
        assert flagged.mean() > 0.9
        assert caught(baseline, parts, limits)["repeats"] < 0.05

    @pytest.mark.parametrize("segment", SEGMENTS)
    @pytest.mark.parametrize("name", NAMES)
    def test_clean_horizons_hold_the_stated_rate(self, calm, limits, name, segment):
        """1 % of customers, at a level that all 30 share: never above by Clopper and Pearson's
        interval nor by the exact law of the count (the threshold is an estimate).
        """
        s = SEGMENTS.index(segment)
        past = Calibration(*merged(calm[:4])).sorted[name][s]
        judged = Calibration(*merged(calm[4:])).sorted[name][s]
        n, m = len(past), len(judged)
        rank = int(np.ceil((n + 1) * (1 - ALPHA) - 1e-9))
        false = int((judged > limits[name][0, s]).sum())
        level = 0.05 / (len(NAMES) * S)
        law = stats.betabinom(m, n + 1 - rank, rank)
        assert n >= 99 and clopper_pearson(false, m, level).lo <= ALPHA
        assert law.sf(false - 1) >= level / 2


class TestTwoProviders:
    """The first closes and shares what it finds; the second is told."""

    LOOP = HOT.model_copy(update={"respawns": 1.0, "addresses": 300, "pathways": {"chat": 1.0}})

    def first(self, baseline, limits, seed=150):
        rules = tuple(
            Rule(detector="addresses", rate=ALPHA, action=action) for action in ("share", "ban")
        )
        detector = addresses.Detector(addresses.Settings(), baseline)
        provider = PolicyEnforcer(Settings(rules=rules), [detector], limits, [ALPHA])
        return simulate(HONEST, [self.LOOP], provider, days=DAYS, seed=seed), provider

    def second(self, baseline, first, received, overlap, **changes):
        rules = (Rule(detector="shared", rate=ALPHA, action="ban"),)
        detector = shared.Detector(shared.Settings(), baseline)
        any_match = {"shared": np.full((1, S), 4.0)}
        provider = PolicyEnforcer(Settings(rules=rules, **changes), [detector], any_match, [ALPHA])
        provider.receive(received)
        neighbour = Neighbour(first.accounts, first.truth, overlap)
        out = simulate(HONEST, [self.LOOP], provider, days=DAYS, seed=151, neighbour=neighbour)
        return out, provider

    def test_what_one_closes_the_other_suspects_and_turns_away(self, baseline, limits):
        there, provider = self.first(baseline, limits)
        named = provider.hands_on()
        shared_out = provider.done["share"][: there.accounts.count] < NEVER
        assert shared_out[there.first :].mean() > 0.8
        out, second = self.second(baseline, there, named, Overlap(both=0.3, pool=0.7))
        guilty = slice(out.first, out.first + self.LOOP.accounts)
        closed = out.accounts.closed[guilty] < NEVER
        assert 0.5 < closed.mean() < 0.9, "about those that use tokens from there"
        assert (out.accounts.closed[: out.first] < NEVER).mean() < 0.02
        assert second.turned_away == 0
        _, strict = self.second(
            baseline, there, named, Overlap(both=0.3, pool=0.7), turns_away=True
        )
        assert strict.turned_away > 0

    def test_operators_who_share_nothing_are_not_known(self, baseline, limits):
        there, provider = self.first(baseline, limits)
        out, _ = self.second(baseline, there, provider.hands_on(), Overlap(both=0.3, pool=0.0))
        assert (out.accounts.closed[out.first : out.accounts.count] == NEVER).all()

    def test_customers_of_both_have_one_card_and_others_none_in_common(self, baseline, limits):
        there, _ = self.first(baseline, limits)
        for both, least, most in ((0.0, 0, 0), (0.5, 0.35, 0.55), (1.0, 0.85, 1)):
            neighbour = Neighbour(there.accounts, there.truth, Overlap(both=both, pool=0))
            out = simulate(HONEST, [], None, days=2, seed=152, neighbour=neighbour)
            honest = out.truth.campaign[: out.accounts.count] == NOBODYS
            same = np.isin(
                out.accounts.payment[: out.accounts.count][honest],
                there.accounts.payment[: there.first],
            )
            assert least <= same.mean() <= most
            exits = np.isin(out.accounts.network[:3000], there.accounts.network[: there.first])
            assert exits.mean() > 0.05, "VPN exits and campuses are the same"

    def test_only_the_rules_that_share_hand_something_on(self, baseline, limits):
        rules = (Rule(detector="addresses", rate=ALPHA, action="ban"),)
        detector = addresses.Detector(addresses.Settings(), baseline)
        provider = PolicyEnforcer(Settings(rules=rules), [detector], limits, [ALPHA])
        simulate(HONEST, [self.LOOP], provider, days=4, seed=150)
        assert not any(len(tokens) for tokens in provider.hands_on().tokens.values())


class TestDowngrade:
    def test_a_share_of_a_suspects_requests_and_of_nobody_elses(self, baseline, limits):
        rules = (Rule(detector="addresses", rate=ALPHA, action="downgrade"),)
        many = HOT.model_copy(update={"addresses": 300})

        class Noted(PolicyEnforcer):
            def serve(self, sent):
                reply = super().serve(sent)
                late = self.done["downgrade"][sent.account] < sent.day
                assert not reply.reduced[~late].any()
                assert (reply.value[reply.reduced] == np.float32(0.3)).all()
                assert (reply.value[~reply.reduced] == 1).all()
                self.counted += [int(late.sum()), int(reply.reduced.sum())]
                return reply

        detector = addresses.Detector(addresses.Settings(), baseline)
        provider = Noted(Settings(rules=rules, downgraded=0.4), [detector], limits, [ALPHA])
        provider.counted = np.zeros(2, int)
        out = simulate(HONEST, [many], provider, days=DAYS, seed=140)
        late, reduced = provider.counted
        assert late > 5000 and abs(reduced / late - 0.4) < 4 * (0.24 / late) ** 0.5
        # What is counted: of the campaign's exchanges and of honest ones, those served.
        assert out.reduced_NDC.sum() <= reduced and out.reduced_SD.sum() > 0
        wanted = out.leaked_ADC.sum(axis=0).astype(int)
        assert (out.reduced_NDC[0] <= wanted).all()
        value = wanted.sum() - 0.7 * out.reduced_NDC.sum()
        assert out.value_AD.sum() == pytest.approx(value, rel=1e-4)
