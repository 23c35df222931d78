"""Rates against published intervals and hand arithmetic."""

import numpy as np
import pytest
from scipy import stats

from experiments.measure.detection import across_runs, clopper_pearson, effective_trials


def test_clopper_pearson_against_scipy_and_the_rule_of_three():
    for hits, n in ((0, 30), (3, 1000), (30, 30), (59, 100)):
        interval = stats.binomtest(hits, n).proportion_ci(method="exact")
        assert clopper_pearson(hits, n)[1:3] == pytest.approx((interval.low, interval.high))
    assert clopper_pearson(0, 30_000, 0.1).hi == pytest.approx(3 / 30_000, rel=0.01)
    assert clopper_pearson(0, 0)[1:] == (0.0, 1.0, 0)


def test_shared_shocks_widen_the_error():
    """Four runs of 1 to 4 %: by hand from Korn and Graubard (1998), and Student's."""
    rate = across_runs([10, 30, 20, 40], [1000] * 4)
    error = np.std([0.01, 0.03, 0.02, 0.04], ddof=1) / 2
    t = 3.182446
    trials = 0.025 * 0.975 / error**2 * (1.959964 / t) ** 2
    hits = 0.025 * trials
    lo = stats.beta.ppf(0.025, hits, trials - hits + 1)
    hi = stats.beta.ppf(0.975, hits + 1, trials - hits)
    assert rate.value == 0.025 and rate.n == 4000
    assert rate.lo == pytest.approx(min(lo, 0.025 - t * error))
    assert rate.hi == pytest.approx(max(hi, 0.025 + t * error))
    exact = clopper_pearson(100, 4000)
    assert rate.lo < exact.lo and exact.hi < rate.hi
    assert across_runs([10, 30, 20, 40], [1000] * 4, operators=True) == rate


def test_runs_that_agree_say_no_more_than_their_count():
    assert across_runs([25] * 4, [1000] * 4)[1:3] == clopper_pearson(100, 4000)[1:3]
    assert across_runs([7], [1000]) == clopper_pearson(7, 1000)
    assert across_runs([0, 5], [0, 100]) == clopper_pearson(5, 100), "a run without accounts"
    assert across_runs([0], [0])[1:] == (0.0, 1.0, 0)


def test_accounts_of_one_operator_are_no_trials_of_their_own():
    assert across_runs([200] * 3, [200] * 3, operators=True)[:3] == clopper_pearson(3, 3)[:3]
    assert across_runs([0] * 5, [200] * 5, operators=True)[1:3] == clopper_pearson(0, 5)[1:3]
    assert across_runs([200], [200], operators=True).lo == pytest.approx(0.025)
    half = across_runs([100, 99, 101], [200] * 3, operators=True)
    alone = clopper_pearson(300, 600)
    assert half.lo < alone.lo and alone.hi < half.hi, "no more trials than accounts"


def test_effective_trials():
    assert effective_trials(0.5, 0.05, 1000) == pytest.approx(100)
    assert effective_trials(0.5, 0.001, 1000) == 1000
