"""Inputs on which published evaluations print a number: each has a behaviour of its own here (one test a row)."""

import numpy as np
import pytest

from experiments.measure import curves, flags, frontier, power
from experiments.measure.contrast import Refuse, arm_mean, bounded, contrast
from experiments.measure.transfer import transfer, worst_case
from experiments.measure.utility import non_inferiority
from experiments.measure.verdict import Case, Rules, judge

N = 400


def arm(mean, seeds=5, items=N, seed=0, spread=0.01):
    """Seeds x items of 0 and 1 with the given mean and SD between seeds."""
    rng = np.random.default_rng([seed, seeds, items])
    p = np.clip(mean + rng.normal(0, spread, (seeds, 1)), 0, 1)
    return (rng.random((seeds, items)) < p).astype(float)


F, U, D, T = arm(0.1, seed=1), arm(0.8, seed=2), arm(0.2, seed=3), arm(0.95, 3, seed=4, spread=0)
ADAPTIVE = {"adaptive": (True, True)}


def word(rules=None, **changes):
    case = {"floor": F, "undefended": U, "attacks": [D, D], "clean": T, "guarded": T} | ADAPTIVE | changes
    return judge([Case(**case)], rules or Rules())[0]


def test_the_case_that_the_others_vary_is_effective_without_remarks():
    got = word()
    assert (got.word, got.remarks) == ("effective", ("effective at 0.25 as well",))


def test_teacher_no_better_than_the_floor():
    got = word(clean=arm(0.1, 3, seed=5))
    assert got.word == "not measurable" and "no capability to protect" in got.rule


def test_undefended_student_not_above_the_floor():
    weak = arm(0.1, seed=6)
    assert word(undefended=weak).word == "not measurable" and "stronger student" in word(undefended=weak).rule
    share = transfer(F, weak, D)
    assert (share.value, share.lo, share.kind) == (None, None, "not identified")


def test_distillation_that_hurts_is_said():
    assert transfer(U, F, D).kind == "harmful"
    assert "distillation hurts the student" in word(floor=U, undefended=F).rule


def test_zero_variance_refuses_an_interval_and_says_why():
    zeros, ones = np.zeros((3, N)), np.ones((3, N))
    e = contrast([zeros, ones], [-1, 1])
    assert e.value == 1 and e.se == 0 and np.isnan(e.lo) and np.isnan(e.hi)
    share = transfer(zeros, ones, ones)
    assert (share.value, share.lo, share.kind) == (1.0, None, "identical outputs")
    assert "identical outputs" in word(floor=zeros, undefended=ones, attacks=[ones, ones]).rule


def test_a_floor_of_nothing_gets_the_upper_bound_of_n_trials():
    e = arm_mean(np.zeros((3, 300)))
    # Wilson 1927 for 0 of n: z^2 / (n + z^2), near the rule of three (3 / n).
    assert e.lo == 0 and e.hi == pytest.approx(1.96**2 / (300 + 1.96**2), rel=1e-3)


def test_identical_arms_are_aliases():
    with pytest.raises(Refuse, match="arms are aliases: b and a"):
        flags.distinct({"a": "x", "b": "x", "c": "y"})
    flags.distinct({"a": "x", "b": "y"})
    assert word(invalid=("arms are aliases: every answer equals that of the undefended arm",)).word == "invalid run"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_refused(bad):
    broken = D.copy()
    broken[0, 0] = bad
    for refuse in (lambda: contrast([F, broken], [-1, 1]), lambda: transfer(F, U, broken), lambda: bounded(broken)):
        with pytest.raises(Refuse, match="not finite"):
            refuse()


def test_missing_students_give_bounds_and_no_verdict():
    got = word(missing=("2 of 5 students of sft",))
    assert got.word == "not measurable" and "2 of 5 students" in got.rule
    # By hand: T = 0.5 from three of five students; the missing two as F give 0.3, as U 0.7.
    f, u, d = np.zeros((5, 4)), np.ones((5, 4)), np.full((3, 4), 0.5)
    assert flags.bounds_if_missing(f, u, d, 5) == pytest.approx((0.5, 0.3, 0.7))


