"""The crossed bootstrap, for statistics that are no linear contrast: seeds and items are redrawn
separately.

Source: pigeonhole bootstrap (Owen 2007); mildly conservative (Owen & Eckles 2012). Percentile
intervals only.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.measure.scores import checked

DRAWS = 2000


class Draws(NamedTuple):
    """Item weights (draws x N) that all arms share, and the generator from which each arm's seed
    weights come.
    """

    item_BN: np.ndarray
    rng: np.random.Generator


def start(
    items: int, draws: int = DRAWS, seed: int = 0, clusters: np.ndarray | None = None
) -> Draws:
    """Item weights for a study; with clusters, whole clusters are redrawn.

    Args:
        items: N.
        draws: B.
        seed: of the generator.
        clusters: labels `[N]` of items that belong together; None where each is its own.
    """
    rng = np.random.default_rng([seed, 1])
    if clusters is None:
        return Draws(_items(items, draws, seed), rng)
    names, label_N = np.unique(np.asarray(clusters), return_inverse=True)
    weight_BN = _multinomial(rng, len(names), draws)[:, label_N]
    return Draws(weight_BN / weight_BN.sum(1, keepdims=True), rng)


@functools.lru_cache(4)
def _items(items: int, draws: int, seed: int) -> np.ndarray:
    """Drawn once for all arms on the same items."""
    return _multinomial(np.random.default_rng([seed, 0]), items, draws)


def _multinomial(rng: np.random.Generator, units: int, draws: int) -> np.ndarray:
    return rng.multinomial(units, np.full(units, 1 / units), size=draws) / units


def seed_weights(draws: Draws, seeds: int) -> np.ndarray:
    """Weights of an arm's seeds `[B, S]`, which sum to 1; one seed has nothing to redraw.

    Redrawn seeds vary by (S - 1) / S of what they should, and their percentiles are a normal law's
    where S - 1 degrees of freedom have Student's: the weights are stretched about 1 / S by both at
    95 % (Hesterberg 2015, section 3), so that some may be negative.

    Args:
        draws: B of the study.
        seeds: S.
    """
    weight_BS = _multinomial(draws.rng, seeds, len(draws.item_BN))
    if seeds == 1:
        return weight_BS
    stretch = stats.t.ppf(0.975, seeds - 1) / stats.norm.ppf(0.975) * (seeds / (seeds - 1)) ** 0.5
    return np.asarray(1 / seeds + stretch * (weight_BS - 1 / seeds))


def by_seeds(
    draws: Draws, names: Sequence[tuple[int, ...] | None], sizes: Sequence[int]
) -> list[np.ndarray]:
    """Seed weights of several arms: one set for all arms of the same named seeds, and of its own
    for any other.

    Args:
        draws: of the study.
        names: the seeds of each arm; None for an arm of its own.
        sizes: S of each arm.

    Returns:
        Weights `[B, S]` of each arm.
    """
    weights_by_seeds: dict[tuple[int, ...], np.ndarray] = {}
    weights = []
    for who, size in zip(names, sizes, strict=True):
        if who is None:
            weights.append(seed_weights(draws, size))
            continue
        if who not in weights_by_seeds:
            weights_by_seeds[who] = seed_weights(draws, size)
        weights.append(weights_by_seeds[who])
    return weights


def means(draws: Draws, scores_SN: np.ndarray, weight_BS: np.ndarray | None = None) -> np.ndarray:
    """The arm's mean in every draw `[B]`; leading axes (budgets, say) are kept in front:
    `[..., B]`.

    Args:
        draws: of the study.
        scores_SN: any units, leading axes in front.
        weight_BS: of the seeds; fresh ones if None.
    """
    Y = checked(scores_SN)
    seed_BS = seed_weights(draws, Y.shape[-2]) if weight_BS is None else weight_BS
    return np.asarray(np.einsum("...sb,bs->...b", Y @ draws.item_BN.T, seed_BS))


def interval(
    low_B: np.ndarray, high_B: np.ndarray | None = None, alpha: float = 0.05
) -> tuple[float, float]:
    """Percentile limits by order statistics, so that infinite draws stay infinite.

    Draws may be intervals themselves, low to high, where censoring leaves no more than that.

    Args:
        low_B: the draws, or their lower ends.
        high_B: their upper ends; the same if None.
        alpha: level of the two-sided interval.
    """
    high_B = low_B if high_B is None else high_B
    return (
        float(np.quantile(low_B, alpha / 2, method="lower")),
        float(np.quantile(high_B, 1 - alpha / 2, method="higher")),
    )
