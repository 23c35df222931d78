import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.measure import bootstrap, cost, curves, fidelity, flags, frontier, power
from experiments.measure.contrast import arm_mean, contrast, third_moment, variance
from experiments.measure.scores import NotMeasurable
from experiments.measure.transfer import Transfer, above_p, threshold_p, transfer
from experiments.measure.utility import non_inferiority


def arm(rng, mean, seeds=5, items=300, seed_sd=0.02, item_sd=0.1):
    difficulty = np.random.default_rng(7).normal(0, item_sd, items)
    p = mean + rng.normal(0, seed_sd, (seeds, 1)) + difficulty
    return (rng.random((seeds, items)) < np.clip(p, 0, 1)).astype(float)


def test_a_contrast_worked_by_hand():
    # item means 0.5, 1, 0, 0.5; mean 0.5; V_item = var([.5,1,0,.5]) / 4 = (1/6) / 4
    Y = np.array([[1, 1, 0, 0], [0, 1, 0, 1]], float)
    e = contrast([Y], [1])
    # seed means .5 and .5: V_seed = 0; residuals +-.5 on two items: MS = 1/3, R = 1/24; max(1/24 -
    # 1/24, 0, 1/24)
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
    theirs = (
        sm.OLS(Y.ravel(), np.ones(S * N))
        .fit(cov_type="cluster", cov_kwds={"groups": groups})
        .bse[0]
    )
    assert contrast([Y], [1]).se == pytest.approx(theirs, rel=0.12)


def test_the_third_moment_is_the_unbiased_one_of_scipy():
    rng = np.random.default_rng(2)
    a, b = rng.random((1, 40)) ** 3, rng.random((1, 40))
    theirs = stats.kstat(2 * a[0] - b[0], 3) / 40**2
    assert third_moment(variance([a, b]), [2, -1]) == pytest.approx(theirs)
    pairs = np.repeat(np.arange(20), 2)
    theirs = stats.kstat((2 * a[0] - b[0]).reshape(20, 2).mean(1), 3) / 20**2
    assert third_moment(variance([a, b], pairs), [2, -1]) == pytest.approx(theirs)


@pytest.mark.parametrize(
    "share, right", [(0.8, 261), (0.8, 266), (0.5, 113), (0.2, 38), (0.2, 34), (0.2, 84)]
)
def test_far_out_p_values_are_the_binomial_ones(share, right):
    """Where F is never and U always right, T is a share of items; without its skewness p would be
    up to 26 times too small, or twice too large.
    """
    N = 300
    F, U, D = np.zeros((1, N)), np.ones((1, N)), np.arange(N)[None] < right
    parts = variance([F, U, D.astype(float)])
    if right / N > share:
        ours, exact = above_p(parts, share), stats.binom.sf(right - 1, N, share)
    else:
        ours, exact = threshold_p(parts, share), stats.binom.cdf(right, N, share)
    assert exact < 1.1e-3 and 1.0 <= ours / exact < 2.6


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


def test_the_fieller_set_is_where_the_test_does_not_reject():
    rng = np.random.default_rng(6)
    F, U, D = (arm(rng, m) for m in (0.1, 0.8, 0.4))
    ends, parts = transfer(F, U, D), variance([F, U, D])
    assert above_p(parts, ends.lo) == pytest.approx(0.025)
    assert threshold_p(parts, ends.hi) == pytest.approx(0.025)


@pytest.mark.parametrize("bad", [np.full((2, 5), np.nan), np.ones(5), np.ones((2, 1))])
def test_what_cannot_be_measured_is_refused(bad):
    with pytest.raises(NotMeasurable):
        contrast([bad], [1])
    with pytest.raises(NotMeasurable, match="different items"):
        contrast([np.ones((2, 5)), np.ones((2, 6))], [1, -1])


def test_wilson_for_a_single_model():
    e = arm_mean(np.array([[1] * 8 + [0] * 2], float))
    # Wilson 1927 for 8 of 10: 0.4902 to 0.9433
    assert (e.lo, e.hi) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_the_wilson_interval_agrees_with_scipy_for_a_single_model():
    Y = arm(np.random.default_rng(9), 0.7, seeds=1)
    theirs = stats.binomtest(int(Y.sum()), Y.size).proportion_ci(method="wilson")
    assert arm_mean(Y)[3:] == pytest.approx((theirs.low, theirs.high))


def test_holm_agrees_with_statsmodels():
    from statsmodels.stats.multitest import multipletests

    ps = np.random.default_rng(10).random(12) ** 3
    assert power.holm(list(ps)) == pytest.approx(multipletests(ps, method="holm")[1])


