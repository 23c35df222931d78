"""Noisy logprobs: Gaussian noise on what is released, a function of (key, prompt, position, token
id) alone.

Noise that is fresh for each query averages out as sigma**2 / n; noise that is keyed to the prompt
does not, however often the same is asked. The control of gradient redirection and prediction
poisoning (Orekondy et al. 2020), in nats. Axes: T positions, K released entries.
"""

from __future__ import annotations

import hashlib

import numpy as np
from pydantic import Field

from defenses import DefenseSettings, SecretKey, Strength, Traits
from defenses.release import LogprobEdit
from defenses.release._distributions import blocks, sort_descending
from distill.completions import Completion, Logprobs


def keyed_normals(key: str, prompt: str, ids_TK: np.ndarray) -> np.ndarray:
    """Standard normals `[T, K]`, float32, at most 5.8, each a function of key, prompt, row and
    token id alone.

    Args:
        key: the provider's secret.
        prompt: that was asked.
        ids_TK: of the released entries.
    """
    stem = hashlib.sha256(f"{len(key)}/{key}/{prompt}".encode())
    bases = []
    for position in range(len(ids_TK)):
        row = stem.copy()
        row.update(b"/%d" % position)
        bases.append(int.from_bytes(row.digest()[:8], "big"))
    bases_T1, normals_TK = np.array(bases, np.uint64)[:, None], np.empty(ids_TK.shape, np.float32)
    for rows in blocks(*ids_TK.shape):
        normals_TK[rows] = _normals(bases_T1[rows] + ids_TK[rows].astype(np.uint64))
    return normals_TK


def _normals(counters_TK: np.ndarray) -> np.ndarray:
    """A standard normal, float32, of each 64-bit number."""
    # Counter-based: SHA-256 once a row, then one step of SplitMix64 (Steele et al. 2014) an id, so
    # that V may be large.
    z_TK = counters_TK * np.uint64(0x9E3779B97F4A7C15)
    z_TK = (z_TK ^ (z_TK >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z_TK = (z_TK ^ (z_TK >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z_TK ^= z_TK >> np.uint64(31)
    # Box-Muller on two 24-bit uniforms, all that float32 holds: numpy's float32 functions take a
    # tenth of the time.
    radii_TK, turns_TK = ((z_TK >> np.uint64(shift)).astype(np.uint32) >> 8 for shift in (32, 0))
    lengths_TK = np.sqrt(-2 * np.log((2**24 - radii_TK).astype(np.float32) * np.float32(2**-24)))
    return np.asarray(
        lengths_TK * np.cos(turns_TK.astype(np.float32) * np.float32(2 * np.pi * 2**-24))
    )


def add_noise(logprobs: Logprobs, normals_TK: np.ndarray, sigma: float) -> Logprobs:
    """Values plus sigma times the normals (nats), normalised together with the tail, most likely
    first.

    A row of mass m that the noise makes m' is divided by m' + (1 - m): its mass is never above 1,
    and a row that was whole stays whole. sigma 0 is the row itself.

    Args:
        logprobs: as they would be released.
        normals_TK: one an entry.
        sigma: nats.
    """
    if sigma == 0:
        return logprobs
    clean_TK = logprobs.values_TK
    tails_T1 = np.clip(1 - np.exp(clean_TK).sum(-1, keepdims=True, dtype=np.float64), 0, None)
    noisy_TK = clean_TK + np.float32(sigma) * normals_TK
    # A row of withheld tokens alone has no largest value but -inf.
    top_T1 = noisy_TK.max(-1, keepdims=True).clip(min=-80)
    mass_T1 = np.exp(noisy_TK - top_T1).sum(-1, keepdims=True, dtype=np.float64)
    mass_T1 = mass_T1 + tails_T1 * np.exp(-top_T1)
    noisy_TK -= (top_T1 + np.log(mass_T1)).astype(noisy_TK.dtype)
    return Logprobs(*sort_descending(logprobs.ids_TK, noisy_TK))


class Settings(DefenseSettings):
    """`sigma`: standard deviation of the noise in nats (0: no defence); `key`: the provider's."""

    sigma: float = Field(0.5, ge=0, allow_inf_nan=False)
    key: SecretKey = "noise"


class Defense(LogprobEdit):
    """Adds keyed noise to the released logprobs."""

    settings: Settings
    traits = Traits(
        acts_on="logprobs",
        identity={"sigma": 0.0},
        strength=Strength("sigma", 0.0, 0.01, 10.0, log=True),
        paper="Orekondy et al. 2020",
    )

    def logprobs(self, logprobs: Logprobs, answer: Completion) -> Logprobs:
        normals_TK = keyed_normals(self.settings.key, answer.prompt, logprobs.ids_TK)
        return add_noise(logprobs, normals_TK, self.settings.sigma)
