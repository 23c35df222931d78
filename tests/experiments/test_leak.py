"""The join by hand, against numpy's interpolation, and at its ends: nothing leaked, everything
leaked.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.measure import leak
from experiments.measure.cost import Range
from experiments.measure.scores import NotMeasurable

BUDGETS = np.array([10, 100, 1000])
NEAR = np.array([250, 500, 1000])
Y, ZERO = np.array([0.2, 0.5, 0.8]), np.array([0.1])


@pytest.mark.parametrize(
    ("n", "accuracy"),
    [
        (0, 0.1),
        (5, 0.15),  # halfway from the untrained student to the first budget, in n
        (10, 0.2),
        (10**1.5, 0.35),  # halfway in log n
        (100, 0.5),
        (1000, 0.8),
        (50_000, 0.8),  # nothing is said beyond the last budget
    ],
)
def test_a_curve_is_read_by_hand(n, accuracy):
    chord, least, most = leak.read(Y[None], ZERO, BUDGETS, [n])
    assert chord == pytest.approx([accuracy]) and least <= chord <= most


def test_a_negative_leak_is_refused():
    with pytest.raises(NotMeasurable, match="not be negative, got -1"):
        leak.read(Y[None], ZERO, BUDGETS, [-1])


@given(
    y=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    zero=st.floats(0, 1),
    n=st.lists(st.floats(0, 5000), min_size=1, max_size=9),
)
def test_as_numpy_interpolates_and_never_falls(y, zero, n):
    y = np.sort(y)
    n = np.sort(n)
    ours = np.array([leak.read(y[None], np.array([zero]), BUDGETS, [one])[0][0] for one in n])
    knots = np.maximum.accumulate([zero, *y])
    at = np.where(n < 10, n / 10 - 1, np.log(np.maximum(n, 1e-9) / 10))
    assert ours == pytest.approx(np.interp(at, [-1, 0, np.log(10), np.log(100)], knots), abs=1e-12)
    assert (np.diff(ours) >= -1e-12).all()


@pytest.fixture
def students():
    """Floor .2, untrained 0, curve .3, .6, .9: five seeds, 400 items."""
    rng = np.random.default_rng(3)

    def at(p):
        return (rng.random((5, 400)) < p).astype(float)

    return at(0.2), np.zeros((5, 400)), np.stack([at(p) for p in (0.3, 0.6, 0.9)])


class TestGained:
    def test_everything_leaked_is_the_undefended_student_above_the_floor(self, students):
        F, zero, Y = students
        gain = leak.gained(F, zero, Y, NEAR, [1000.0] * 5)
        assert gain.value == pytest.approx(Y[-1].mean() - F.mean()) and gain.beyond == 0
        assert gain.lo < gain.value < gain.hi < gain.lo + 0.15

    def test_nothing_leaked_gains_nothing(self, students):
        gain = leak.gained(*students, NEAR, [0.0, 0.0])
        assert (gain.value, gain.lo, gain.hi) == (0, 0, 0), "the attacker's own data are worth more"

    def test_runs_are_averaged_after_the_curve(self, students):
        """A campaign that leaks all or nothing gains half of all, not what the mean leak would
        teach.
        """
        F, zero, Y = students
        half = leak.gained(F, zero, Y, NEAR, [0.0, 1000.0])
        assert half.value == pytest.approx((Y[-1].mean() - F.mean()) / 2)
        assert half.lo == 0, "two runs say little"

    def test_beyond_the_last_budget_is_told(self, students):
        assert leak.gained(*students, NEAR, [1010.0, 5000.0]).beyond == 0.5

    def test_intervals_cover_the_truth(self):
        """Of 200 experiments with known curves, at least 92 % of nominal 95 % intervals hold the
        true gain.
        """
        covered, truth = 0, 0.6 - 0.2
        for seed in range(200):
            rng = np.random.default_rng(seed)
            item = rng.normal(0, 0.05, 200)

            def at(p, rng=rng, item=item):
                each = np.clip(p + item[None] + rng.normal(0, 0.02, (5, 1)), 0, 1)
                return (rng.random((5, 200)) < each).astype(float)

            gain = leak.gained(
                at(0.2), np.zeros((5, 200)), [at(0.4), at(0.6), at(0.8)], NEAR, [500.0] * 5, draws=2
            )
            covered += gain.lo <= truth <= gain.hi
        assert covered >= 184

    def test_runs_that_differ_widen_it_as_student_has_it(self, students):
        """Leaks of 500, 500 and 1000 on a curve without noise: one doubling in three, so .4 /
        sqrt(3) of an error in log n, of which t of two degrees takes 4.303: 370 would teach .47,
        185 less than the floor.
        """
        F, zero, *Y = (
            np.tile((np.arange(400) < 400 * p).astype(float), (2, 1))
            for p in (0.2, 0.0, 0.3, 0.6, 0.9)
        )
        still = leak.gained(F, zero, Y, NEAR, [500.0] * 3)
        gain = leak.gained(F, zero, Y, NEAR, [500.0, 500.0, 1000.0])
        moved = 4.303 * np.log([500, 500, 1000]).std(ddof=1) / 3**0.5
        low = 0.3 + 0.3 * (np.log(1000 / 250) - moved) / np.log(2)
        of_runs, of_items = 0.5 - (low - 0.2) / 3, (still.hi - still.lo) / 2
        assert gain.value == pytest.approx(0.5)
        assert gain.value - gain.lo == pytest.approx(np.hypot(of_runs, of_items), rel=0.05)
        assert gain.hi - gain.value == pytest.approx(np.hypot(0.2, of_items), rel=0.05), (
            "the last budget bounds it"
        )
        assert still.hi - still.lo < 0.2

    def test_where_a_step_stands_between_two_budgets_is_not_known(self, students):
        F, zero, _ = students
        curve = [
            np.tile((np.arange(400) < 400 * p).astype(float), (5, 1)) for p in (0.2, 0.2, 0.9, 0.9)
        ]
        budgets = np.array([100, 200, 400, 800])
        gain = leak.gained(F, zero, curve, budgets, [280.0] * 3)
        assert gain.lo == 0 and gain.hi > 0.65
        assert leak.gained(F, zero, curve, budgets, [200.0] * 3).hi < 0.1, (
            "at a budget it was measured"
        )

    def test_budgets_must_be_near(self, students):
        with pytest.raises(
            NotMeasurable,
            match="budgets lie 10 x apart; a curve that leaks are read through needs at most 2",
        ):
            leak.gained(*students, BUDGETS, [1.0])

    def test_a_curve_needs_two_budgets(self, students):
        F, zero, Y = students
        with pytest.raises(NotMeasurable, match="a curve is budgets x seeds x items"):
            leak.gained(F, zero, Y[:1], BUDGETS[:1], [1.0])


def test_students_of_what_leaked_by_hand():
    """Three runs at .2, .4 and .6 over a floor of .1 that does not vary: .3, error .2 / sqrt(3), t
    of two degrees.
    """
    D = np.stack([np.arange(1000) < 1000 * p for p in (0.2, 0.4, 0.6)]).astype(float)
    F = np.tile((np.arange(1000) < 100).astype(float), (5, 1))
    e = leak.taught(F, D)
    assert e.value == pytest.approx(0.3) and e.df == 2
    assert e.hi - e.value == pytest.approx(4.3027 * 0.2 / 3**0.5, rel=0.02)
    assert leak.taught(F, D[1:2]).hi < 0.4, "one run is taken as it is"
    assert np.isnan(leak.taught(F, F).lo), "nothing varies"


def exact(price_in, price_out, account, identity):
    return leak.Prices(*(Range(value, value) for value in (price_in, price_out, account, identity)))


def test_a_bill_by_hand():
    """2 M tokens in at $3 and 1 M out at $15 a million, 10 accounts at $4, 2 identities at $50:
    $161.
    """
    spent = leak.Spent(2e6, 1e6, 10, 2)
    assert leak.dollars([spent], exact(3, 15, 4, 50), 7) == pytest.approx(np.full(7, 161.0))


def test_a_run_is_paid_by_its_own_bill():
    """Two runs at $5 a point each, $50 for 10 points and $150 for 30: whichever is redrawn, a point
    costs $5.
    """
    right = [np.tile((np.arange(100) < k).astype(float), (2, 1)) for k in (0, 10, 30)]
    gain = leak.gained(right[0], right[0], right[1:], NEAR[:2], [250.0, 500.0], draws=300)
    spent = [leak.Spent(0, 0, 50, 0), leak.Spent(0, 0, 150, 0)]
    flat = np.array([0.2, 0.1, 0.3])  # mean gain of both, of the first twice, of the second twice
    cost = leak.dollars(spent, exact(0, 0, 1, 0), 300)
    assert set(np.round(cost)) == {50, 100, 150}
    assert gain.value == pytest.approx(flat[0])
    # Items are redrawn as well, so that the ratio is 5 on average and spreads by the items alone.
    assert np.median(leak.per_point(cost, gain.draws_B)) == pytest.approx(5, rel=0.1)
    assert np.corrcoef(cost, gain.draws_B)[0, 1] > 0.8


def test_a_point_that_nobody_gains_costs_without_end():
    assert leak.per_point(np.array([100.0, 100.0]), np.array([0.2, 0.0])) == pytest.approx(
        [5.0, np.inf]
    )


def test_prices_cancel_in_the_ratio():
    prices = leak.Prices(Range(0.5, 5), Range(2, 25), Range(0, 20), Range(20, 100))
    spent = [leak.Spent(1e6, 2e6, 10, 0)]
    before, after = (
        leak.per_point(leak.dollars(spent, prices, 500), np.full(500, gain))
        for gain in (0.5, 0.125)
    )
    assert leak.multiple(after, before) == pytest.approx((4, 4, 4))


def test_no_ratio_where_the_undefended_campaign_gains_nothing():
    assert leak.multiple(np.full(100, 2.0), np.full(100, np.inf)) is None
