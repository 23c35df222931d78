"""Reverse sigmoid: what is likely is released as less likely, what is unlikely as more, so that two
inputs share one.

Lee et al. 2019 (SPW): y~ = alpha (y - r) with r = beta (sigmoid(gamma logit y) - 1/2) and alpha
such that y~ sums to 1. Ambiguous only where y - r falls, at both ends: below p = 0.0006 and above 1
- 0.0006 at beta 0.02 and gamma 0.2, 0.013 at beta 0.3. It holds no secret, and an attacker who
searches for alpha inverts the rest.

beta is c / A for A atoms, as one that is fixed drowns a large vocabulary: authors who kept their L1
near 1 went from
0.21 at 10 classes to 0.008 at 256, which is c = 2.1 at both. It is 1 at most, and 1 / gamma: above
  that a token that is nearly certain loses its place, and then all of its probability. A likeliest
  token may lose its place only where it is below 1/2. Released code clamps the odds y / (1 - y)
  below 1, which never reduces what is above 1/2, the very tokens that the paper reduces most; here
  nothing is clamped. Axes: T positions, A atoms (`_distributions`).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses import DefenseSettings, Strength, Traits
from defenses.release import LogprobEdit
from defenses.release._distributions import atom_probabilities, replace_probabilities
from distill.completions import Completion, Logprobs


def sigmoid_offset(y: np.ndarray, beta: np.ndarray | float, gamma: float) -> np.ndarray:
    """r, how much is taken from each probability before they are normalised: odd about 1/2, within
    beta / 2 of 0.

    Args:
        y: probabilities `[...]`.
        beta: height, one number or `[...]` that broadcasts to y.
        gamma: slope of the sigmoid in log-odds.

    Returns:
        `[...]`, probabilities.
    """
    up, down = y.copy(), np.asarray(1 - y)
    with np.errstate(divide="ignore"):  # log 0 is -inf, whose exponential is 0 again
        for power in (up, down):
            np.log(power, out=power)
            power *= gamma
            np.exp(power, out=power)
    down += up
    up /= down  # sigmoid(gamma logit y), without its two slow functions
    up -= 0.5
    up *= beta
    return up


def beta_of(c: float, gamma: float, atoms_T1: np.ndarray) -> np.ndarray:
    """The sigmoid's height for rows of so many atoms: c / A, but no more than leaves a token that
    is above 1/2 in its place.

    Args:
        c: beta times the number of atoms.
        gamma: slope of the sigmoid in log-odds.
        atoms_T1: how many atoms each row has.

    Returns:
        `[T, 1]`.
    """
    return np.minimum(c / atoms_T1.clip(min=1), min(1.0, 1 / gamma))


def add_reverse_sigmoid(
    y_TA: np.ndarray, there_TA: np.ndarray, c: float, gamma: float
) -> np.ndarray:
    """y~ of each row over the atoms that there are; the others stay at 0.

    Args:
        y_TA: probabilities of atoms.
        there_TA: which atoms there are.
        c: beta times the number of atoms; 0 is no defence, and more than there are atoms is as
            much as there are.
        gamma: slope of the sigmoid in log-odds.

    Returns:
        Probabilities `[T, A]`.
    """
    beta_T1 = beta_of(c, gamma, there_TA.sum(-1, keepdims=True))
    bare_TA = sigmoid_offset(y_TA.clip(0, 1), beta_T1, gamma)
    np.maximum(np.subtract(y_TA, bare_TA, out=bare_TA), 0, out=bare_TA)  # but for rounding
    bare_TA[~there_TA] = 0
    totals_T1 = bare_TA.sum(-1, keepdims=True)
    bare_TA /= np.where(totals_T1 > 0, totals_T1, 1)
    return bare_TA


class Settings(DefenseSettings):
    """`c`: strength, beta times the number of atoms (0: no defence); no more than there are atoms
    counts. `gamma`: slope of the sigmoid in log-odds.
    """

    c: float = Field(2.1, ge=0)
    gamma: float = Field(0.2, gt=0)


class Defense(LogprobEdit):
    """Releases reversed probabilities."""

    settings: Settings
    traits = Traits(
        acts_on="logprobs",
        identity={"c": 0.0},
        strength=Strength("c", 0.0, 0.05, 20.0, log=True),
        paper="Lee et al. 2019",
    )

    def logprobs(self, logprobs: Logprobs, answer: Completion) -> Logprobs:
        y_TA, there_TA = atom_probabilities(logprobs)
        moved_TA = add_reverse_sigmoid(y_TA, there_TA, self.settings.c, self.settings.gamma)
        return replace_probabilities(logprobs, moved_TA)
