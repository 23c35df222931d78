"""Noisy logprobs: Gaussian noise on what is released, a function of (key, prompt, position, token id) alone.

Noise that is fresh for each query averages out as sigma**2 / n; noise that is keyed to the prompt does not, however
often the same is asked. The control of gradient redirection and prediction poisoning (Orekondy et al. 2020), in nats.
Axes: T positions, K released entries.
"""

from __future__ import annotations

import hashlib

import numpy as np
from pydantic import Field

from defenses import Knob, Part
from defenses.release import LogprobEdit
from distill.answers import Answer, Logprobs


def keyed_normals(key: str, prompt: str, ids_TK: np.ndarray) -> np.ndarray:
    """Standard normal numbers (T, K), float64: each a function of key, prompt, row and token id, not of the column."""
    stem = hashlib.sha256(f"{len(key)}/{key}/{prompt}".encode())
    bases = []
    for position in range(len(ids_TK)):
        row = stem.copy()
        row.update(b"/%d" % position)
        bases.append(int.from_bytes(row.digest()[:8], "big"))
    # Counter-based: SHA-256 once a row, then SplitMix64 (Steele et al. 2014) over the ids, so that V may be large.
    states_TK = np.array(bases, np.uint64)[:, None] + ids_TK.astype(np.uint64) * np.uint64(2)
    radii_TK, turns_TK = (_uniforms(states_TK + np.uint64(i)) for i in range(2))
    return np.sqrt(-2 * np.log1p(-radii_TK)) * np.cos(2 * np.pi * turns_TK)  # Box-Muller


def _uniforms(states: np.ndarray) -> np.ndarray:
    z = states * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / 2.0**53


def noised(logprobs: Logprobs, normals_TK: np.ndarray, sigma: float) -> Logprobs:
    """Values plus sigma times the normals (nats), normalised together with the tail, most likely first.

    A row of mass m that the noise makes m' is divided by m' + (1 - m): its mass is never above 1, and a row that
    was whole stays whole. sigma 0 is the row itself.
    """
    if sigma == 0:
        return logprobs
    clean_TK = logprobs.values_TK.astype(np.float64)
    noisy_TK = clean_TK + sigma * normals_TK
    tails_T1 = np.clip(1 - np.exp(clean_TK).sum(-1, keepdims=True), 0, None)
    with np.errstate(divide="ignore"):  # no tail is log 0 = -inf, which logaddexp takes
        noisy_TK -= np.logaddexp(np.logaddexp.reduce(noisy_TK, -1, keepdims=True), np.log(tails_T1))
    order_TK = np.argsort(-noisy_TK, -1, kind="stable")
    values_TK = np.take_along_axis(noisy_TK, order_TK, -1).astype(logprobs.values_TK.dtype)
    return Logprobs(np.take_along_axis(logprobs.ids_TK, order_TK, -1), values_TK)


class Settings(Part):
    """`sigma`: standard deviation of the noise in nats (0: no defence); `key`: the provider's."""

    sigma: float = Field(0.5, ge=0, allow_inf_nan=False)
    key: str = "noise"


class Defense(LogprobEdit):
    """Adds keyed noise to the released logprobs."""

    identity = {"sigma": 0.0}
    knob = Knob("sigma", 0.0, 0.01, 10.0, log=True)
    paper = "Orekondy et al. 2020"

    def logprobs(self, logprobs: Logprobs, answer: Answer) -> Logprobs:
        normals_TK = keyed_normals(self.settings.key, answer.prompt, logprobs.ids_TK)
        return noised(logprobs, normals_TK, self.settings.sigma)