@pytest.mark.parametrize("varied", ["clean", "guarded"])
def test_sittings_that_differ_widen_the_cost_whichever_teacher_sat_them(varied):
    rng = np.random.default_rng(3)
    same = np.tile(rng.random(200) < 0.9, (4, 1)).astype(float)
    others = (rng.random((4, 200)) < np.array([[0.7], [0.95], [0.8], [0.99]])).astype(float)
    clean, guarded = (others, same) if varied == "clean" else (same, others)
    cost, e = non_inferiority(clean, guarded, 0.02), contrast([clean, guarded], [-1, 1])
    alone = non_inferiority(same, same, 0.02)
    assert (cost.lo, cost.hi) == (pytest.approx(e.lo), pytest.approx(e.hi)) and e.hi - e.lo > 0.1
    assert alone.hi - alone.lo < 0.05


def test_non_inferiority_agrees_with_the_paired_equivalence_test_of_statsmodels():
    from statsmodels.stats.weightstats import ttost_paired

    rng = np.random.default_rng(11)
    clean, guarded = (arm(rng, m, seeds=1) for m in (0.8, 0.79))
    margin = 0.05
    _, (_, lower, _), _ = ttost_paired(guarded[0], clean[0], -margin, margin)
    assert non_inferiority(clean, guarded, margin).passes == (lower < 0.025)


def test_a_contrast_is_the_same_in_a_batch():
    rng = np.random.default_rng(12)
    F, D = (np.stack([arm(rng, m) for _ in range(3)]) for m in (0.2, 0.5))
    whole = contrast([F, D], [-1, 1])
    for i in range(3):
        alone = contrast([F[i], D[i]], [-1, 1])
        assert [field[i] for field in whole] == pytest.approx(list(alone))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(0.05, 0.9), st.floats(0.1, 10.0))
def test_invariances(seed, seeds, mean, scale):
    rng = np.random.default_rng(seed)
    F, U, D = (arm(rng, m, seeds, 80) for m in (mean / 2, mean, mean * 0.8))
    swapped, plain = contrast([D, F], [1, -1]), contrast([F, D], [-1, 1])
    assert swapped == pytest.approx(plain)
    order = rng.permutation(80)
    assert contrast([F[:, order], D[::-1][:, order]], [-1, 1]) == pytest.approx(plain)
    scaled = contrast([F * scale, D * scale], [-1, 1])
    assert (scaled.value, scaled.se) == pytest.approx((plain.value * scale, plain.se * scale))
    before, after = transfer(F, U, D), transfer(F * scale, U * scale, D * scale)
    assert before.kind == after.kind
    if before.value is not None:
        assert after[:4] == pytest.approx(before[:4], rel=1e-6, abs=1e-6)


def test_components_worked_by_hand():
    # Seeds differ by 1, items by 2, nothing is left over: MS_seed = 2 * 0.5, MS_item = 2 * 2.
    Y = np.array([[0.0, 2.0], [1.0, 3.0]])
    assert power.components(Y) == pytest.approx((0.5, 2.0, 0.0))


def test_power_tends_to_the_normal_test_with_many_seeds():
    parts = power.Components(0.0004, 0.03, 0.15)
    se = power.standard_error(parts, 200, 2000)
    expected = stats.norm.sf(1.96 - 0.01 / se)
    assert power.power(0.01, parts, 200, 2000) == pytest.approx(expected, abs=0.03)
    least = power.smallest_change(parts, 200, 2000)
    assert least / se == pytest.approx(1.96 + 0.84, rel=0.05)


def test_the_multiplier_of_curves_known_exactly():
    budgets = np.array([100, 200, 400, 800])
    steps = np.array([0.1, 0.3, 0.5, 0.7])
    # Every item and seed is the mean itself; D is U one doubling later, so M = 2 at every level
    # that it reaches.
    U = np.broadcast_to(steps[:, None, None], (4, 3, 60))
    D = np.broadcast_to(np.r_[0.1, steps[:3]][:, None, None], (4, 3, 60))
    multipliers = [
        curves.multiplier(n) for n in curves.needs(np.full((3, 60), 0.1), U, D, budgets, draws=100)
    ]
    assert [(m.sign, m.value) for m in multipliers] == [
        ("=", pytest.approx(2.0)),
        ("=", pytest.approx(2.0)),
        (">", pytest.approx(800 / (400 * 2**0.25))),
    ]


def test_the_area_between_curves_by_hand():
    U, D = np.random.default_rng(13).random((2, 3, 4, 50))
    e = curves.area_between(U, D)
    assert e.value == pytest.approx(float((U - D).mean()))


