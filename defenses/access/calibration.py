"""What scores of clean traffic say: thresholds at a rate of false alarms, and p-values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from distill.campaigns import SEGMENTS


def conformal(scores: np.ndarray, alpha: float) -> float:
    """The smallest threshold that one more draw like these exceeds with probability at most alpha.

    The ceil((n + 1)(1 - alpha))-th smallest of n scores (split conformal, Vovk et al. 2005);
    infinite where n is too small to tell, below 1 / alpha - 1.

    Args:
        scores: `[n]` of what is normal, in any order.
        alpha: in (0, 1).
    """
    rank = int(np.ceil((len(scores) + 1) * (1 - alpha) - 1e-9))
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else np.inf


class Calibration:
    """Highest scores over a whole clean horizon, by detector and segment.

    Of customers, each by its worst account, because the accounts of one customer rise and fall
    together; and of accounts, because what flags large customers flags more accounts than
    customers.

    Args:
        highest: by detector, the highest score of each account `[A]`.
        segment: of each account `[A]`.
        owner: customer of each account `[A]`.
    """

    def __init__(
        self, highest: Mapping[str, np.ndarray], segment: np.ndarray, owner: np.ndarray
    ) -> None:
        rows = [np.flatnonzero(segment == s) for s in range(len(SEGMENTS))]
        self.accounts = {name: [one[here] for here in rows] for name, one in highest.items()}
        self.sorted = {
            name: [np.sort(by_customer(one[here], owner[here])) for here in rows]
            for name, one in highest.items()
        }

    def threshold(self, name: str, alpha: float) -> np.ndarray:
        """By segment `[S]`: exceeded over the horizon by no more than alpha of the customers nor of
        the accounts.

        Args:
            name: of the detector.
            alpha: rate of false alarms over the horizon.
        """
        both = zip(self.sorted[name], self.accounts[name], strict=True)
        return np.array([max(conformal(one, alpha) for one in pair) for pair in both])

    def p_value(self, name: str, scores: np.ndarray, segment: np.ndarray) -> np.ndarray:
        """Conformal p-values: (1 + customers with at least this score) / (n + 1), `[A]`.

        Args:
            name: of the detector.
            scores: of accounts `[A]`.
            segment: of each account `[A]`.
        """
        p = np.ones(len(scores))
        for s, clean in enumerate(self.sorted[name]):
            rows = segment == s
            p[rows] = (1 + len(clean) - np.searchsorted(clean, scores[rows], side="left")) / (
                len(clean) + 1
            )
        return p


def by_customer(scores: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """The highest score among each customer's accounts, in order of customer `[customers]`.

    Args:
        scores: of accounts `[A]`.
        owner: customer of each account `[A]`.
    """
    if not len(scores):
        return scores
    order = np.argsort(owner, kind="stable")
    return np.maximum.reduceat(
        scores[order], np.flatnonzero(np.diff(owner[order], prepend=owner[order][0] + 1))
    )
