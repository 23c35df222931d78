"""Whole horizons: false alarms where nobody attacks, leaks where somebody does, and the closed
loop.
"""

import numpy as np
import pytest
from scipy import stats

from defenses.access import (
    BaselineFitter,
    content,
    fusion,
    homogeneity,
    oracle,
    spawn,
    templates,
    volume,
)
from defenses.access.calibration import Calibration, conformal
from defenses.access.gateway import Settings as Limits
from defenses.access.gateway import Tier
from defenses.access.policy import PolicyEnforcer, Rule, Settings
from distill.campaigns import NEVER, SEGMENTS
from distill.campaigns.presets import preset, scaled
from experiments.campaigns.population import HONEST_SEGMENTS, Population
from experiments.campaigns.simulate import simulate
from experiments.campaigns.traffic import HonestTraffic
from experiments.campaigns.world import build_world
from experiments.measure.detection import clopper_pearson
from tests.defenses.access.horizons import DAYS, HONEST, RELEASE, detectors, horizon, merged

SMOOTH = (
    "volume",
    "phrase",
    "content",
    "average",
    "mmd",
    "pivot",
)  # scores without ties: two-sided
NAMES = (*SMOOTH, "homogeneity", "templates", "cotiming")
LEVELS = (1e-2, 1e-3)
FEW = HONEST.model_copy(update={"accounts": 1000})

