"""Moments of counts over accounts that differ: what a baseline learns, and scores against it."""

from __future__ import annotations

import numpy as np

from distill.campaigns import SEGMENTS

FEWEST = 10  # accounts from which moments are taken; below it those of a wider group
NARROWEST = 0.1  # the least standard deviation of a log that is believed


def overdispersion(x_K: np.ndarray, base_K: np.ndarray) -> float:
    """Unbiased rho of topic counts x drawn from Dirichlet-multinomial(base, rho), rho = 1 /
    (concentration + 1).

    E x_k (x_k - 1) = n (n - 1) (b_k^2 + rho b_k (1 - b_k)), divided by b_k and summed over the K
    topics that occur at all (b > 0); n at least 2.

    Args:
        x_K: counts of one account.
        base_K: shares of the population, all above 0.

    Returns:
        0 where only one topic occurs, of which all are as fond.
    """
    if len(base_K) < 2:
        return 0.0
    n = x_K.sum()
    return float(((x_K * (x_K - 1) / base_K).sum() / (n * (n - 1)) - 1) / (len(base_K) - 1))


def beta_moments(hits: np.ndarray, n: np.ndarray, least: int = 2) -> tuple[float, float]:
    """Mean share over accounts with at least `least` trials, and rho from pairs: E k (k-1) / (n
    (n-1)) = E p^2.

    Args:
        hits: k by account `[A]`.
        n: trials by account `[A]`.
        least: trials that are enough.

    Returns:
        Mean and rho, each in (0, 1).
    """
    enough = n >= least
    if not enough.any():
        return 0.5, 0.5
    k, m = hits[enough].astype(float), n[enough].astype(float)
    mean = float(np.clip((k / m).mean(), 1e-4, 1 - 1e-4))
    rho = ((k * (k - 1) / (m * (m - 1))).mean() - mean**2) / (mean * (1 - mean))
    return mean, float(np.clip(rho, 1e-3, 0.99))


def excess(
    hits: np.ndarray, n: np.ndarray, habit_mean: np.ndarray, habit_rho: np.ndarray
) -> np.ndarray:
    """Standard score of k hits in n under a beta-binomial: variance n p (1 - p) (1 +
    (n - 1) rho).

    Args:
        hits: k by account `[A]`.
        n: trials by account `[A]`.
        habit_mean: p by account `[A]`.
        habit_rho: rho by account `[A]`.

    Returns:
        Standard deviations `[A]`.
    """
    spread = n * habit_mean * (1 - habit_mean) * (1 + (n - 1) * habit_rho)
    score: np.ndarray = (hits - n * habit_mean) / np.sqrt(np.maximum(spread, 1e-12))
    return score


def normal_by_part(
    x: np.ndarray, segment: np.ndarray, part: np.ndarray, parts: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation by segment and part of it, such as a plan; those of the segment
    where a part has fewer than `FEWEST`, and those of all where a segment has.

    Args:
        x: of accounts `[A]`.
        segment: numbers `[A]`.
        part: numbers `[A]`.
        parts: how many there are.

    Returns:
        `[S, parts]` each.
    """
    mean, sd = np.empty((len(SEGMENTS), parts)), np.empty((len(SEGMENTS), parts))
    for s in range(len(SEGMENTS)):
        wide = [x[segment == s], x]
        for p in range(parts):
            inside = [x[(segment == s) & (part == p)], *wide]
            enough = next((some for some in inside if len(some) >= FEWEST), None)
            mean[s, p], sd[s, p] = (0, 1) if enough is None else (enough.mean(), enough.std(ddof=1))
    return mean, np.maximum(sd, NARROWEST)


def line_by_segment(
    x: np.ndarray, y: np.ndarray, segment: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares of y on x by segment: start, slope and the standard deviation around the line;
    of all where a segment has fewer than `FEWEST`.

    Args:
        x: of accounts `[A]`.
        y: of accounts `[A]`.
        segment: numbers `[A]`.

    Returns:
        `[S]` each.
    """
    lines = np.empty((3, len(SEGMENTS)))
    for s in range(len(SEGMENTS)):
        rows = np.flatnonzero(segment == s)
        rows = rows if len(rows) >= FEWEST else np.arange(len(x))
        if len(rows) < FEWEST:
            lines[:, s] = 0, 0, 1
            continue
        away = x[rows] - x[rows].mean()
        slope = (away * y[rows]).sum() / max((away**2).sum(), 1e-12)
        rest = y[rows] - y[rows].mean() - slope * away
        sd = np.sqrt((rest**2).sum() / (len(rows) - 2))
        lines[:, s] = y[rows].mean() - slope * x[rows].mean(), slope, max(sd, NARROWEST)
    return lines[0], lines[1], lines[2]


def rhythm_moments(
    hands: np.ndarray,
    n: np.ndarray,
    squares: np.ndarray,
    events: np.ndarray,
    segment: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """How far accounts of each segment follow the day, and the design effect of their exchanges.

    With S_d the sum of an account's hands on day d and n_d its exchanges, different days give
    E S_d . S_e = n_d n_e r^2, r the length of its mean hand; so (|sum S_d|^2 - sum |S_d|^2) over
    (n^2 - sum n_d^2) is unbiased for r^2 however exchanges of a day hang together. What
    r^2 sum n_d^2 leaves of sum |S_d|^2 is n times the design effect. Both are means over accounts.

    Args:
        hands: sum over days of S_d `[A]`, complex.
        n: exchanges `[A]`.
        squares: sum over days of |S_d|^2 `[A]`.
        events: sum over days of n_d^2 `[A]`.
        segment: numbers `[A]`.

    Returns:
        The root mean square of r, and the design effect, at least 1, `[S]` each.
    """
    strength, design = np.empty(len(SEGMENTS)), np.empty(len(SEGMENTS))
    pairs = n.astype(float) ** 2 - events
    for s in range(len(SEGMENTS)):
        rows = np.flatnonzero((segment == s) & (pairs > 0))
        rows = rows if len(rows) >= FEWEST else np.flatnonzero(pairs > 0)
        if len(rows) < FEWEST:
            strength[s], design[s] = 0.2, 1
            continue
        r2 = (np.abs(hands[rows]) ** 2 - squares[rows]) / pairs[rows]
        strength[s] = np.sqrt(np.clip(r2.mean(), 1e-3, 0.99))
        design[s] = max(((squares[rows] - r2 * events[rows]) / n[rows]).mean(), 1.0)
    return strength, design
