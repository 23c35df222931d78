"""Operating points against published intervals, counting and hand arithmetic."""

import numpy as np
import pytest
from scipy import stats

from experiments.measure.detection import (
    across_runs,
    clopper_pearson,
    needed_rate,
    operating_points,
    partial_auc,
)


def test_clopper_pearson_against_scipy_and_the_rule_of_three():
    for hits, n in ((0, 30), (3, 1000), (30, 30), (59, 100)):
        told = stats.binomtest(hits, n).proportion_ci(method="exact")
        assert clopper_pearson(hits, n)[1:3] == pytest.approx((told.low, told.high))
    assert clopper_pearson(0, 30_000, 0.1).hi == pytest.approx(3 / 30_000, rel=0.01)
    assert clopper_pearson(0, 0)[1:] == (0.0, 1.0, 0)


def test_points_say_when_there_are_too_few_honest_accounts():
    honest = np.zeros((2, 5000), bool)
    honest[0, :6] = True
    points = operating_points(honest, np.ones((2, 10), bool), (1e-3, 1e-4))
    assert [p.measurable for p in points] == [True, False]
    assert points[0].fpr.value == 0.0012 and points[0].tpr.lo == pytest.approx(0.025 ** (1 / 10))


def test_the_rate_that_a_base_rate_needs():
    """24 k of 5 M accounts at precision 0.9: near 5e-4; 500 of 5 M: 1.1e-5."""
    assert needed_rate(24e3 / 5e6, 1, 0.9) == pytest.approx(5.4e-4, rel=0.01)
    assert needed_rate(500 / 5e6, 1, 0.9) == pytest.approx(1.1e-5, rel=0.02)


def test_partial_area_of_a_perfect_a_useless_and_a_stepped_score():
    honest = np.arange(1000.0)
    assert partial_auc(honest, np.full(50, 2000.0), 0.01) == pytest.approx(1)
    assert partial_auc(honest, honest, 1.0) == pytest.approx(0.5, abs=0.01)
    # Of the 20 highest honest scores, 980 to 999, the guilty ones are above 9.
    assert partial_auc(honest, np.full(50, 988.5), 0.02) == pytest.approx(9 / 20)
    assert partial_auc(honest, honest, 1e-2) == pytest.approx(0.005, abs=1e-4)
    assert np.isnan(partial_auc(honest, honest, 1e-4))


def test_shared_shocks_widen_the_error():
    rate = across_runs([10, 30, 20, 40], [1000] * 4)
    half = 3.182446 * np.std([0.01, 0.03, 0.02, 0.04], ddof=1) / 2
    assert rate.value == 0.025 and (rate.lo, rate.hi) == pytest.approx((0.025 - half, 0.025 + half))
    exact = clopper_pearson(100, 4000)
    assert rate.lo < exact.lo and exact.hi < rate.hi
    assert across_runs([25] * 4, [1000] * 4)[1:3] == exact[1:3], (
        "runs that agree say no more than their count"
    )
    assert across_runs([7], [1000]) == clopper_pearson(7, 1000)
