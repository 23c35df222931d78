"""Fast draws that honest traffic and campaigns share, and the tables that they draw from.

Numbers are drawn in steps of 1/65536, as an index into a table of quantiles: a look-up costs a
fraction of what a transformed draw does, and millions of exchanges are drawn a day.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from scipy import special

from distill.campaigns import CAPABILITIES, CAPABILITY_OF, MINUTES, TOPICS

QUANTILES = (np.arange(65536) + 0.5) / 65536
EXPONENTIAL = -np.log(QUANTILES).astype(np.float32)  # mean 1
LOGNORMAL = np.exp(special.ndtri(QUANTILES) - 0.5).astype(np.float32)  # mean 1, sigma 1
_Share = TypeVar("_Share", float, np.ndarray)
STEPS = 65535  # resolution of a preference: probabilities are multiples of 1/65535


def uniform16(rng: np.random.Generator, n: int) -> np.ndarray:
    """Random quantiles in steps of 1/65536, as indices `[n]` into tables of 65,536
    entries.

    Args:
        rng: from which they are drawn.
        n: how many.
    """
    return rng.integers(0, 65536, n, dtype=np.uint16)


def bernoulli(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """True with probability p each, to 1/2^16 (0 never, 1 always).

    Args:
        p: probabilities `[n]`.
        rng: from which they are drawn.

    Returns:
        A mask `[n]`.
    """
    return uniform16(rng, len(p)) < (p * 65536).astype(np.uint32)


def token_counts(
    mean_in: np.ndarray, mean_out: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens in (lognormal, sigma 1) and out (exponential), at least 1 each.

    Args:
        mean_in: tokens `[E]`.
        mean_out: tokens `[E]`.
        rng: draws.

    Returns:
        Whole numbers of tokens, in and out, `[E]` each.
    """
    n = len(mean_in)
    return (
        np.maximum(mean_in * LOGNORMAL[uniform16(rng, n)], 1).astype(np.uint32),
        np.maximum(mean_out * EXPONENTIAL[uniform16(rng, n)], 1).astype(np.uint32),
    )


def topic_shares(mix: dict[str, float]) -> np.ndarray:
    """Shares of the K topics in a mix of capabilities, in proportion; within a capability they fall
    as 1/rank (Zipf; assumed).

    Args:
        mix: weight by capability; what it does not name weighs 0.

    Returns:
        `[K]`, which sum to 1.
    """
    shares = np.zeros(TOPICS)
    for i, name in enumerate(CAPABILITIES):
        members = np.flatnonzero(CAPABILITY_OF == i)
        weights = 1 / np.arange(1.0, len(members) + 1)
        shares[members] = mix.get(name, 0) * weights / weights.sum()
    mixed: np.ndarray = shares / shares.sum()
    return mixed


def beta(mean: _Share, concentration: float) -> tuple[_Share, _Share]:
    """The two parameters of a Beta.

    Args:
        mean: a share, or shares `[n]`.
        concentration: above 0; large is near the mean.
    """
    return mean * concentration, (1 - mean) * concentration


def moved(adopts: np.ndarray, since: int, half: float) -> np.ndarray:
    """Share of traffic that has moved to a new model.

    Args:
        adopts: shares that move in the end `[n]`.
        since: days since the model came out.
        half: days after which half have moved.

    Returns:
        `[n]`.
    """
    share: np.ndarray = adopts * (1 - 2.0 ** (-(since + 1) / half))
    return share


