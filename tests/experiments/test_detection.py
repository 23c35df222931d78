"""Rates against published intervals and hand arithmetic."""

import numpy as np
import pytest
from scipy import stats

from experiments.measure.detection import across_runs, clopper_pearson


def test_clopper_pearson_against_scipy_and_the_rule_of_three():
    for hits, n in ((0, 30), (3, 1000), (30, 30), (59, 100)):
        interval = stats.binomtest(hits, n).proportion_ci(method="exact")
        assert clopper_pearson(hits, n)[1:3] == pytest.approx((interval.low, interval.high))
    assert clopper_pearson(0, 30_000, 0.1).hi == pytest.approx(3 / 30_000, rel=0.01)
    assert clopper_pearson(0, 0)[1:] == (0.0, 1.0, 0)


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
