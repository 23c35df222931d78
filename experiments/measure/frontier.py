"""The frontier of transfer against the honest user's loss (E8). Both are shares, and lower is
better in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.measure import bootstrap
from experiments.measure.transfer import normalised_transfer

MARGINS = (0.005, 0.01, 0.02, 0.05)


def best_at(configurations: Sequence[tuple[float, float]], margin: float) -> int | None:
    """Which configuration has the smallest worst-case transfer among those that pass
    non-inferiority at a margin.

    Each is (lower bound of the change Te_d - Te, T_wc). None where none passes. The least of noisy
    numbers flatters itself, so T_wc must come from other students and questions (the selection
    split) than what is then said of it.

    Args:
        configurations: pairs of shares.
        margin: what the honest user may lose, a share.
    """
    passing = [i for i, (change_lo, _) in enumerate(configurations) if change_lo > -margin]
    return min(passing, key=lambda i: configurations[i][1], default=None)


def non_dominated(losses_K: np.ndarray, transfers_K: np.ndarray) -> list[int]:
    """Configurations that no other one beats in both loss and transfer; equal ones are all kept.

    Args:
        losses_K: of the teacher, less is better.
        transfers_K: of the worst attack, less is better.
    """
    loss, share = np.asarray(losses_K, float), np.asarray(transfers_K, float)
    better = (
        (loss[:, None] <= loss)
        & (share[:, None] <= share)
        & ((loss[:, None] < loss) | (share[:, None] < share))
    )
    return [int(k) for k in np.flatnonzero(~better.any(0))]


def hypervolume(losses_K: np.ndarray, transfers_K: np.ndarray, most: float) -> float:
    """Share of [0, most] x [0, 1] that the configurations dominate; no defence (loss 0, T = 1)
    dominates nothing.

    It is 1 minus the mean over losses of the best transfer that they can buy (Zitzler & Thiele
    1999, two objectives).

    Args:
        losses_K: of the honest user, in the unit of `most`.
        transfers_K: T of each.
        most: largest loss that counts.
    """
    loss = np.clip(np.asarray(losses_K, float), 0.0, most)
    share = np.clip(np.asarray(transfers_K, float), 0.0, 1.0)
    order = np.lexsort((share, loss))
    best = np.minimum.accumulate(share[order])
    widths = np.diff(np.append(loss[order], most))
    return float(((1 - best) * widths).sum() / most)


class Volume(NamedTuple):
    """The hypervolume of a set of configurations that was fixed beforehand, with its interval."""

    value: float
    lo: float
    hi: float
    chosen: list[int]


def volume(
    floor: np.ndarray,
    undefended: np.ndarray,
    defended: Sequence[np.ndarray],
    clean: np.ndarray,
    guarded: Sequence[np.ndarray],
    candidates: list[int],
    *,
    most: float = 0.05,
    alpha: float = 0.05,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
    clusters: np.ndarray | None = None,
) -> Volume:
    """Hypervolume on the report split of configurations chosen on the selection split, by the
    crossed bootstrap.

    A Pareto set of noisy points flatters itself, so `candidates` must come from other students and
    items. Draws without a positive gap U - F give the defence nothing.

    Args:
        floor: shares `[S, N]`.
        undefended: shares `[S, N]`.
        defended: shares `[S, N]` by configuration.
        clean: teacher's shares `[S, N]`.
        guarded: the same `[S, N]` by configuration.
        candidates: configurations that no other beat on the selection split.
        most: largest loss that counts, a share.
        alpha: level of the two-sided interval.
        draws: B.
        seed: of the bootstrap.
        clusters: labels `[N]` of items that belong together; None where each is its own.
    """
    drawn = bootstrap.start(np.shape(floor)[1], draws, seed, clusters)
    f_B, u_B, c_B = (bootstrap.means(drawn, arm) for arm in (floor, undefended, clean))
    d_KB = np.stack([bootstrap.means(drawn, defended[k]) for k in candidates])
    g_KB = np.stack([bootstrap.means(drawn, guarded[k]) for k in candidates])
    share_KB = np.nan_to_num(normalised_transfer(f_B, u_B, d_KB), nan=1.0)
    value_B = np.array(
        [
            hypervolume(loss, share, most)
            for loss, share in zip((c_B - g_KB).T, share_KB.T, strict=True)
        ]
    )
    right_K = [np.mean(defended[k]) for k in candidates]
    share_K = normalised_transfer(np.mean(floor), np.mean(undefended), right_K)
    loss_K = [float(np.mean(clean) - np.mean(guarded[k])) for k in candidates]
    return Volume(
        hypervolume(np.array(loss_K), np.nan_to_num(share_K, nan=1.0), most),
        *bootstrap.interval(value_B, alpha=alpha),
        candidates,
    )