def session_starts(
    clock_SQ: np.ndarray, segment: np.ndarray, zone: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Minute of the day, at UTC, at which each session starts; it may lie a day before or after.

    Args:
        clock_SQ: minute of the local day at each of Q = 65,536 quantiles, by segment.
        segment: of whose session it is `[sessions]`.
        zone: hours from UTC `[sessions]`.
        rng: draws.

    Returns:
        `[sessions]`.
    """
    minute = clock_SQ[segment, uniform16(rng, len(segment))]
    start: np.ndarray = minute - zone.astype(np.int16) * 60
    return start


def exchange_minutes(start: np.ndarray, gap: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Minute of the day of each exchange: the start of its session and an exponential time more.

    Args:
        start: minute at which its session starts `[E]`.
        gap: mean minutes between exchanges of a session `[E]`.
        rng: draws.

    Returns:
        `[E]`, 0 to 1439.
    """
    # Twice the mean gap is the middle of a short session.
    after = gap * EXPONENTIAL[uniform16(rng, len(start))] * 2
    minute: np.ndarray = (start + after.astype(np.int16)) % MINUTES
    return minute.astype(np.uint16)


def dirichlet(
    mean_RK: np.ndarray, concentration: float | np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """One Dirichlet(concentration x mean) draw for each of R rows; topics of mean 0 stay 0.

    Args:
        mean_RK: shares of K topics by row.
        concentration: above 0, or one for each row `[R, 1]`; large is near the mean.
        rng: draws.

    Returns:
        Shares `[R, K]`.
    """
    drawn = rng.standard_gamma((concentration * mean_RK).astype(np.float32), dtype=np.float32)
    total = drawn.sum(axis=1, keepdims=True)
    # Where all shapes of a row are tiny, every draw underflows, and the mean stands in.
    return np.where(total > 0, drawn / np.maximum(total, 1e-30), mean_RK)


def minute_quantiles(peak: float) -> np.ndarray:
    """Minute of the local day at each of Q = 65,536 quantiles `[Q]`: sinusoidal, busiest at 15:00.

    Args:
        peak: intensity at the busiest over that at the quietest minute, at least 1.
    """
    minute = np.arange(MINUTES)
    swing = (peak - 1) / (peak + 1)
    weight = 1 + swing * np.cos(2 * np.pi * (minute - 15 * 60) / MINUTES)
    edge = np.cumsum(weight) / weight.sum()
    return np.searchsorted(edge, (np.arange(65536) + 0.5) / 65536).astype(np.int16)


class TopicPreferences:
    """Topic preferences, a row each, as cumulative shares in units of 1/STEPS: 256 bytes a row.

    Args:
        capacity: rows.
    """

    def __init__(self, capacity: int) -> None:
        self.cdf = np.zeros((capacity, TOPICS), np.uint16)
        self.count = 0

    def add(self, p_RK: np.ndarray) -> np.ndarray:
        """Append preferences and return their row numbers.

        Args:
            p_RK: R rows of weights of the K topics, in any unit.

        Returns:
            `[R]`.
        """
        rows = np.arange(self.count, self.count + len(p_RK))
        edge = np.cumsum(p_RK, axis=1, dtype=np.float64)
        self.cdf[rows] = np.round(edge / edge[:, -1:] * STEPS)
        self.count += len(rows)
        return rows

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A topic for each row number, by halving the row's cumulative shares.

        Args:
            rows: row numbers `[n]`.
            rng: from which they are drawn.

        Returns:
            Topic numbers `[n]`.
        """
        u = rng.integers(0, STEPS, len(rows), dtype=np.uint16)
        flat, first = self.cdf.reshape(-1), rows.astype(np.int32) * np.int32(TOPICS)
        at, step = first.copy(), TOPICS // 2
        while step:
            at += (flat[at + np.int32(step - 1)] <= u) * np.int32(step)
            step //= 2
        return (at - first).astype(np.uint8)


class UniqueIds:
    """Hands out numbers that nobody else has: payment tokens, devices, addresses, templates,
    customers.

    Args:
        first: the first number that it hands out.
    """

    def __init__(self, first: int = 1) -> None:
        self.next = first

    def take(self, n: int) -> np.ndarray:
        """The next n numbers `[n]`.

        Args:
            n: how many.
        """
        self.next += n
        return np.arange(self.next - n, self.next, dtype=np.uint32)
