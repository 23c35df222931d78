"""Top-k logprobs: only the k most likely tokens are released with their logprobs, the industry's
default.

Un-renormalised, as services do it and as the official code of prediction poisoning does (Orekondy
et al. 2020): what is missing from a row's total is the tail, at L1 distance 1 - m_k to the whole
row, m_k being the mass of the top k.

What k hides is measured by `diameter` (2605.10407): how far apart two distributions can be that are
both compatible with what was seen, where that is scores up to a constant. Logprobs say more, the
tail's mass m; two completions of a row then are at most min(m, (V - k) e^tau - m) apart in total
variation, tau being the row's last logprob. Axes: T positions, K released entries, V vocabulary.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses import DefenseSettings, Strength, Traits
from defenses.release import LogprobEdit
from distill.completions import BadInput, Completion, Logprobs


def top_k(logprobs: Logprobs, k: int) -> Logprobs:
    """The first k entries of every row: rows are sorted, so the most likely, in their order and
    with their values.

    Args:
        logprobs: T rows.
        k: entries a row.
    """
    return Logprobs(logprobs.ids_TK[:, :k], logprobs.values_TK[:, :k])


def diameter(log_threshold: float, log_observed: float, V: int, K: int) -> float:
    """Largest total variation between two distributions over V tokens of which K scores are known,
    up to a constant.

    U_K = (V - K) e^tau / (Z_A + (V - K) e^tau) (2605.10407): no unseen score is above tau =
    `log_threshold`, and `log_observed` = log Z_A, the log of the summed exp of the seen scores. It
    is the largest mass of the unseen: one of the two gives them all of that, the other nothing.

    Args:
        log_threshold: tau, nats.
        log_observed: log Z_A, nats.
        V: tokens of the vocabulary.
        K: known scores.

    Raises:
        BadInput: K is not in 1 to V.
    """
    if not 0 < K <= V:
        raise BadInput(f"diameter: K must be in 1 to V, got K={K} of V={V}")
    if K == V:
        return 0.0
    return float(np.exp(-np.logaddexp(0.0, log_observed - log_threshold - np.log(V - K))))


class Settings(DefenseSettings):
    """`k`: how many logprobs a position are released; None releases all that there are, which is no
    defence.
    """

    k: int | None = Field(5, ge=1, le=1_000_000)


class Defense(LogprobEdit):
    """Releases the k most likely of the logprobs."""

    settings: Settings
    traits = Traits(
        acts_on="logprobs",
        identity={"k": None},
        strength=Strength("k", None, 20, 1),
        keeps_argmax=True,
        paper="Orekondy et al. 2020",
    )

    def logprobs(self, logprobs: Logprobs, answer: Completion) -> Logprobs:
        assert self.settings.k is not None  # that would be no defence
        return top_k(logprobs, self.settings.k)