def test_the_hypervolume_by_hand():
    losses, shares = np.array([0.01, 0.03, 0.02]), np.array([0.5, 0.2, 0.9])
    # From 0.01 to 0.03 half is stopped, from 0.03 to 0.05 four fifths: (0.02 * 0.5 + 0.02 * 0.8) /
    # 0.05.
    assert frontier.hypervolume(losses, shares, 0.05) == pytest.approx(0.52)
    assert frontier.non_dominated(losses, shares) == [0, 1]
    assert frontier.hypervolume(np.array([0.0]), np.array([1.0]), 0.05) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.06), st.floats(0, 1.2)), min_size=1, max_size=8))
def test_the_hypervolume_agrees_with_moocore(points):
    import moocore

    losses, shares = np.array(points).T
    theirs = moocore.hypervolume(np.array(points), ref=[0.05, 1.0]) / 0.05
    assert frontier.hypervolume(losses, shares, 0.05) == pytest.approx(theirs, abs=1e-9)


def test_accounts_and_dollars_by_hand():
    assert cost.accounts(16e6, 16e6 / 24000) == 24000 and cost.accounts(1, 670) == 1
    # 1,000 exchanges of 200 tokens in and 100 out at $1 and $10 a million, 2 accounts at $5, 3
    # hours at $2.
    prices = {"price_in": 1.0, "price_out": 10.0, "price_account": 5.0, "price_gpu_hour": 2.0}
    assert cost.dollars(1000, 200, 100, 2, 3, **prices) == pytest.approx(0.2 + 1.0 + 10 + 6)
    fixed = cost.Inputs(*(cost.Range(v, v) for v in (10.0, 10.0, 50.0, 1.0, 10.0, 5.0, 2.0)))
    accounts, money = cost.bill(np.log(np.full(100, 1000.0)), 200, 100, 3, fixed)
    assert accounts == (20, 20, 20) and money.median == pytest.approx(0.2 + 1.0 + 20 * 5 + 6)
    with pytest.raises(NotMeasurable, match="more than 0"):
        cost.accounts(5, 0)


def test_equal_spending_is_read_from_the_curve_and_never_beyond_it():
    assert cost.at_equal(20.0, [10.0, 40.0], [0.2, 0.6]) == pytest.approx(
        0.4
    )  # half way in the logarithm
    assert cost.at_equal(50.0, [10.0, 40.0], [0.2, 0.6]) is None


def test_error_consistency_is_cohens_kappa():
    from statsmodels.stats.inter_rater import cohens_kappa

    rng = np.random.default_rng(14)
    a, b = rng.random((2, 200)) < [[0.6], [0.7]]
    same = np.mean(a == b)
    ours = fidelity.error_consistency(np.array(same), np.array(a.mean()), np.array(b.mean()))
    table = [[np.sum((a == x) & (b == y)) for y in (0, 1)] for x in (0, 1)]
    assert float(ours) == pytest.approx(cohens_kappa(np.array(table)).kappa)


def test_the_fidelity_panel_of_a_copy_and_of_a_stranger():
    rng = np.random.default_rng(15)
    right = (rng.random((1, 400)) < 0.5).astype(float)
    answers = np.where(right == 1, 0, rng.integers(1, 50, right.shape))
    sure = rng.random(right.shape)
    teacher = fidelity.Student(answers, right, None, sure)
    copy = fidelity.Student(
        np.repeat(answers, 3, 0),
        np.repeat(right, 3, 0),
        np.full((3, 400), 0.1),
        np.repeat(sure, 3, 0),
    )
    other_right = (rng.random((3, 400)) < 0.5).astype(float)
    other = fidelity.Student(
        np.where(other_right == 1, 0, rng.integers(1, 50, other_right.shape)),
        other_right,
        np.full((3, 400), 0.9),
        rng.random((3, 400)),
    )
    draws = bootstrap.start(400, 200)
    panel = fidelity.panel(
        fidelity.copying(copy, teacher, draws), fidelity.copying(other, teacher, draws)
    )
    assert (
        panel["error_consistency"].value == pytest.approx(1.0, abs=0.1)
        and panel["error_consistency"].lo > 0.7
    )
    assert panel["agreement"].lo > 0.5 and panel["same_wrong"].lo > 0.9
    assert panel["bits_per_byte"].value == pytest.approx(-0.8) and panel["confidence_rank"].lo > 0.7


def test_calibration_by_hand():
    # Confidences 0.2 and 0.8, right 1 of 5 and 4 of 5.
    sure, right = np.r_[np.full(50, 0.2), np.full(50, 0.8)][None], np.tile([1.0, 0, 0, 0, 0], 10)
    right = np.r_[right, 1 - right][None]
    assert fidelity.brier(sure, right).mean() == pytest.approx(0.2 * 0.64 + 0.8 * 0.04)
    assert fidelity.log_loss(np.array(0.5), np.array(1.0)) == pytest.approx(np.log(2))


