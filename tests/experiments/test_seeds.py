"""No two roles share a seed, and the numbers are those that published results were made with."""

import itertools

import pytest

from experiments.seeds import ROLES, SEEDS, seed_for
from experiments.settings import schema


def test_no_two_roles_share_a_seed():
    taken = {role: {seed_for(role, n) for n in range(count)} for role, (_, count) in ROLES.items()}
    for role, other in itertools.combinations(taken, 2):
        assert not taken[role] & taken[other], (role, other)
    assert all(len(seeds) == ROLES[role].size for role, seeds in taken.items())


@pytest.mark.parametrize(
    ("role", "n", "seed"),
    [
        ("student", 7, 7),
        ("control", 7, 1007),
        ("provider", 0, 2000),
        ("worked", 0, 3000),
        ("past", 0, 10_000),
        ("clean", 7, 20_007),
    ],
)
def test_the_numbers(role, n, seed):
    assert seed_for(role, n) == seed


@pytest.mark.parametrize(
    ("role", "n"), [("provider", 1), ("student", SEEDS), ("control", -1), ("clean", SEEDS)]
)
def test_a_seed_that_a_role_does_not_have(role, n):
    with pytest.raises(ValueError, match=f"{role}: seed {n} is not among its"):
        seed_for(role, n)


def test_a_study_may_name_what_the_roles_hold():
    """As many seeds of students and clean horizons as settings allow, and no more."""
    seeds = schema.Study.model_json_schema()["properties"]["seeds"]["items"]
    assert (seeds["minimum"], seeds["exclusiveMaximum"]) == (0, ROLES["student"].size)
    assert schema.Campaigns.model_json_schema()["properties"]["clean"]["maximum"] == SEEDS
