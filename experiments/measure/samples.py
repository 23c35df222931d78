"""How often one of several sampled answers is right."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln


def pass_at(right: np.ndarray, samples: int, k: int) -> np.ndarray:
    """pass@k of each question: how likely at least one of k sampled answers is right, without bias
    (Chen et al. 2021, 2107.03374, equation 1): 1 - C(n - c, k) / C(n, k).

    Args:
        right: c, how many of the samples were right `[...]`.
        samples: n, answers sampled to each question.
        k: of them that are looked at, 1 to n.

    Returns:
        Shares `[...]`.

    Raises:
        ValueError: k is not in 1 to n, or a count is not in 0 to n.
    """
    counts = np.asarray(right, float)
    if not 1 <= k <= samples:
        raise ValueError(f"k must be from 1 to {samples}, got {k}")
    if counts.size and not (counts.min() >= 0 and counts.max() <= samples):
        raise ValueError(f"right answers must be from 0 to {samples}, got {right}")
    wrong = samples - counts
    none_right = np.where(wrong >= k, wrong, k)  # where fewer are wrong, one of k is right
    logs = _log_choose(none_right, k) - _log_choose(np.asarray(float(samples)), k)
    return np.where(wrong >= k, 1 - np.exp(logs), 1.0)


def sizes(samples: int) -> list[int]:
    """The k that are reported: powers of two, and all samples.

    Args:
        samples: answers to each question; 0 for none.
    """
    powers = [1 << power for power in range(samples.bit_length()) if 1 << power < samples]
    return [*powers, samples] if samples else []


def _log_choose(n: np.ndarray, k: int) -> np.ndarray:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))
