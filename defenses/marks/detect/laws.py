"""Exact tails of what is counted without a mark, as natural logarithms: p-values far below the
smallest float stay numbers.

Each is the probability, over a key that the text was made without, of so much or more.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln, logsumexp, xlog1py, xlogy


def _log_choose(n: float | np.ndarray, k: np.ndarray) -> np.ndarray:
    terms: np.ndarray = gammaln(np.add(n, 1.0)) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return terms


def _log_sum(terms: np.ndarray) -> float:
    """log of a sum of probabilities, which is at most 1."""
    return min(0.0, float(logsumexp(terms))) if terms.size else -np.inf


def binomial(hits: int, trials: int, chance: float) -> float:
    """log P(Binomial(trials, chance) >= hits).

    Args:
        hits: that were counted.
        trials: independent ones.
        chance: of a hit, in (0, 1).
    """
    if hits <= 0:
        return 0.0
    k = np.arange(hits, trials + 1)
    return _log_sum(_log_choose(trials, k) + xlogy(k, chance) + xlog1py(trials - k, -chance))


def hypergeometric(hits: int, drawn: int, green: int, size: int) -> float:
    """log P(at least `hits` of `drawn` are green), drawn without putting back.

    Args:
        hits: green ones among those drawn.
        drawn: of the whole.
        green: in the whole.
        size: of the whole.
    """
    least = max(0, drawn - (size - green))
    if hits <= least:
        return 0.0
    k = np.arange(hits, min(drawn, green) + 1)
    whole = _log_choose(size, np.array(drawn))
    return _log_sum(_log_choose(green, k) + _log_choose(size - green, drawn - k) - whole)


def gamma(total: float, draws: int) -> float:
    """log P(Gamma(draws, 1) >= total): of a sum of so many standard exponentials.

    It is the chance that fewer than `draws` events of a Poisson process come in time `total`.

    Args:
        total: the sum.
        draws: at least 1.
    """
    k = np.arange(draws)
    return _log_sum(xlogy(k, total) - total - gammaln(k + 1.0))


def poisson_binomial(hits: int, chances_N: np.ndarray) -> float:
    """log P(at least `hits` of independent trials hit), each with a chance of its own; by
    convolution, N^2 steps.

    Args:
        hits: that were counted.
        chances_N: of each trial, in [0, 1].
    """
    if hits <= 0:
        return 0.0
    log_K = np.full(len(chances_N) + 1, -np.inf)  # of k hits among those so far
    log_K[0] = 0.0
    with np.errstate(divide="ignore"):
        for hit, miss in zip(np.log(chances_N), np.log1p(-chances_N), strict=True):
            log_K[1:] = np.logaddexp(log_K[1:] + miss, log_K[:-1] + hit)
            log_K[0] += miss
    return _log_sum(log_K[hits:])


def hoeffding(excess: float, squares: float) -> float:
    """log of Hoeffding's bound exp(-2 excess^2 / squares) on the chance of so much above the
    expectation (1963): no smaller than the tail, often far larger.

    Args:
        excess: of a sum of independent bounded numbers above its expectation.
        squares: sum of the squared ranges of these numbers.
    """
    return -2 * excess**2 / squares if excess > 0 else 0.0
