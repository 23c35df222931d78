"""Content: has this customer's traffic moved to the capabilities worth copying, beyond how
customers differ anyway?

The log likelihood ratio of all its topics so far, Dirichlet-multinomial against
Dirichlet-multinomial. The null is the segment's: its mean shares b and concentration c = 1 / rho -
1 (Madsen, Kauchak & Elkan 2005 for the model). The alternative moves a share of the mass to the
watched capabilities, in their usual proportions, with the same c. Under the null the ratio is a
martingale over exchanges, so its running maximum needs no correction for looking often (Ville
1939); thresholds are calibrated all the same.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy.special import gammaln

from defenses.access import AccessSettings, BaseDetector, Baseline, Day
from distill.campaigns import CAPABILITIES, CAPABILITY_OF, Accounts


class Settings(AccessSettings):
    """How much evidence the detector wants, and what it looks at."""

    watched: tuple[str, ...] = Field(
        default=("coding", "agentic", "reasoning", "analysis", "grading"),
        description="capabilities worth copying",
    )
    share: float = Field(
        default=0.5, gt=0, le=1, description="mass that the alternative moves to them"
    )


def tilt(base_SK: np.ndarray, watched_K: np.ndarray, share: float) -> np.ndarray:
    """(1 - share) b + share b restricted to the watched topics.

    Args:
        base_SK: b, shares of topics by segment.
        watched_K: 1 for a watched topic, else 0.
        share: mass that moves to them.

    Returns:
        Shares `[S, K]`.
    """
    inside = base_SK * watched_K
    if not inside.any():  # nothing that is watched was ever seen: the two hypotheses are one
        return base_SK
    watched_SK: np.ndarray = share * inside / inside.sum(axis=-1, keepdims=True)
    tilted: np.ndarray = (1 - share) * base_SK + watched_SK
    return tilted


def step(x: np.ndarray, more: np.ndarray, alternative: np.ndarray, null: np.ndarray) -> np.ndarray:
    """What `more` draws of a topic seen x times add to the log ratio: sum over j < more of log
    (x+j+a) / (x+j+b).

    Parameters are concentration x share; the totals over topics are equal on both sides and cancel.

    Args:
        x: draws so far `[n]`, one topic of one account each.
        more: further draws `[n]`.
        alternative: a `[n]`.
        null: b `[n]`.

    Returns:
        Nats `[n]`.
    """
    added: np.ndarray = (
        gammaln(x + more + alternative)
        - gammaln(x + alternative)
        - gammaln(x + more + null)
        + gammaln(x + null)
    )
    return added


class Detector(BaseDetector):
    """Scores the log likelihood ratio of an account's topics, watched against usual."""

    settings: Settings
    name = "content"
    alone = True

    def __init__(self, settings: Settings, baseline: Baseline) -> None:
        super().__init__(settings, baseline)
        numbers = [list(CAPABILITIES).index(name) for name in settings.watched]
        encoder = baseline.encoder
        capability_K = CAPABILITY_OF if encoder is None else encoder.capability_K
        concentration = 1 / baseline.rho_S[:, None] - 1
        self.null = concentration * baseline.topics_SK
        self.alternative = concentration * tilt(
            baseline.topics_SK, np.isin(capability_K, numbers), settings.share
        )

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.score[:] = 0
        # The same few numbers come again and again: gammaln once for each topic and count below
        # this.
        self.table = np.zeros((*self.null.shape, 64), np.float32)
        for x in range(64):
            self.table[..., x] = np.log((x + self.alternative) / (x + self.null))

    def update(self, day: Day) -> None:
        account, topic, count = day.cells
        s = day.accounts.segment[account]
        before = day.ledger.topics_AK[account, topic] - count
        in_table = (count == 1) & (before < 64)
        moved = np.empty(len(account))
        moved[in_table] = self.table[s[in_table], topic[in_table], before[in_table]]
        beyond = ~in_table
        moved[beyond] = step(
            before[beyond],
            count[beyond],
            self.alternative[s[beyond], topic[beyond]],
            self.null[s[beyond], topic[beyond]],
        )
        starts = np.searchsorted(account, day.active)
        self.score[day.active] += np.add.reduceat(moved, starts) if len(starts) else 0
