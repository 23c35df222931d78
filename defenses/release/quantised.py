"""Quantised logprobs: a coarse grid of distributions, of which the nearest below is released.

What ModelGuard-S is for (Tang et al. 2024, USENIX Security), against attackers who know the
defence: release as little information about y as an L1 budget eps allows, by quantisation. It is
not its algorithm. Theirs returns the first earlier answer within eps, so that what one user sees
depends on what others asked, and at a thousand classes hardly two answers share one; where they do,
it tells less than this grid (1.4 to 3.3 bits a row at the same eps in three of four trials). Here a
bucket is a function of the row alone: from the likeliest token on, probabilities are rounded down
to powers of 1 - eps/2, until those rounded make up 1 - eps/2; all other tokens are withheld, and
their mass is in the tail. So two rows with the same first few tokens and the same powers are
released as one, the order among equal powers is that of the token ids (behind the likeliest), and
nothing else about a row can be learned: I(y; y~) is at most the logarithm of the number of buckets.

L1 <= eps over the tokens that are named and the rest in one, as rounding down takes eps/2 of the
mass at most. It holds over the whole vocabulary, whatever an attacker takes the withheld mass for,
wherever what is named makes up 1 - eps/2; only a tail of the row's own, as under a small k, can
prevent that. Releasing a released row again changes nothing. The buckets that were proposed for
language models, of top token, its probability and entropy, keep to no budget, and to mix their
distributions with y until they do gives y away; so this is not those.
Axes: T positions, K released entries, N of these that are not withheld.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses import DefenseSettings, Strength, Traits
from defenses.release import LogprobEdit
from defenses.release._distributions import argsort_ascending, take_along
from distill.completions import Completion, Logprobs


def bucket(logprobs: Logprobs, eps: float) -> Logprobs:
    """The grid point of each row's bucket: logprobs are multiples of log(1 - eps/2), withheld
    entries -1 and -inf.

    Args:
        logprobs: T rows.
        eps: the L1 budget, in (0, 2).
    """
    step = -np.log1p(-eps / 2)
    # What is a power but for the rounding of float32 is that power, or a released row would not be
    # in its own bucket; and what is certain is not told from what is nearly so, as that is rounding
    # too.
    powers_TK = np.ceil(-logprobs.values_TK.astype(np.float64) / step * (1 - 1e-6)).clip(min=1)
    p_TK = np.exp(-step * powers_TK)
    named_TK = (p_TK > 0) & (np.cumsum(p_TK, -1) - p_TK < 1 - eps / 2 - 1e-9)
    width = int(named_TK.sum(-1).max(initial=0))  # rows are sorted, so what is named comes first
    ids_TN, named_TN = logprobs.ids_TK[:, :width], named_TK[:, :width]
    powers_TN = np.where(named_TN, powers_TK[:, :width], np.inf)
    # By power, where the likeliest is one of its own, and then by id: powers rise already, and
    # change at few places.
    changes_TN = np.ones(powers_TN.shape, bool)
    np.not_equal(powers_TN[:, 2:], powers_TN[:, 1:-1], out=changes_TN[:, 2:])
    order_TN = argsort_ascending(ids_TN)
    places_TN = np.cumsum(changes_TN, -1, dtype=np.int32)
    order_TN = take_along(order_TN, argsort_ascending(take_along(places_TN, order_TN)))
    ids_TK, values_TK = np.full_like(logprobs.ids_TK, -1), np.full_like(logprobs.values_TK, -np.inf)
    ids_TK[:, :width] = take_along(np.where(named_TN, ids_TN, -1), order_TN)
    values_TK[:, :width] = take_along(-step * powers_TN, order_TN)
    return Logprobs(ids_TK, values_TK)


class Settings(DefenseSettings):
    """`eps`: L1 budget a position, in [0, 2) (0: no defence)."""

    eps: float = Field(1.0, ge=0, lt=2)


class Defense(LogprobEdit):
    """Releases the point of a public grid that stands for the row's bucket."""

    settings: Settings
    traits = Traits(
        acts_on="logprobs",
        identity={"eps": 0.0},
        strength=Strength("eps", 0.0, 0.01, 1.9, log=True),
        keeps_argmax=True,
        paper="Tang et al. 2024",
    )

    def logprobs(self, logprobs: Logprobs, answer: Completion) -> Logprobs:
        return bucket(logprobs, self.settings.eps)
