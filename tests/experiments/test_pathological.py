"""Inputs on which published evaluations print a number: each has a behaviour of its own here (one
test a row).
"""

import numpy as np
import pytest

from experiments.measure import curves, flags, frontier, power
from experiments.measure.contrast import arm_mean, contrast, variance
from experiments.measure.scores import Arm, NotMeasurable, bounded
from experiments.measure.transfer import seeds_unseen, transfer, unseen, worst_case
from experiments.measure.utility import non_inferiority
from experiments.measure.verdict import Case, Rules, judge

N = 400


def arm(mean, seeds=8, items=N, seed=0, spread=0.01):
    """Seeds x items of 0 and 1 with the given mean and SD between seeds."""
    rng = np.random.default_rng([seed, seeds, items])
    p = np.clip(mean + rng.normal(0, spread, (seeds, 1)), 0, 1)
    return (rng.random((seeds, items)) < p).astype(float)


F, U, D, T = arm(0.1, seed=1), arm(0.8, seed=2), arm(0.2, seed=3), arm(0.95, 3, seed=4, spread=0)
ADAPTIVE = {"adaptive": (True, True)}


def case(**changes):
    """A case of arms that share no seed; teachers have seeds of their own."""
    parts = (
        {"floor": F, "undefended": [U], "attacks": [D, D], "clean": T, "guarded": T}
        | ADAPTIVE
        | changes
    )

    def as_arm(Y, i):
        return Y if isinstance(Y, Arm) else Arm(Y, tuple(range(100 * i, 100 * i + len(Y))))

    first = {"floor": 0, "clean": 8, "guarded": 8}
    parts |= {name: as_arm(parts[name], i) for name, i in first.items()}
    parts |= {
        name: [as_arm(Y, i + k) for k, Y in enumerate(parts[name])]
        for name, i in (("undefended", 1), ("attacks", 4))
    }
    return Case(**parts)


def word(rules=None, **changes):
    return judge([case(**changes)], rules or Rules())[0]


def test_the_case_that_the_others_vary_is_effective_without_remarks():
    got = word()
    assert (got.word, got.remarks) == ("effective", ())
    stronger = word(attacks=[arm(0.02, seed=3)] * 2)
    assert (stronger.word, stronger.remarks) == ("effective", ())
    assert word(attacks=[arm(0.0, seed=3, spread=0)] * 2, floor=arm(0.2)).remarks == (
        "effective at 0.25 as well",
    )


def test_teacher_no_better_than_the_floor():
    got = word(clean=arm(0.1, 3, seed=5))
    assert got.word == "not measurable" and "no capability to protect" in got.rule


def test_undefended_student_not_above_the_floor():
    weak = arm(0.1, seed=6)
    got = word(undefended=[weak])
    assert got.word == "not measurable" and "stronger student" in got.rule
    share = transfer(F, weak, D)
    assert (share.value, share.lo, share.kind) == (None, None, "not identified")


def test_distillation_that_hurts_is_said():
    assert transfer(U, F, D).kind == "harmful"
    assert "distillation hurts the student" in word(floor=U, undefended=[F]).rule


def test_zero_variance_refuses_an_interval_and_says_why():
    zeros, ones = np.zeros((3, N)), np.ones((3, N))
    e = contrast([zeros, ones], [-1, 1])
    assert e.value == 1 and e.se == 0 and np.isnan(e.lo) and np.isnan(e.hi)
    share = transfer(zeros, ones, ones)
    assert (share.value, share.lo, share.kind) == (1.0, None, "identical outputs")
    assert "identical outputs" in word(floor=zeros, undefended=[ones], attacks=[ones, ones]).rule


def test_a_floor_of_nothing_gets_the_upper_bound_of_n_trials():
    e = arm_mean(np.zeros((3, 300)))
    # Wilson 1927 for 0 of n: z^2 / (n + z^2), near the rule of three (3 / n).
    assert e.lo == 0 and e.hi == pytest.approx(1.96**2 / (300 + 1.96**2), rel=1e-3)


