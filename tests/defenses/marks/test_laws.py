"""Tails against sums of fractions, other libraries and simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from defenses.marks.detect import laws


def test_binomial_by_hand_and_against_fractions():
    # 3 or more of 4 at 1/4: 4 (1/4)^3 3/4 + (1/4)^4 = 13/256.
    assert math.exp(laws.binomial(3, 4, 0.25)) == pytest.approx(13 / 256, rel=1e-12)
    p = Fraction(1, 4)
    exact = sum(math.comb(400, k) * p**k * (1 - p) ** (400 - k) for k in range(200, 401))
    assert laws.binomial(200, 400, 0.25) == pytest.approx(
        math.log(exact.numerator) - math.log(exact.denominator), rel=1e-10
    )
    assert laws.binomial(0, 10, 0.5) == 0 and laws.binomial(11, 10, 0.5) == -math.inf


def test_a_tail_far_below_the_smallest_float_is_a_number():
    far = laws.binomial(600_000, 1_000_000, 0.25)
    # Chernoff's bound is n KL(.6 || .25), and the tail is a little below it.
    kl = 0.6 * math.log(0.6 / 0.25) + 0.4 * math.log(0.4 / 0.75)
    assert -1_000_000 * kl - 20 < far < -1_000_000 * kl


@pytest.mark.parametrize("hits", [0, 1, 3, 5])
def test_hypergeometric_against_every_draw(hits):
    colours = [1] * 5 + [0] * 4
    drawn = list(itertools.combinations(colours, 5))
    share = sum(sum(one) >= hits for one in drawn) / len(drawn)
    assert math.exp(laws.hypergeometric(hits, 5, 5, 9)) == pytest.approx(share, rel=1e-10)


def test_gamma_against_scipy_and_by_hand():
    assert laws.gamma(2.5, 1) == pytest.approx(-2.5)
    for total, draws in ((30.0, 20), (900.0, 1000), (1200.0, 1000)):
        assert math.exp(laws.gamma(total, draws)) == pytest.approx(
            stats.gamma.sf(total, draws), rel=1e-9
        )


def test_unequal_chances_against_every_outcome_and_equal_ones_against_the_binomial():
    chances = np.array([0.5, 0.01, 0.2, 0.0, 1.0])
    for hits in range(6):
        exact = sum(
            math.prod(p if hit else 1 - p for p, hit in zip(chances, outcome, strict=True))
            for outcome in itertools.product((0, 1), repeat=5)
            if sum(outcome) >= hits
        )
        assert math.exp(laws.poisson_binomial(hits, chances)) == pytest.approx(exact, rel=1e-12)
    even = laws.poisson_binomial(40, np.full(60, 0.1))
    assert even == pytest.approx(laws.binomial(40, 60, 0.1), rel=1e-10)


def test_hoeffding_bounds_the_tail_and_says_nothing_below_the_mean():
    assert laws.hoeffding(3.0, 9.0) == -2.0 and laws.hoeffding(-3.0, 9.0) == 0.0
    for hits in range(51, 100, 7):
        assert laws.binomial(hits, 100, 0.5) <= laws.hoeffding(hits - 50, 100)