QWEN = scaled(
    preset("qwen_2026", days=DAYS, exchanges=28_800_000 * DAYS // 44, templates=400, pivot=0.5),
    0.006,
)


def flagged(run, level=0):
    """By detector: which campaign accounts were flagged within the horizon."""
    rows = slice(run.out.first, run.out.accounts.count)
    return {name: held[level, rows] < NEVER for name, held in run.watch.crossed.items()}


def leaks(run, level=0):
    """By detector: share of a first campaign's wanted exchanges that it got before
    it was flagged.
    """
    return {
        name: run.out.got(0, held[level]).sum() / run.out.got(0).sum()
        for name, held in run.watch.crossed.items()
    }


@pytest.fixture(scope="module")
def thresholds(calibration):
    return {
        name: np.stack([calibration.threshold(name, level) for level in LEVELS])
        for name in calibration.sorted
    }


@pytest.fixture(scope="module")
def attacked(baseline, thresholds):
    return horizon(baseline, [QWEN], seed=40, thresholds=thresholds)


class TestNobodyAttacks:
    @pytest.mark.parametrize("segment", SEGMENTS)
    @pytest.mark.parametrize("name", NAMES)
    def test_false_alarms_over_the_whole_horizon_are_as_rare_as_stated(
        self, clean, calibration, name, segment
    ):
        """1 % of customers, in every segment, at a level that all 54 share: never above by Clopper
        and Pearson's interval; neither above nor below by the exact law of the count, beta-binomial
        as the threshold is an estimate.
        """
        s, alpha = SEGMENTS.index(segment), LEVELS[0]
        past, judged = calibration.sorted[name][s], Calibration(*merged(clean[4:])).sorted[name][s]
        n, m = len(past), len(judged)
        rank = int(np.ceil((n + 1) * (1 - alpha) - 1e-9))
        assert n >= 99, "too few customers to calibrate on"
        false = int((judged > calibration.threshold(name, alpha)[s]).sum())
        level = 0.05 / (len(NAMES) * len(SEGMENTS))
        interval, law = clopper_pearson(false, m, level), stats.betabinom(m, n + 1 - rank, rank)
        assert interval.lo <= alpha and law.sf(false - 1) >= level / 2
        if name in SMOOTH:
            assert law.cdf(false) >= level / 2

    def test_a_threshold_for_one_day_is_no_threshold_for_a_horizon(self, baseline, clean):
        """What 1 % of chat customers exceed within their first week, several per cent exceed within
        three.
        """
        week = horizon(
            baseline, seed=0, parts=[volume.Detector(volume.Settings(window=1), baseline)]
        )
        days = simulate_days(week.out, 7)
        chat = week.out.accounts.segment[: week.out.first] == 0
        limit = conformal(days[0][chat], LEVELS[0])
        assert (week.watch.highest["volume"][: week.out.first][chat] > limit).mean() > 3 * LEVELS[0]

    def test_small_segments_are_never_judged_at_rates_that_they_cannot_show(self, thresholds):
        assert np.isinf(thresholds["volume"][1, SEGMENTS.index("reseller")])


def simulate_days(out, days):
    """Each honest account's exchanges on single days, drawn again from the same seed."""
    made = build_world(HONEST, DAYS, 0)
    honest = HonestTraffic(made)
    return [
        np.bincount(honest.day(day).events.account, minlength=out.first)[: out.first]
        for day in range(days)
    ]


class TestLawful:
    def test_a_benign_twin_is_not_closed(self, baseline, calibration):
        """150,000 exchanges of one group in 14 days are in the last per cent of research: at 4 in
        1,000, no alarm.
        """
        limits = {name: calibration.threshold(name, 4e-3)[None] for name in NAMES}
        assert all(np.isfinite(limits["volume"][0, :5])), (
            "a threshold that nothing reaches would show nothing"
        )
        twins = [preset("academic_benign_twin", start=start) for start in range(3)]
        for name, caught in flagged(
            horizon(baseline, twins, seed=50, thresholds=limits, population=FEW)
        ).items():
            assert not caught.any(), name

    def test_resellers_are_flagged_no_more_often_than_stated_beside_a_campaign(self, attacked):
        rows = np.flatnonzero(
            attacked.out.accounts.segment[: attacked.out.first] == SEGMENTS.index("reseller")
        )
        customers = np.unique(attacked.out.truth.owner[rows])
        for name, crossed in attacked.watch.crossed.items():
            hit = np.unique(attacked.out.truth.owner[rows[crossed[0, rows] < NEVER]])
            assert clopper_pearson(len(hit), len(customers), 0.05 / len(NAMES)).lo <= LEVELS[0], (
                name
            )

    def test_calibrated_on_single_accounts_pooling_would_close_resellers(self, clean, calibration):
        """Why thresholds are by segment: at the threshold of api customers, most resellers are too
        average.
        """
        highest = Calibration(*merged(clean[4:])).sorted["average"]
        limit = calibration.threshold("average", LEVELS[0])
        assert (highest[SEGMENTS.index("reseller")] > limit[SEGMENTS.index("api")]).mean() > 0.5


class TestAttacked:
    def test_volume_sees_nothing_of_many_cold_accounts_and_links_see_all(self, attacked):
        caught, leaked = flagged(attacked), leaks(attacked)
        assert caught["volume"].mean() == 0 and leaked["volume"] == 1
        assert caught["homogeneity"].mean() > 0.99 and leaked["homogeneity"] < 0.3
        assert caught["templates"].mean() > 0.9
        assert caught["pivot"].mean() > 0.9

    def test_few_hot_accounts_show_in_volume(self, baseline, thresholds):
        hot = scaled(preset("moonshot_2026", days=DAYS, exchanges=3_400_000 * DAYS // 60), 0.05)
        hot = hot.model_copy(update={"pathways": {"chat": 1.0}})
        assert (
            flagged(horizon(baseline, [hot], seed=41, thresholds=thresholds))["volume"].mean() > 0.3
        )

    def test_synchronised_bursts_show_in_cotiming_and_phrases(self, baseline, thresholds):
        loud = preset("deepseek_2026", days=DAYS, pathways={"api": 1.0})
        caught = flagged(horizon(baseline, [loud], seed=42, thresholds=thresholds))
        assert caught["cotiming"].mean() > 0.9 and caught["phrase"].mean() > 0.9

    def test_no_detector_leaks_less_than_the_oracle(self, baseline, thresholds, attacked):
        guilty = np.zeros(attacked.out.accounts.capacity, bool)
        guilty[attacked.out.first :] = True
        all_of_them = {**thresholds, "oracle": np.zeros((len(LEVELS), len(SEGMENTS)))}
        parts = [*detectors(baseline), oracle.Detector(oracle.Settings(), baseline, guilty)]
        run = horizon(baseline, [QWEN], seed=40, thresholds=all_of_them, parts=parts)
        for level in range(len(LEVELS)):
            leaked = leaks(run, level)
            assert 0 < leaked["oracle"] <= min(leaked.values())
        assert flagged(run)["oracle"].all()

    def test_the_same_seed_gives_the_same_scores_and_another_others(
        self, baseline, thresholds, attacked
    ):
        again = horizon(baseline, [QWEN], seed=40, thresholds=thresholds)
        for name in NAMES:
            assert attacked.watch.highest[name].tobytes() == again.watch.highest[name].tobytes()
            assert attacked.watch.crossed[name].tobytes() == again.watch.crossed[name].tobytes()

    def test_watching_together_changes_no_score(self, baseline, attacked):
        alone = horizon(
            baseline,
            [QWEN],
            seed=40,
            parts=[homogeneity.Detector(homogeneity.Settings(), baseline)],
        )
        assert (alone.watch.highest["homogeneity"] == attacked.watch.highest["homogeneity"]).all()

    def test_the_campaign_is_caught_with_an_interval(self, attacked, thresholds):
        caught = attacked.watch.crossed["homogeneity"][0] < NEVER
        first, count = attacked.out.first, attacked.out.accounts.count
        campaign = caught[first:count]
        assert clopper_pearson(int(campaign.sum()), len(campaign)).lo > 0.9


class TestMetamorphic:
    def test_next_to_no_distillation_in_the_mix_leaks_everything(self, baseline, thresholds):
        """Nothing shared, one customer's cover, a hundred thousand templates: as mix falls to 0,
        nobody sees it.
        """
        quiet = QWEN.model_copy(
            update={
                "per_payment": 1,
                "per_network": 1,
                "cover": "persona",
                "templates": 100_000,
                "pivot": 0.0,
            }
        )
        mixes = (1.0, 0.2, 0.01)
        idle = flagged(
            horizon(
                baseline,
                [quiet.model_copy(update={"mix": 0.0})],
                seed=43,
                thresholds=thresholds,
                population=FEW,
            )
        )
        leaked = [
            leaks(
                horizon(
                    baseline,
                    [quiet.model_copy(update={"mix": mix})],
                    seed=43,
                    thresholds=thresholds,
                    population=FEW,
                )
            )
            for mix in mixes
        ]
        for name in NAMES:  # all that is left are false alarms at the cover
            assert leaked[2][name] >= 1 - idle[name].mean() - 0.02 > 0.9, name
        assert leaked[0]["content"] < leaked[1]["content"] and leaked[0]["content"] < 0.7

    def test_more_accounts_on_one_card_never_leak_more(self, baseline, thresholds):
        """To what looks at links, and to all detectors together: spread alone counts linked
        accounts as one.
        """
        runs = [
            horizon(
                baseline,
                [QWEN.model_copy(update={"per_payment": n, "per_network": 1})],
                seed=44,
                thresholds=thresholds,
                population=FEW,
            )
            for n in (1, 4, 20)
        ]
        for names in (("homogeneity",), NAMES):
            leaked = [
                run.out.got(0, np.min([run.watch.crossed[n][0] for n in names], axis=0)).sum()
                for run in runs
            ]
            assert leaked[0] >= leaked[1] >= leaked[2]
        assert leaks(runs[0])["homogeneity"] == 1 > leaks(runs[2])["homogeneity"]

    def test_more_templates_never_spread_sooner(self, baseline, thresholds):
        leaked = [
            leaks(
                horizon(
                    baseline,
                    [QWEN.model_copy(update={"templates": n, "per_payment": 1})],
                    seed=45,
                    thresholds=thresholds,
                    population=FEW,
                )
            )["templates"]
            for n in (50, 500, 5000, 50_000)
        ]
        assert leaked == sorted(leaked) and leaked[0] < 0.3 and leaked[-1] > 0.95

    def test_honest_customers_who_differ_less_are_told_apart_from_campaigns_more_easily(
        self, baseline
    ):
        """The parameter that conclusions hang on: content at 1 % false alarms, calibrated anew for
        each.
        """
        seen = []
        for concentration in (10.0, 1000.0):
            alike = HONEST.model_copy(update={"concentration": concentration})
            learner = BaselineFitter(release=3)
            simulate(alike, [], learner, days=5, seed=1001, release=3)
            past = learner.baseline()
            parts = [content.Detector(content.Settings(share=0.1), past)]
            honest = horizon(past, seed=60, population=alike, parts=parts)
            threshold = Calibration(*merged([honest])).threshold("content", LEVELS[0])
            limits = {"content": threshold[None]}
            mixed = QWEN.model_copy(update={"mix": 0.2, "cover": "persona"})
            run = horizon(past, [mixed], seed=62, population=alike, thresholds=limits, parts=parts)
            seen.append(flagged(run)["content"].mean())
        assert seen[0] < 0.5 and seen[1] > seen[0] + 0.25


class TestFusion:
    def test_left_out_campaigns_are_caught_by_what_others_taught(
        self, baseline, clean, calibration
    ):
        kinds = [
            QWEN,
            QWEN.model_copy(update={"per_payment": 1, "per_network": 1}),
            preset("deepseek_2026", days=DAYS),
            preset("gtig_trace_coercion"),
        ]
        runs = []
        for number, kind in enumerate(kinds):
            run = horizon(baseline, [kind], seed=70 + number, population=FEW)
            existing = slice(run.out.accounts.count)
            highest = {name: held[existing] for name, held in run.watch.highest.items()}
            x = fusion.features(highest, run.out.accounts.segment[existing], calibration)
            runs.append((x, run.out.truth.campaign[existing] >= 0))
        scores = fusion.held_out(runs, fusion.Settings().ridge)
        for (x, guilty), score in zip(runs, scores, strict=True):
            fused = (score[guilty] > np.quantile(score[~guilty], 0.99)).mean()
            alone = [(one[guilty] > np.quantile(one[~guilty], 0.99)).mean() for one in x.T]
            assert fused > np.median(alone), "better than a detector picked blindly"
        weights = fusion.fit(
            np.concatenate([x for x, _ in runs]), np.concatenate([g for _, g in runs]), 1e-3
        )
        parts = [
            homogeneity.Detector(homogeneity.Settings(), baseline),
            templates.Detector(templates.Settings(), baseline),
        ]
        few = fusion.Weights(
            weights.intercept, weights.weights[[sorted(NAMES).index(p.name) for p in parts]]
        )
        live = fusion.Detector(fusion.Settings(), baseline, parts, calibration, few)
        run = horizon(baseline, [QWEN], seed=75, parts=[live], population=FEW)
        score = run.watch.highest["fusion"][: run.out.accounts.count]
        assert np.median(score[run.out.first :]) > np.quantile(score[: run.out.first], 0.99)


def desk(baseline, thresholds, *rules, **changes):
    policy_rules = [Rule(detector=name, rate=LEVELS[0], action=action) for name, action in rules]
    parts = [one for one in detectors(baseline) if one.name in {name for name, _ in rules}]
    if any(name == "spawn" for name, _ in rules):
        parts.append(spawn.Detector(spawn.Settings(), baseline))
        thresholds = {**thresholds, "spawn": np.full((len(LEVELS), len(SEGMENTS)), 3.0)}
    wide = Limits(
        tiers=(Tier(requests=1e9, tokens_in=1e12, tokens_out=1e12, dollars=1e9, spent=0, age=0),)
    )
    return PolicyEnforcer(
        Settings(rules=tuple(policy_rules), **{"limits": wide} | changes), parts, thresholds, LEVELS
    )


def live(baseline, thresholds, *rules, campaign, seed=40, **changes):
    provider = desk(baseline, thresholds, *rules, **changes)
    out = simulate(FEW, [campaign], provider, days=DAYS, seed=seed, release=RELEASE)
    return out, provider


LOOP = QWEN.model_copy(
    update={"exchanges": 6 * DAYS * QWEN.accounts}
)  # slow enough for bans to take days


class TestClosedLoop:
    one_shot = LOOP.model_copy(update={"respawns": 0.0})

    def test_live_bans_leak_what_shadow_mode_said(self, baseline, thresholds):
        """Without replacements, and with a detector that looks at no one else's events, the two
        must agree exactly.
        """
        shadow = horizon(baseline, [self.one_shot], seed=40, thresholds=thresholds, population=FEW)
        out, provider = live(baseline, thresholds, ("average", "ban"), campaign=self.one_shot)
        closed = shadow.watch.crossed["average"][0]
        assert out.got(0).sum() == shadow.out.got(0, closed).sum() < 0.9 * shadow.out.got(0).sum()
        assert (out.accounts.closed[: out.accounts.count] == closed[: out.accounts.count]).all()

    def test_replacements_leak_more_and_spawn_detection_takes_some_back(self, baseline, thresholds):
        again = LOOP.model_copy(update={"respawns": 4.0, "templates": 100})
        none, _ = live(
            baseline,
            thresholds,
            ("homogeneity", "ban"),
            campaign=again.model_copy(update={"respawns": 0.0}),
        )
        some, _ = live(baseline, thresholds, ("homogeneity", "ban"), campaign=again)
        heirs, _ = live(
            baseline, thresholds, ("homogeneity", "ban"), ("spawn", "ban"), campaign=again
        )
        assert none.got(0).sum() < heirs.got(0).sum() < some.got(0).sum()

    def test_latency_leaks_more(self, baseline, thresholds):
        rule = ("homogeneity", "ban")
        leaked = [
            live(baseline, thresholds, rule, campaign=self.one_shot, latency=days)[0].got(0).sum()
            for days in (0, 3)
        ]
        assert leaked[0] < leaked[1]

    def test_banning_a_cluster_leaks_no_more_than_banning_accounts(self, baseline, thresholds):
        leaked = [
            live(baseline, thresholds, ("templates", action), campaign=self.one_shot)[0]
            .got(0)
            .sum()
            for action in ("ban", "ban_cluster")
        ]
        assert leaked[1] <= leaked[0]

    def test_shared_indicators_turn_reused_cards_away(self, baseline, thresholds):
        reuse = LOOP.model_copy(update={"respawns": 1.0, "reuse": 1.0})
        rules = (("homogeneity", "ban"), ("homogeneity", "share"))
        open_door, _ = live(baseline, thresholds, rules[0], campaign=reuse)
        out, provider = live(baseline, thresholds, *rules, campaign=reuse)
        turned = out.accounts.closed[out.first :] == out.accounts.created[out.first :]
        assert provider.turned_away == turned.sum() > 0 and out.leaked_ADC[turned].sum() == 0
        assert out.got(0).sum() < open_door.got(0).sum()

    def test_identity_checks_stop_campaigns_and_few_others(self, baseline, thresholds):
        out, provider = live(
            baseline, thresholds, ("homogeneity", "verify"), campaign=self.one_shot
        )
        checked = provider.done["verify"][: out.accounts.count] < NEVER
        guilty = np.arange(out.accounts.count) >= out.first
        closed = out.accounts.closed[: out.accounts.count] < NEVER
        assert 0.85 < closed[checked & guilty].mean() < 1
        assert closed[checked & ~guilty].mean() < 0.2 if (checked & ~guilty).any() else True
        assert not closed[~checked].any()

    def test_reduced_answers_leak_at_their_worth_and_throttled_ones_are_few(
        self, baseline, thresholds
    ):
        out, provider = live(
            baseline, thresholds, ("homogeneity", "reduce"), campaign=self.one_shot, worth=0.25
        )
        late = provider.done["reduce"][out.first : out.accounts.count, None] < np.arange(DAYS)
        count = out.leaked_ADC.sum(axis=2)
        assert (out.value_AD == np.where(late, 0.25, 1) * count).all() and late.mean() > 0.5
        limits = Limits(
            tiers=(
                Tier(requests=1e9, tokens_in=1e12, tokens_out=1e12, dollars=1e9, spent=0, age=0),
            ),
            throttled=2,
        )
        out, provider = live(
            baseline, thresholds, ("homogeneity", "throttle"), campaign=self.one_shot, limits=limits
        )
        late = provider.done["throttle"][out.first : out.accounts.count, None] < np.arange(DAYS)
        assert out.leaked_ADC.sum(axis=2)[late].max() <= 2

    def test_canaries_change_nothing_but_are_counted(self, baseline, thresholds):
        out, provider = live(
            baseline, thresholds, ("homogeneity", "canary"), campaign=self.one_shot
        )
        clean = horizon(baseline, [self.one_shot], seed=40, population=FEW, parts=[]).out
        assert (out.leaked_ADC == clean.leaked_ADC).all()
        assert (provider.done["canary"][out.first :] < NEVER).mean() > 0.9

    def test_default_limits_bind_few_honest_customers(self, baseline, thresholds):
        out, provider = live(
            baseline, thresholds, ("volume", "canary"), campaign=LOOP, limits=Limits()
        )
        chat = SEGMENTS.index("chat")
        assert out.refused_SD[chat].sum() < 0.001 * out.sent_SD[chat].sum()
        hit = provider.gateway.refused[: out.first] > 0
        assert (
            hit.mean() < 0.1 and provider.gateway.refused[: out.first].sum() == out.refused_SD.sum()
        )

    def test_after_each_ban_an_adapting_campaign_mixes_less(self, baseline, thresholds):
        stay = LOOP.model_copy(update={"respawns": 2.0})
        shares = []
        for adapts in (1.0, 0.5):
            out, _ = live(
                baseline,
                thresholds,
                ("homogeneity", "ban"),
                campaign=stay.model_copy(update={"adapts": adapts}),
            )
            shares.append(out.leaked_ADC[stay.accounts :].sum())  # by those that came later
        assert 0 < shares[1] < shares[0]

    def test_a_rule_without_a_threshold_is_refused(self, baseline):
        with pytest.raises(ValueError, match="no threshold for volume at a rate of 0.01"):
            PolicyEnforcer(
                Settings(rules=(Rule(detector="volume", rate=0.01, action="ban"),)),
                detectors(baseline),
                {},
                LEVELS,
            )


def test_a_population_as_published_is_near_its_stated_sizes():
    assert Population().sizes()["reseller"] == 900 and HONEST_SEGMENTS["chat"].share == 0.70