def test_identical_arms_are_aliases():
    with pytest.raises(NotMeasurable, match="arms are aliases: b and a"):
        flags.distinct({"a": "x", "b": "x", "c": "y"})
    flags.distinct({"a": "x", "b": "y"})
    assert (
        word(invalid=("arms are aliases: every answer equals that of the undefended arm",)).word
        == "invalid run"
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_refused(bad):
    broken = D.copy()
    broken[0, 0] = bad
    for refuse in (
        lambda: contrast([F, broken], [-1, 1]),
        lambda: transfer(F, U, broken),
        lambda: bounded(broken),
    ):
        with pytest.raises(NotMeasurable, match="not finite"):
            refuse()


def test_missing_students_give_bounds_and_no_verdict():
    got = word(missing=("2 of 5 students of sft",))
    assert got.word == "not measurable" and "2 of 5 students" in got.rule
    # By hand: T = 0.5 from three of five students; the missing two as F give 0.3, as U 0.7.
    f, u, d = np.zeros((5, 4)), np.ones((5, 4)), np.full((3, 4), 0.5)
    assert flags.bounds_if_missing(f, u, d, 5) == pytest.approx((0.5, 0.3, 0.7))


def test_a_diverged_student_is_flagged_and_counted():
    assert flags.under_trained([[1.0, 1.0]] * 3, [True, False, False]) == "1 of 3 diverged"
    assert (
        flags.under_trained([[], [1.0]], [False] * 2, [0, 7])
        == "1 of 2 learned from no token at all"
    )
    assert flags.under_trained([[2.0, 0.01], [2.0, 0.02], [2.0, None]], [False] * 3) == ""
    under_trained = flags.under_trained(
        [[2.0, 0.056], [2.0, 0.0026], [2.0, 0.01], [2.0, 0.004]], [False] * 4
    )
    assert under_trained == "1 of 4 end at over 3 x the median loss (0.056, median 0.007)"


def test_unequal_seeds_are_supported():
    share = transfer(arm(0.1, 3, seed=7), arm(0.8, 5, seed=8), arm(0.4, 8, seed=9))
    assert share.lo < 0.43 < share.hi


class TestPairing:
    """Arms that list the same seeds are contrasted seed by seed; others as independent ones."""

    seeds = tuple(range(6))
    luck = np.linspace(-0.15, 0.15, 6)[:, None]

    def both(self):
        rng = np.random.default_rng(5)
        return [(rng.random((6, N)) < mean + self.luck).astype(float) for mean in (0.7, 0.65)]

    def test_the_same_seeds_are_differences_seed_by_seed(self):
        u, d = self.both()
        paired = contrast([Arm(u, self.seeds), Arm(d, self.seeds)], [1, -1])
        gap = (u - d).mean(1)
        # The two-way variance is at least that of the six differences.
        assert paired.value == pytest.approx(gap.mean()) and paired.se >= gap.std(ddof=1) / 6**0.5
        assert paired.se < 0.5 * contrast([u, d], [1, -1]).se

    def test_the_order_of_the_rows_does_not_matter(self):
        u, d = self.both()
        order = [3, 1, 0, 5, 4, 2]
        moved = Arm(d[order], tuple(self.seeds[i] for i in order))
        plain = contrast([Arm(u, self.seeds), Arm(d, self.seeds)], [1, -1])
        assert contrast([Arm(u, self.seeds), moved], [1, -1]) == pytest.approx(plain)

    def test_no_seed_in_common_is_two_independent_arms(self):
        u, d = self.both()
        apart = contrast([Arm(u, self.seeds), Arm(d, tuple(range(10, 16)))], [1, -1])
        assert apart == pytest.approx(contrast([u, d], [1, -1]))

    def test_a_missing_seed_unpairs_and_more_seeds_of_one_arm_do_not(self):
        u, d = self.both()
        lost = contrast([Arm(u, self.seeds), Arm(d[:5], self.seeds[:5])], [1, -1])
        assert lost == pytest.approx(contrast([u, d[:5]], [1, -1]))
        more = contrast([Arm(u, self.seeds), Arm(d[:4], self.seeds[:4])], [1, -1])
        assert (
            more.value == pytest.approx(u.mean() - d[:4].mean())
            and more.se < contrast([u, d[:4]], [1, -1]).se
        )
        # By hand: V = sum over groups of n times the variance of what a seed adds to the contrast.
        shared, rest = (u[:4] / 6 - d[:4] / 4).mean(1), (u[4:] / 6).mean(1)
        parts = variance([Arm(u, self.seeds), Arm(d[:4], self.seeds[:4])])
        c = np.array([1, -1])
        assert sum(c @ one @ c for one in parts.seed_GAA) == pytest.approx(
            4 * shared.var(ddof=1) + 2 * rest.var(ddof=1)
        )

    def test_one_seed_is_deterministic(self):
        u, d = self.both()
        single = contrast([Arm(u[:1], (0,)), Arm(d[:1], (0,))], [1, -1])
        assert single == pytest.approx(contrast([u[:1], d[:1]], [1, -1]))

    def test_names_must_fit_the_rows(self):
        with pytest.raises(NotMeasurable, match="cannot have the seeds"):
            Arm(np.zeros((2, 9)), (1, 1))
        with pytest.raises(NotMeasurable, match="cannot have the seeds"):
            Arm(np.zeros((2, 9)), (1,))


def test_seed_variances_are_moderated_as_in_limma():
    """Smyth 2004: the prior of simulated variances is found again; without spread it has all
    degrees of freedom.
    """
    from experiments.measure.contrast import Parts, combine, pooled

    rng = np.random.default_rng(3)

    def seeds_of(variance, df):
        return Parts(0.0, variance, df, 0.0, 0.0, 0.0)

    # s^2 ~ s0^2 F(4, 10) if the true variances are scaled inverse chi-squares of 10 degrees of
    # freedom.
    prior = pooled([seeds_of(0.02 * v, 4) for v in rng.f(4, 10, 4000)])
    assert prior.df == pytest.approx(10, rel=0.25)
    assert prior.variance == pytest.approx(0.02, rel=0.1)
    assert pooled([seeds_of(0.01, 4)] * 3) is None, "three say too little of how variances spread"
    alike = pooled([seeds_of(0.01, 4)] * 12)
    assert alike.df == 48, "no more than all of them have"
    parts = variance([arm(0.5), arm(0.6)])
    plain, moderated = combine(parts, [1, -1]), combine(parts, [1, -1], prior=prior)
    assert moderated.df > plain.df and moderated.value == plain.value


def test_duplicated_items_are_clusters_and_leave_the_clustered_error_unchanged():
    twice = [np.repeat(Y, 2, axis=1) for Y in (F, D)]
    labels = flags.clusters([f"Question {i}" for i in range(N) for _ in range(2)])
    once = contrast([F, D], [-1, 1], clusters=np.arange(N))
    clustered, plain = contrast(twice, [-1, 1], clusters=labels), contrast(twice, [-1, 1])
    assert clustered.value == pytest.approx(once.value) and plain.se < clustered.se
    assert clustered.se == pytest.approx(once.se, rel=1e-9)
    single = [Y[:1] for Y in (F, D)]
    doubled = contrast([np.repeat(Y, 2, axis=1) for Y in single], [-1, 1], clusters=labels)
    assert doubled.se == pytest.approx(contrast(single, [-1, 1]).se, rel=1e-12)


def test_items_seen_in_the_queries_are_found_near_or_equal():
    queries = [
        "What is the sum of 12 and 30 apples that Ann has in all her baskets today ?",
        "a=1;b=2",
    ]
    same = [
        "what is  the sum of 12 and 30 apples that Ann has in all her baskets today ?",
        "a=1;b=3",
        "A=1;B=2",
    ]
    assert flags.leaked(queries, same) == [0, 2]


def test_too_few_items_or_clusters():
    few = {
        name: arm(m, items=40, seed=i)
        for i, (name, m) in enumerate({"floor": 0.1, "undefended": 0.8}.items())
    }
    few["undefended"] = [few["undefended"]]
    got = word(
        **few, attacks=[arm(0.2, items=40)] * 2, clean=arm(0.9, 3, 40), guarded=arm(0.9, 3, 40)
    )
    assert got.word == "not measurable" and got.rule == "too few items: 40, at least 50 are needed"
    assert word(clusters=np.arange(N) % 8).rule == "too few clusters: 8, at least 10 are needed"
    assert contrast([F, D], [-1, 1], clusters=np.arange(N) % 8).df <= 12


def test_scores_outside_zero_and_one_contrast_but_are_no_curve_and_no_percent():
    assert contrast([F * 100 - 50, D * 100 - 50], [-1, 1]).value == pytest.approx(
        100 * (D.mean() - F.mean())
    )
    with pytest.raises(NotMeasurable, match="give fractions, not percent"):
        bounded(F * 100)
    with pytest.raises(NotMeasurable, match="outside"):
        curves.needs(F, np.stack([F * 100] * 2), np.stack([F] * 2), np.array([1, 2]))
    with pytest.raises(NotMeasurable, match="0 or 1"):
        arm_mean(np.full((1, 9), 0.5))


def test_a_defence_that_helps_the_attacker():
    better = arm(0.95, seed=10)
    assert "points" in flags.helps(U, better) and transfer(F, U, better).value > 1
    assert not flags.helps(U, arm(0.8, seed=11))


def test_sabotage_counts_as_no_transfer():
    below = arm(0.02, seed=12)
    assert (
        flags.sabotage(F, below)
        and transfer(F, U, below).effective == 0 > transfer(F, U, below).value
    )


def test_draws_without_a_denominator_stay_infinite():
    budgets = np.array([1, 2, 4, 8])
    U4, D4 = (
        np.stack([arm(m, 3, 100, seed=i) for i, m in enumerate(ms)])
        for ms in ((0.1, 0.3, 0.6, 0.8), (0.1, 0.1, 0.12, 0.15))
    )
    multiplier = curves.multiplier(
        curves.needs(arm(0.1, 3, 100), U4, D4, budgets, levels=(0.5,), draws=200)[0]
    )
    assert (
        multiplier.sign == ">"
        and np.isinf(multiplier.hi)
        and multiplier.unbounded > 0.5
        and multiplier.lo > 1
    )


def test_a_curve_that_falls_is_made_monotone():
    assert list(curves.monotone(np.array([0.1, 0.5, 0.3, 0.6]))) == pytest.approx(
        [0.1, 0.4, 0.4, 0.6]
    )


def test_a_multiplier_at_the_edge_is_a_bound():
    log = np.log([1.0, 2.0, 4.0])
    y_BK = np.array([[0.5, 0.6, 0.7], [0.1, 0.2, 0.3], [0.1, 0.3, 0.9]])
    chord, least, most = curves.reached(y_BK, log, np.array([0.4, 0.4, 0.2]))
    assert (least[0], most[0]) == (-np.inf, 0.0)
    assert (least[1], most[1]) == (pytest.approx(np.log(4)), np.inf)
    # Half of the way from 1 to 2 in the logarithm, or later, up to 2, as the curve gets steeper.
    assert np.exp([chord[2], least[2], most[2]]) == pytest.approx([2**0.5, 2**0.5, 2])


def test_a_curve_lies_between_its_neighbours_chords():
    log = np.log([1.0, 2.0, 4.0, 8.0])
    at = np.log(2.0) * np.array([0.0, 0.5, 1.5, 2.5, 3.0])
    straight, bent = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.1, 0.1, 0.9, 0.9])
    for y, low, high in (
        (straight, [0.1, 0.1, 0.25, 0.35, 0.4], [0.1, 0.15, 0.25, 0.4, 0.4]),
        (bent, [0.1, 0.1, 0.1, 0.9, 0.9], [0.1, 0.1, 0.9, 0.9, 0.9]),
    ):
        chord, least, most = curves.between(np.tile(y, (5, 1)), log, at)
        assert chord == pytest.approx(np.interp(at, log, y))
        assert least == pytest.approx(low) and most == pytest.approx(high)


