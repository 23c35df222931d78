"""Seeds by role: who draws with which numbers, so that no two roles ever share one.

A seed draws questions, samples answers, starts weights and orders batches. A study names seeds from
0 to `SEEDS` - 1 for its students; every other role has a range of its own. The teacher is trained
with seed 0 and exams draw their questions with 0: they share no split with a student's questions.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

SEEDS = 1000  # seeds that a study may name are below it
SHARDS = 1000  # parts at most that a run of a campaign is cut into
Role = Literal[
    "student", "control", "provider", "worked", "past", "clean", "neighbour", "shard", "marks"
]


class Range(NamedTuple):
    """The numbers of a role: `size` of them from `first` on."""

    first: int
    size: int


ROLES: dict[Role, Range] = {
    "student": Range(0, SEEDS),  # completions and students, and runs of campaigns
    "control": Range(SEEDS, SEEDS),  # those of the identity control, by the student's seed
    "provider": Range(2000, 1),  # the provider's traces and its proxy
    "worked": Range(3000, 1),  # which questions' worked solutions every attacker owns
    "marks": Range(4000, 1),  # which questions students are tested for marks on
    "past": Range(10_000, 1),  # the clean past that a provider's detectors learn from
    "clean": Range(20_000, SEEDS),  # clean horizons that thresholds are calibrated on
    "neighbour": Range(
        30_000, 2 * SEEDS
    ),  # another provider's, beside campaigns and clean horizons
    "shard": Range(100_000, SEEDS * SHARDS),  # parts of runs of campaigns, those of a seed in a row
}


def seed_for(role: Role, n: int = 0) -> int:
    """The n-th seed of a role.

    Args:
        role: one of `ROLES`.
        n: from 0.

    Raises:
        ValueError: the role has no such seed.
    """
    first, size = ROLES[role]
    if not 0 <= n < size:
        raise ValueError(f"{role}: seed {n} is not among its {size}")
    return first + n