def test_a_diverged_student_is_flagged_and_counted():
    assert flags.under_trained([1.0] * 20, diverged=True) == "training diverged"


def test_unequal_seeds_are_supported():
    share = transfer(arm(0.1, 3, seed=7), arm(0.8, 5, seed=8), arm(0.4, 8, seed=9))
    assert share.lo < 0.43 < share.hi


def test_items_missing_in_one_arm():
    whole = [str(i) for i in range(500)]
    with pytest.raises(Refuse, match="2 of 500 items are missing in b"):
        flags.common_items({"a": whole, "b": whole[2:]})
    assert flags.common_items({"a": whole, "b": whole[2:]}, registered=True) == whole[2:]
    with pytest.raises(Refuse, match="20 of 500"):  # more than one per cent, registered or not
        flags.common_items({"a": whole, "b": whole[20:]}, registered=True)


def test_duplicated_items_are_clusters_and_leave_the_clustered_error_unchanged():
    twice = [np.repeat(Y, 2, axis=1) for Y in (F, D)]
    labels = flags.clusters([f"Question {i}" for i in range(N) for _ in range(2)])
    once = contrast([F, D], [-1, 1], clusters=np.arange(N))
    # The item part is the same to the last digit but for the residual, which is estimated from twice the cells.
    clustered, plain = contrast(twice, [-1, 1], clusters=labels), contrast(twice, [-1, 1])
    assert clustered.value == pytest.approx(once.value) and plain.se < clustered.se
    assert clustered.se == pytest.approx(once.se, rel=0.15)
    one = [Y[:1] for Y in (F, D)]
    doubled = contrast([np.repeat(Y, 2, axis=1) for Y in one], [-1, 1], clusters=labels)
    assert doubled.se == pytest.approx(contrast(one, [-1, 1]).se, rel=1e-12)


def test_items_seen_in_the_queries_are_found_near_or_equal():
    queries = ["What is the sum of 12 and 30 apples that Ann has in all her baskets today ?", "a=1;b=2"]
    same = ["what is  the sum of 12 and 30 apples that Ann has in all her baskets today ?", "a=1;b=3", "A=1;B=2"]
    assert flags.leaked(queries, same) == [0, 2]


def test_too_few_items_or_clusters():
    few = {name: arm(m, items=40, seed=i) for i, (name, m) in enumerate({"floor": 0.1, "undefended": 0.8}.items())}
    got = word(**few, attacks=[arm(0.2, items=40)] * 2, clean=arm(0.9, 3, 40), guarded=arm(0.9, 3, 40))
    assert got.word == "not measurable" and got.rule == "too few items: 40, at least 50 are needed"
    assert word(clusters=np.arange(N) % 8).rule == "too few clusters: 8, at least 10 are needed"
    assert contrast([F, D], [-1, 1], clusters=np.arange(N) % 8).df <= 12


def test_scores_outside_zero_and_one_contrast_but_are_no_curve_and_no_percent():
    assert contrast([F * 100 - 50, D * 100 - 50], [-1, 1]).value == pytest.approx(100 * (D.mean() - F.mean()))
    with pytest.raises(Refuse, match="give fractions, not percent"):
        bounded(F * 100)
    with pytest.raises(Refuse, match="outside"):
        curves.needs(F, np.stack([F * 100] * 2), np.stack([F] * 2), np.array([1, 2]))
    with pytest.raises(Refuse, match="0 or 1"):
        arm_mean(np.full((1, 9), 0.5))


def test_a_defence_that_helps_the_attacker():
    better = arm(0.95, seed=10)
    assert "points" in flags.helps(U, better) and transfer(F, U, better).value > 1
    assert not flags.helps(U, arm(0.8, seed=11))


def test_sabotage_counts_as_no_transfer():
    below = arm(0.02, seed=12)
    assert flags.sabotage(F, below) and transfer(F, U, below).effective == 0 > transfer(F, U, below).value