def test_tied_attacks_are_said_and_bounded_by_the_largest():
    same = [arm(0.4, 2, seed=s) for s in (20, 21)]
    got = worst_case(F, [U], [D, arm(0.5, seed=13)], ([U], same))
    assert got.tie and got.ucb == max(transfer(F, U, one).hi for one in (D, arm(0.5, seed=13)))


def test_more_losses_never_pass_where_fewer_fail():
    for gains in (0, 3):
        lows = []
        for lost in range(12):
            after = np.ones((1, 300))
            before = after.copy()
            after[0, :lost] = 0
            before[0, 100 : 100 + gains] = 0
            lows.append(non_inferiority(np.tile(before, (3, 1)), np.tile(after, (3, 1)), 0.01).lo)
        assert all(a > b for a, b in zip(lows, lows[1:], strict=False))


def test_the_paired_score_interval_by_maximising_the_likelihood():
    """Tango 1998: at its ends the score is z with the share of losses that maximises the likelihood
    there.
    """
    from scipy import optimize, stats

    from experiments.measure.utility import paired_difference

    for gained, lost, n in ((3, 9, 300), (0, 4, 120), (12, 2, 80)):
        for end, sign in zip(paired_difference(gained, lost, n), (1, -1), strict=True):

            def loss(q, end=end, gained=gained, lost=lost, n=n):
                rest = max(1 - 2 * q - end, 1e-15)
                return -(
                    gained * np.log(max(q + end, 1e-15))
                    + lost * np.log(q)
                    + (n - gained - lost) * np.log(rest)
                )

            bounds = max(1e-12, -end + 1e-12), (1 - end) / 2 - 1e-12
            q = optimize.minimize_scalar(
                loss, bounds=bounds, method="bounded", options={"xatol": 1e-12}
            ).x
            z = (gained - lost - n * end) / np.sqrt(n * (2 * q + end * (1 - end)))
            assert sign * z == pytest.approx(stats.norm.ppf(0.975), abs=2e-3)


