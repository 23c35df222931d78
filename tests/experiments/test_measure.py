import numpy as np
import pytest
from scipy import stats

from experiments.measure.contrast import Refuse, arm_mean, contrast
from experiments.measure.transfer import transfer
from experiments.measure.verdict import word


def arm(rng, mean, seeds=5, items=300, seed_sd=0.02, item_sd=0.1):
    difficulty = np.random.default_rng(7).normal(0, item_sd, items)
    p = mean + rng.normal(0, seed_sd, (seeds, 1)) + difficulty
    return (rng.random((seeds, items)) < np.clip(p, 0, 1)).astype(float)


def test_a_contrast_worked_by_hand():
    # item means 0.5, 1, 0, 0.5; mean 0.5; V_item = var([.5,1,0,.5]) / 4 = (1/6) / 4
    Y = np.array([[1, 1, 0, 0], [0, 1, 0, 1]], float)
    e = contrast([Y], [1])
    # seed means .5 and .5: V_seed = 0; residuals +-.5 on two items: MS = 1/3, R = 1/24; max(1/24 - 1/24, 0, 1/24)
    assert (e.value, e.se**2) == (0.5, pytest.approx(1 / 24))


def test_one_seed_each_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.random((1, 50)), rng.random((1, 50))
    e, t = contrast([a, b], [-1, 1]), stats.ttest_rel(b[0], a[0])
    assert e.value / e.se == pytest.approx(t.statistic)
    assert (e.lo, e.hi) == pytest.approx(tuple(t.confidence_interval()))


def test_two_way_standard_error_agrees_with_statsmodels():
    import statsmodels.api as sm

    rng = np.random.default_rng(1)
    Y = arm(rng, 0.5, seeds=8, items=400, seed_sd=0.05)
    S, N = Y.shape
    groups = np.c_[np.repeat(np.arange(S), N), np.tile(np.arange(N), S)]
    theirs = sm.OLS(Y.ravel(), np.ones(S * N)).fit(cov_type="cluster", cov_kwds={"groups": groups}).bse[0]
    assert contrast([Y], [1]).se == pytest.approx(theirs, rel=0.12)


def test_coverage_of_the_difference_and_of_transfer():
    rng, hits, inside, runs = np.random.default_rng(2), 0, 0, 200
    for _ in range(runs):
        F, U, D = (arm(rng, m, items=200, item_sd=0.05) for m in (0.2, 0.7, 0.45))
        e, t = contrast([D, U], [-1, 1]), transfer(F, U, D)
        hits += e.lo <= 0.25 <= e.hi
        inside += t.lo <= 0.5 <= t.hi
    assert 0.9 <= hits / runs <= 1.0 and 0.9 <= inside / runs <= 1.0


def test_no_gap_is_a_word_and_not_a_zero():
    rng, kinds = np.random.default_rng(3), []
    for _ in range(60):
        kinds.append(transfer(*(arm(rng, 0.3) for _ in range(3))).kind)
    assert kinds.count("not identified") >= 54


def test_permuting_items_and_seeds_changes_nothing_and_scale_cancels():
    rng = np.random.default_rng(4)
    F, U, D = (arm(rng, m) for m in (0.1, 0.8, 0.4))
    items, seeds = rng.permutation(300), rng.permutation(5)
    base = transfer(F, U, D)
    assert transfer(F[:, items], U[seeds][:, items], D[:, items])[:4] == pytest.approx(base[:4])
    assert transfer(F / 2, U / 2, D / 2)[:4] == pytest.approx(base[:4])


def test_the_identity_defence_transfers_exactly_everything():
    rng = np.random.default_rng(5)
    F, U = arm(rng, 0.1), arm(rng, 0.8)
    t = transfer(F, U, U)
    assert t.value == 1 and t.lo <= 1 <= t.hi


def test_outputs_that_never_vary_are_exact():
    F, U = np.zeros((3, 10)), np.ones((3, 10))
    assert transfer(F, U, U)[:5] == (1.0, 1.0, 1.0, 1.0, "ok")
    assert transfer(F, U, F)[:4] == (0.0, 0.0, 0.0, 0.0)


def test_the_fieller_set_is_where_the_test_does_not_reject():
    rng = np.random.default_rng(6)
    F, U, D = (arm(rng, m) for m in (0.1, 0.8, 0.4))
    t = transfer(F, U, D)
    for edge in (t.lo, t.hi):
        e = contrast([F, U, D], [edge - 1, -edge, 1])
        assert abs(e.value) == pytest.approx(stats.t.ppf(0.975, e.df) * e.se)


@pytest.mark.parametrize("bad", [np.full((2, 5), np.nan), np.ones(5), np.ones((2, 1))])
def test_what_cannot_be_measured_is_refused(bad):
    with pytest.raises(Refuse):
        contrast([bad], [1])
    with pytest.raises(Refuse, match="different items"):
        contrast([np.ones((2, 5)), np.ones((2, 6))], [1, -1])


def test_wilson_for_a_single_model():
    e = arm_mean(np.array([[1] * 8 + [0] * 2], float))
    # Wilson 1927 for 8 of 10: 0.4902 to 0.9433
    assert (e.lo, e.hi) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_the_six_words_and_their_order():
    rng = np.random.default_rng(8)
    F, U, weak, strong = (arm(rng, m, seed_sd=0.01) for m in (0.1, 0.8, 0.15, 0.79))
    teacher, broken = np.ones((1, 300)), np.r_[np.zeros(60), np.ones(240)][None]
    assert word(F, U, weak, teacher, teacher)[0] == "effective"
    assert word(F, U, strong, teacher, teacher)[0] == "ineffective"
    assert word(F, U, weak, teacher, broken)[0] == "costly"
    assert word(F, F, weak, teacher, teacher)[0] == "not measurable"
    assert word(F[:3], U[:3], weak[:3], teacher, teacher) == ("inconclusive", "3 seeds; a verdict needs 5")
    assert word(F, U, arm(rng, 0.45, seed_sd=0.05), teacher, teacher)[0] == "inconclusive"