def test_draws_without_a_denominator_stay_infinite():
    budgets = np.array([1, 2, 4, 8])
    U4, D4 = (np.stack([arm(m, 3, 100, seed=i) for i, m in enumerate(ms)])
              for ms in ((0.1, 0.3, 0.6, 0.8), (0.1, 0.1, 0.12, 0.15)))  # fmt: skip
    one = curves.multiplier(curves.needs(arm(0.1, 3, 100), U4, D4, budgets, levels=(0.5,), draws=200)[0])
    assert one.sign == ">" and np.isinf(one.hi) and one.unbounded > 0.5 and one.lo > 1


def test_a_curve_that_falls_is_made_monotone():
    assert list(curves.monotone(np.array([0.1, 0.5, 0.3, 0.6]))) == pytest.approx([0.1, 0.4, 0.4, 0.6])


def test_a_multiplier_at_the_edge_is_a_bound():
    log = np.log([1.0, 2.0, 4.0])
    assert curves.reached(np.array([0.5, 0.6, 0.7]), log, 0.4) == (-np.inf, 0.0)
    assert curves.reached(np.array([0.1, 0.2, 0.3]), log, 0.4) == (pytest.approx(np.log(4)), np.inf)
    # Half of the way from 1 to 2 in the logarithm.
    assert np.exp(curves.reached(np.array([0.1, 0.3, 0.9]), log, 0.2)[0]) == pytest.approx(2**0.5)


def test_tied_attacks_are_said_and_bounded_by_the_largest():
    same = [arm(0.4, 2, seed=s) for s in (20, 21)]
    got = worst_case(F, [U], [D, arm(0.5, seed=13)], ([U], same))
    assert got.tie and got.ucb == max(transfer(F, U, one).hi for one in (D, arm(0.5, seed=13)))


def test_a_teacher_whose_answers_do_not_change_has_a_cost_below_one_in_n():
    cost = non_inferiority(np.ones((1, N)), np.ones((1, N)), 0.02)
    # Clopper & Pearson 1934: 0 of N differ, so at most 1 - 0.025^(1/N) can.
    assert (cost.change, cost.lo) == (0.0, pytest.approx(-(1 - 0.025 ** (1 / N)))) and cost.passes


def test_too_few_or_unplanned_seeds_carry_no_verdict():
    three = {"floor": F[:3], "undefended": U[:3], "attacks": [D[:3]] * 2}
    assert (word(**three).word, word(**three).settle) == ("inconclusive", "5 seeds")
    seven = {"floor": arm(0.1, 7), "undefended": arm(0.8, 7), "attacks": [arm(0.2, 7)] * 2}
    assert word(**seven).rule == "7 seeds; verdicts are planned at 5"
    assert word(Rules(looks=(5, 7)), **seven).word == "effective"


def test_naive_only_is_said_beside_the_word():
    assert word(adaptive=(False, False)).remarks[0] == "naive-only: 0 adaptive attacks of 2"


def test_costly_hides_nothing():
    got = word(guarded=arm(0.85, 3, seed=14))
    assert got.word == "costly" and "on transfer it is effective" in got.rule


def test_an_open_case_says_what_would_settle_it():
    got = word(attacks=[arm(0.44, seed=15, spread=0.05)] * 2)
    assert got.word == "inconclusive" and "seeds" in got.settle
    noisy = power.difference_components(U, arm(0.44, seed=15, spread=0.05))
    assert power.seeds_to_settle(0.05, noisy, N) > 5


def test_one_strong_attack_is_enough_for_a_defence_to_fail():
    assert word(attacks=[D, arm(0.79, seed=16)], chosen=1).word == "ineffective"
    assert word(attacks=[D, arm(0.45, seed=17)]).word == "inconclusive"  # not selected, and not below theta


def test_the_frontier_without_a_defence_that_passes():
    assert frontier.best_at([(-0.3, 0.1), (-0.2, 0.5)], 0.02) is None
    assert frontier.best_at([(-0.3, 0.1), (-0.01, 0.5), (-0.015, 0.4)], 0.02) == 2