def test_a_teacher_whose_answers_do_not_change_has_a_cost_below_one_in_n():
    cost = non_inferiority(np.ones((1, N)), np.ones((1, N)), 0.02)
    # With no answer changed Tango's score bound is Wilson's for 0 of N: z^2 / (N + z^2).
    assert (cost.change, cost.lo) == (
        0.0,
        pytest.approx(-(1.96**2) / (N + 1.96**2), rel=1e-3),
    ) and cost.passes


def test_too_few_or_unplanned_seeds_carry_no_verdict():
    three = {"floor": F[:3], "undefended": [U[:3]], "attacks": [D[:3]] * 2}
    assert (word(**three).word, word(**three).settle) == ("inconclusive", "8 seeds")
    ten = {"floor": arm(0.1, 10), "undefended": [arm(0.8, 10)], "attacks": [arm(0.2, 10)] * 2}
    assert word(**ten).rule == "10 seeds; verdicts are planned at 8"
    assert word(Rules(looks=(8, 10)), **ten).word == "effective"
    single = {"floor": F[:1], "undefended": [U[:1]], "attacks": [D[:1]] * 2}
    assert word(Rules(looks=(1,)), **single).word == "inconclusive", (
        "one seed excludes no lucky one"
    )


def test_naive_only_is_said_beside_the_word():
    assert word(adaptive=(False, False)).remarks[0] == "naive-only: 0 adaptive attacks of 2"


