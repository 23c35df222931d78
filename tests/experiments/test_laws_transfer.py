"""A small part of laws_transfer.py: fewer studies, bands widened by three Monte Carlo errors."""

import math

import pytest

from tests.experiments import laws_transfer as laws


def least(share: float, runs: int) -> float:
    return share - 3 * math.sqrt(share * (1 - share) / runs)


def most(share: float, runs: int) -> float:
    return share + 3 * math.sqrt(share * (1 - share) / runs)


@pytest.mark.parametrize("seeds", [(5, 5, 5), (8, 8, 8), (15, 15, 5)])
@pytest.mark.parametrize(("share", "sd"), [(0.5, 0.08), (1.0, 0.03)])
def test_intervals_of_paired_arms_hold_the_truth(share, sd, seeds):
    got = laws.symmetric(share, sd, seeds, 0.9, 300)
    assert min(got[:3]) >= least(0.93, 300)


def test_pairing_narrows_what_a_seed_does_to_both_arms():
    alone, shared = (laws.symmetric(1.0, 0.03, (5, 5, 5), one, 120) for one in (0.0, 0.9))
    assert shared.width < 0.7 * alone.width


@pytest.mark.parametrize("name", laws.FALSE)
def test_effective_is_not_said_of_a_defence_that_is_not(name):
    assert laws.false_effective(name, 8, 60) <= most(0.05, 60)


def test_effective_is_said_of_one_that_is_and_ineffective_of_one_that_does_nothing():
    top = laws.bounded(laws.TOP, 0.01)
    assert laws.words(top, laws.bounded(laws.at(0.05), 0.02), 8, 40)[0]["effective"] >= 0.9
    assert laws.words(top, laws.bounded(laws.at(1.0), 0.01), 8, 40)[0]["ineffective"] >= 0.9


def test_ineffective_of_any_of_many_defences_is_rare():
    assert laws.false_ineffective(0.03, 8, 10) <= most(0.05, 10)


def test_what_few_seeds_cannot_see_is_within_what_is_shown():
    plain, honest = laws.lucky(8, 150)
    assert plain < 0.75 and honest >= least(0.95, 150)


@pytest.mark.parametrize("name", laws.CEILINGS)
def test_bounds_of_the_worst_case_hold_though_the_ceiling_is_chosen(name):
    got = laws.ceilings(name, 5, 16)
    assert min(got.lcb, got.ucb) >= least(0.97, 16)
