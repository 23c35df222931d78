"""Too average: an account closer to a segment's mean topics than any single customer is.

An account that carries many people's requests looks like their mean; one customer does not. rho
estimates how far the account's topics are from a mean (see `overdispersion`); the score is minus
the log of the largest rho that is still plausible, so that it rises with evidence and only where
there is none of a customer's own taste. The mean of every segment is tried, since cover need not
come from the segment that an account signed up for. Lawful resellers are just like that: this ranks
who pools, not who distils. Cover by one coherent customer defeats it.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, Day
from distill.campaigns import SEGMENTS, TOPICS, Accounts


class Settings(AccessSettings):
    """How much evidence the detector wants, and what it looks at."""

    least: int = Field(
        default=30, ge=2, le=1_000_000, description="exchanges before anything is said"
    )
    z: float = Field(default=2.0, ge=0, description="standard errors that count as plausible")


def ceiling(rho: np.ndarray, degrees: np.ndarray | float, n: np.ndarray, z: float) -> np.ndarray:
    """Minus log of the largest plausible rho: X2/dof - 1 is rho (n - 1), with variance 2/dof where
    rho is 0.

    Args:
        rho: of each pair or account `[n]`.
        degrees: of freedom, one number or `[n]`.
        n: exchanges `[n]`, two or more.
        z: standard errors that count as plausible.

    Returns:
        `[n]`, no unit; the less overdispersion is plausible, the larger.
    """
    largest = np.maximum(rho, 0) + z * np.sqrt(2 / degrees) / (n - 1)
    score: np.ndarray = -np.log(largest)
    return score


class Detector(BaseDetector):
    """Scores how near an account's topics are to a segment's mean: minus log of the largest
    plausible rho.
    """

    settings: Settings
    name = "average"
    alone = True

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        # By segment and account, the sum over topics of x (x - 1) / b.
        self.pairs = np.zeros((len(SEGMENTS), accounts.capacity))

    def update(self, day: Day) -> None:
        account, topic, count = day.cells
        if not len(account):
            return
        x = day.ledger.topics_AK[account, topic].astype(np.int64)
        more = count * (2 * x - count - 1)  # x (x - 1) now, less what it was before today
        judged = day.active[day.ledger.n[day.active] >= self.settings.least]
        n, starts = day.ledger.n[judged], np.searchsorted(account, day.active)
        nearest = np.full(len(judged), np.inf)
        for pairs, base_K in zip(self.pairs, self.baseline.topics_SK, strict=True):
            pairs[day.active] += np.add.reduceat(more / base_K[topic], starts)
            nearest = np.minimum(nearest, (pairs[judged] / (n * (n - 1)) - 1) / (TOPICS - 1))
        self.score[judged] = ceiling(nearest, TOPICS - 1, n, self.settings.z)