def test_costly_hides_nothing():
    guarded = arm(0.85, 3, seed=14)
    got = word(guarded=guarded)
    assert got.word == "costly" and "T 0.1" in got.rule and np.isnan(got.p)
    matched = word(guarded=guarded, matched=True)
    assert matched.word == "effective" and matched.remarks[0].startswith("at its matched cost")


def test_a_control_has_no_word_and_takes_nothing_from_others():
    control = judge([case(control=True)], Rules())[0]
    assert control.word == "" and "must cover 1" in control.rule
    close = case(attacks=[arm(0.34, seed=15, spread=0.05)] * 2)
    alone = judge([close], Rules())[0]
    beside = judge(
        [close, case(control=True), case(missing=("1 student",)), case(guarded=arm(0.7, 3))],
        Rules(),
    )[0]
    assert beside.p == alone.p and judge([close, close], Rules())[0].p == pytest.approx(2 * alone.p)


def test_ineffective_has_a_family_of_its_own_and_needs_every_ceiling():
    strong = case(attacks=[arm(0.75, seed=s) for s in (16, 17)])
    alone = judge([strong], Rules())[0]
    assert (
        alone.word == "ineffective"
        and judge([strong] * 3, Rules())[0].p_ineffective > alone.p_ineffective
    )
    assert judge([strong, case(control=True)], Rules())[0].p_ineffective == alone.p_ineffective
    better = case(attacks=[arm(0.75, seed=s) for s in (16, 17)], undefended=[U, arm(0.97, seed=18)])
    assert judge([better], Rules())[0].word != "ineffective", (
        "the ceiling that was not selected may be the best"
    )


