"""A fast part of the table of laws.py: curves, campaigns, rates, frontiers; bands three Monte Carlo
errors wider.
"""

import math

import numpy as np
import pytest

from tests.experiments import laws


def least(wanted: float, runs: int) -> float:
    return wanted - 3 * math.sqrt(wanted * (1 - wanted) / runs)


class TestGenerator:
    """The truth that the table is held against."""

    @pytest.mark.parametrize(
        ("law", "mean"),
        [
            (laws.bounded(0.8, 0.1), 0.8),
            (laws.bounded(0.005, 0.1), 0.005),
            (laws.mixture(0.48, laws.bounded(0.97, 0.01), 0.1), 0.1 * 0.48 + 0.9 * 0.97),
            (laws.mixture(0.1, 0.9, 0.9), 0.18),
        ],
    )
    def test_students_are_right_as_often_as_their_law_says(self, law, mean):
        rng = np.random.default_rng(1)
        u_S = (np.arange(2000) + 0.5) / 2000
        right = laws.students(rng, law(u_S), laws.percentiles(rng, 500))
        assert law(u_S).mean() == pytest.approx(mean, abs=2e-3)
        by_student = right.mean(1) - law(u_S)
        assert abs(by_student).max() < 0.15 and right.mean() == pytest.approx(mean, abs=0.03)

    def test_items_are_bimodal_and_clusters_share_them(self):
        rng = np.random.default_rng(2)
        u_N = laws.percentiles(rng, 300, 3)
        share_N = laws.students(rng, np.full(400, 0.5), u_N).mean(0)
        assert ((share_N < 0.2) | (share_N > 0.8)).all() and len(set(u_N)) == 100

    def test_seeds_are_shared_as_asked(self):
        rng = np.random.default_rng(3)
        for shared in (0.0, 0.5, 1.0):
            a, b = laws.stats.norm.ppf(laws.uniforms(rng, 2, 4000, shared))
            assert np.corrcoef(a, b)[0, 1] == pytest.approx(shared, abs=0.05)


@pytest.mark.parametrize(
    ("curve", "times", "seeds"),
    [
        (laws.Curve(), 2.0, 5),
        (laws.Curve(), 2.0, 8),
        (laws.sharp(), 2.0, 5),
        (laws.sharp(), 3.0, 5),
    ],
)
def test_the_multiplier_covers_smooth_and_sharp_curves(curve, times, seeds):
    got = laws.multiplier(curve, times, laws.Students(seeds, items=200), runs=60, draws=150)
    assert got.coverage >= least(0.93, 60) and 0.8 <= got.middle <= 1.25


def test_the_multiplier_of_seeds_that_fail():
    assert laws.multiplier(
        laws.Curve(), 2.0, laws.Students(5, fail=0.2, items=200), 60, draws=150
    ).coverage >= least(0.93, 60)


@pytest.mark.parametrize(
    ("curve", "leaks"), [(laws.Curve(), 3), (laws.sharp(), 3), (laws.sharp(16.0), 5)]
)
def test_a_campaigns_gain_is_covered_by_the_curve_and_by_its_students(curve, leaks):
    for got in laws.campaign(curve, laws.Students(5, items=200), leaks, runs=150):
        assert got.coverage >= least(0.93, 150) and abs(got.middle) < 2


def test_a_leak_where_the_curve_is_a_step():
    """About 125 questions, between the budgets 100 and 200 where a chord says 30 points more than
    there are.
    """
    of_curve, trained = laws.campaign(
        laws.sharp(16.0), laws.Students(5, items=200), 3, runs=100, spread=0.05, at=125.0
    )
    assert (
        of_curve.middle > 15 and of_curve.coverage >= least(0.93, 100) and abs(trained.middle) < 2
    )


def test_the_best_of_equal_defences_is_reported_as_it_is():
    got = laws.best_of(24, runs=100)
    assert abs(got.elsewhere) <= 3 * got.error and got.same < -0.05


def test_rates_that_differ_between_runs():
    over, pooled = laws.rates(400, 3)
    assert over >= least(0.93, 400) and pooled < 0.7


def test_shares_of_accounts_that_are_one_operators():
    for campaigns in (3, 5):
        over, pooled = laws.accounts_found(400, campaigns)
        assert over >= least(0.93, 400) and pooled < 0.7


def test_declared_clusters_are_needed_and_suffice():
    assert laws.clustered(200, 5, True) >= least(0.93, 200) and laws.clustered(200, 5, False) < 0.9