def test_the_crossed_bootstrap_agrees_with_the_two_way_error():
    Y = arm(np.random.default_rng(16), 0.5, seeds=10, items=400, seed_sd=0.05)
    drawn, e = bootstrap.means(bootstrap.start(400, 2000), Y), contrast([Y], [1])
    assert drawn.mean() == pytest.approx(Y.mean(), abs=0.01)
    # Seeds make most of the error here, and they are redrawn as widely as Student's law of 9
    # degrees is.
    assert bootstrap.interval(drawn) == pytest.approx((e.lo, e.hi), abs=0.25 * e.se * 2.26)


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_redrawn_seeds_are_as_wide_as_students_law(seeds):
    Y = np.broadcast_to(stats.norm.ppf((np.arange(seeds) + 0.5) / seeds)[:, None], (seeds, 50))
    low, high = bootstrap.interval(bootstrap.means(bootstrap.start(50, 4000), Y))
    half = stats.t.ppf(0.975, seeds - 1) * Y[:, 0].std(ddof=1) / seeds**0.5
    assert (low, high) == pytest.approx((-half, half), rel=0.1)


def test_seeds_of_the_same_names_are_redrawn_together():
    start = bootstrap.start(50, 100)
    first, other, alone, twin = bootstrap.by_seeds(
        start, [(0, 1, 2), (0, 1, 2), None, (3, 4, 5)], [3] * 4
    )
    assert first is other and not np.array_equal(first, alone) and not np.array_equal(first, twin)
    assert (
        first.sum(1) == pytest.approx(1)
        and bootstrap.seed_weights(start, 1).tolist() == [[1.0]] * 100
    )


def test_flags_by_hand():
    def identity(lo, hi, wider=0.0):
        alone, together = (
            Transfer(1.0, 1.0, lo and lo - more, hi and hi + more, "ok", 9.0)
            for more in (0.0, wider)
        )
        return flags.identity(alone, together)

    assert identity(0.95, 1.05) == "" and "misses 1" in identity(1.01, 1.05)
    assert identity(0.91, 0.99, wider=0.02) == ""  # at the level that two controls share
    assert "wider than 0.3" in identity(0.02, 1.63) and identity(None, None)
    assert flags.cut(
        0.2, 0.01
    ) == "of the training answers 20 % cut at max_length" and not flags.cut(0.05, 0.05)
    assert flags.unfinished(0.02) and not flags.unfinished(0.01)
    once = np.r_[np.ones(60), np.zeros(40)]
    up = flags.longer(once, np.r_[np.ones(75), np.zeros(25)], 0.02)
    assert up.moved and up.change == pytest.approx(0.15) and up.lo > 0
    assert not flags.longer(once, np.r_[np.ones(75), np.zeros(25)], 0.2).moved, (
        "within the arm's own error"
    )
    assert not flags.longer(once, once, 0.0).moved
    assert "50 % of its exam answers cannot be read, such as 'I am sorry'" == flags.unreadable(
        ["7 # 7", "I am sorry"], [False, True]
    )
    assert not flags.unreadable(["7 # 7"] * 4 + ["?"], [False] * 4 + [True])
    assert "..." in flags.unreadable(["x" * 200], [True])
    assert flags.extractor(0.2, 0.1) and not flags.extractor(0.12, 0.1)
    assert (
        flags.repeats_itself("ab" * 40)
        and flags.repeats_itself(" ")
        and not flags.repeats_itself("a=3;b=4+3=7 # 7")
    )
    assert flags.degenerate(["a good answer"] * 10, ["ab" * 40] * 10)
    assert flags.aliases({"a": "1", "b": "2", "c": "1"}) == {"c": "a"}


def test_a_common_shape_is_shown_where_a_curve_is_shifted_and_not_where_its_ceiling_is_lower():
    rng, budgets = np.random.default_rng(21), np.array([25, 50, 100, 200, 400, 800, 1600])

    def students(means):
        return np.stack([(rng.random((8, 400)) < mean).astype(float) for mean in means])

    def hill(n, top):
        return 0.1 + top / (1 + (100.0 / n) ** 1.5)

    U, shifted, lower = (
        students(one) for one in (hill(budgets, 0.8), hill(budgets / 2, 0.8), hill(budgets, 0.5))
    )
    common_shape = curves.common_shape(0.1, U, shifted, budgets, 2.0)
    assert (
        common_shape.value == pytest.approx(2.0, rel=0.15)
        and common_shape.p_shift > 0.1
        and common_shape.shown
    )
    assert not curves.common_shape(0.1, U, shifted, budgets, 4.0).shown, (
        "the two multipliers must agree"
    )
    other = curves.common_shape(0.1, U, lower, budgets, 2.0)
    assert other.p_shift < 0.001 and not other.shown