def test_what_few_seeds_cannot_exclude():
    """(1 - p)^S <= alpha / 2, and the seeds unseen reach U."""
    assert unseen(0.0, 8) == pytest.approx(1 - 0.025 ** (1 / 8)) and unseen(1.0, 3) == 1.0
    assert [seeds_unseen(share, 0.5) for share in (0.0, 0.2, 0.3, 0.4, 0.5)] == [6, 8, 11, 21, None]
    for share in (0.0, 0.3):
        needed = seeds_unseen(share, 0.5)
        assert unseen(share, needed) < 0.5 <= unseen(share, needed - 1)
    lucky = word(attacks=[arm(0.3, seed=19)] * 2)
    assert lucky.word == "inconclusive" and lucky.p < 0.025 and "cannot exclude" in lucky.rule
    assert lucky.settle.endswith("seeds") and int(lucky.settle.split()[0]) > 8


def test_an_open_case_says_what_would_settle_it():
    got = word(attacks=[arm(0.4, seed=15, spread=0.05)] * 2)
    assert got.word == "inconclusive" and got.settle.startswith("about ")
    middle = word(attacks=[arm(0.56, seed=15, spread=0.15)] * 2)
    assert middle.settle.startswith("not to be said yet"), "a point estimate alone says nothing"
    surely = word(attacks=[arm(0.56, seed=15, spread=0.001)] * 2)
    assert surely.settle.startswith("no number of seeds")
    noisy = power.difference_components(U, arm(0.44, seed=15, spread=0.05))
    assert power.seeds_to_settle(0.05, noisy, N) > 5


def test_one_strong_attack_is_enough_for_a_defence_to_fail():
    assert word(attacks=[D, arm(0.79, seed=16)], selected=1).word == "ineffective"
    assert (
        word(attacks=[D, arm(0.45, seed=17)]).word == "inconclusive"
    )  # not selected, and not below theta


def test_the_frontier_without_a_defence_that_passes():
    assert frontier.best_at([(-0.3, 0.1), (-0.2, 0.5)], 0.02) is None
    assert frontier.best_at([(-0.3, 0.1), (-0.01, 0.5), (-0.015, 0.4)], 0.02) == 2
