"""An arm is an array of scores, S seeds x N items, items common to all arms; leading axes are many
studies at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


class NotMeasurable(ValueError):
    """There is nothing to measure here, and why."""


@dataclass(frozen=True, eq=False)
class Arm:
    """Scores (S x N) and the seeds they belong to.

    Arms that list a seed share its questions, initial weights and batch order by design, so they
    are contrasted seed by seed; seeds that only one arm lists are its own.
    """

    scores_SN: np.ndarray
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if np.shape(self.scores_SN)[-2] != len(self.seeds) or len(set(self.seeds)) < len(
            self.seeds
        ):
            raise NotMeasurable(
                f"an arm of {np.shape(self.scores_SN)[-2]} rows cannot have the seeds {self.seeds}"
            )

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores_SN))

    @property
    def items(self) -> int:
        return int(np.shape(self.scores_SN)[-1])

    def without(self, seed: int) -> Arm:
        """The arm without one of its seeds.

        Args:
            seed: one that it lacks changes nothing.
        """
        rows = [i for i, one in enumerate(self.seeds) if one != seed]
        return Arm(self.scores_SN[rows], tuple(self.seeds[i] for i in rows))


Scores = np.ndarray | Arm
"""An array alone shares no seed with any other arm."""


def raw(scores: Scores) -> np.ndarray:
    """The array `[S, N]` of an arm.

    Args:
        scores: of an arm, or an array `[S, N]` already.
    """
    return scores.scores_SN if isinstance(scores, Arm) else scores


def checked(scores: Scores) -> np.ndarray:
    """The scores as floats `[..., S, N]`.

    Args:
        scores: `[..., S, N]` seeds x items; an `Arm` names its seeds.

    Raises:
        NotMeasurable: they are not seeds x items, have fewer than two items, or are not finite.
    """
    Y = np.asarray(raw(scores), float)
    if Y.ndim < 2 or Y.shape[-2] < 1 or Y.shape[-1] < 2:
        raise NotMeasurable(f"an arm is seeds x items with at least two items, got shape {Y.shape}")
    if not np.isfinite(Y).all():
        raise NotMeasurable(
            "a score is not finite; a crashed run or a failed extraction must be resolved first"
        )
    return Y


def bounded(scores: Scores) -> np.ndarray:
    """Scores `[..., S, N]` that must be shares.

    Args:
        scores: `[..., S, N]` seeds x items.

    Raises:
        NotMeasurable: one lies outside [0, 1], as percent beside fractions would.
    """
    Y = checked(scores)
    if Y.min() < 0 or Y.max() > 1:
        raise NotMeasurable(
            f"a score lies outside [0, 1] ({Y.min():g} to {Y.max():g}); give fractions, not percent"
        )
    return Y


def groups(arms: Sequence[Scores]) -> list[dict[int, list[int]]]:
    """Seeds by the arms that list them: for each such set, the rows of those seeds in each of its
    arms.

    A set that holds a single seed cannot be told from chance, so then every arm is a group of its
    own, as are arms without names for their seeds. Arms of one seed are deterministic and never
    make others unpaired.

    Args:
        arms: `[S, N]` each.

    Returns:
        For each set, rows by the place of the arm.
    """
    alone = [{a: list(range(np.shape(raw(arm))[-2]))} for a, arm in enumerate(arms)]
    if not all(isinstance(arm, Arm) for arm in arms):
        return alone
    names = [arm.seeds for arm in arms if isinstance(arm, Arm)]
    seeds_by_arms: dict[tuple[int, ...], list[int]] = {}
    for seed in sorted({seed for one in names for seed in one}):
        seeds_by_arms.setdefault(tuple(a for a, one in enumerate(names) if seed in one), []).append(
            seed
        )
    several = [
        those
        for those, seeds in seeds_by_arms.items()
        if len(seeds) == 1 and any(len(names[a]) > 1 for a in those)
    ]
    if several:
        return alone
    return [
        {a: [names[a].index(seed) for seed in seeds] for a in those}
        for those, seeds in seeds_by_arms.items()
    ]
