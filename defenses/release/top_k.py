"""Top-k logprobs: only the k most likely tokens are released with their logprobs, the industry's default.

Un-renormalised, as services do it and as the official code of prediction poisoning does (Orekondy et al. 2020): what is
missing from a row's total is the tail, at L1 distance 1 - m_k to the whole row, m_k being the mass of the top k.
Axes: T positions, K released entries.
"""

from __future__ import annotations

from pydantic import Field

from defenses import Knob, Part
from defenses.release import LogprobEdit
from distill.answers import Answer, Logprobs


def top_k(logprobs: Logprobs, k: int) -> Logprobs:
    """The first k entries of every row: rows are sorted, so the most likely, in their order and with their values."""
    return Logprobs(logprobs.ids_TK[:, :k], logprobs.values_TK[:, :k])


class Settings(Part):
    """`k`: how many logprobs a position are released; None releases all that there are, which is no defence."""

    k: int | None = Field(5, ge=1)


class Defense(LogprobEdit):
    """Releases the k most likely of the logprobs."""

    keeps_argmax = True
    identity = {"k": None}
    knob = Knob("k", None, 20, 1)
    paper = "Orekondy et al. 2020"

    def logprobs(self, logprobs: Logprobs, answer: Answer) -> Logprobs:
        return top_k(logprobs, self.settings.k)
