"""Windowed MMD: are an account's last `window` prompts drawn from what its segment usually sends?

Maximum mean discrepancy (Gretton et al. 2012) with a mixture of RBF kernels at 0.5, 1, 2 and 4
times the median distance, as in arXiv 2606.05725, but with random Fourier features (Rahimi & Recht
2007), so a window of n prompts costs O(n) and is kept as one sum. The paper's windows are draws
from pooled traffic, where this works as published; an honest account is no such draw, and differs
from its segment's mean more than a campaign's mix moves it.

In the simulation a prompt's features are those of its topic's centre. Where a provider reads texts
they are the text's, and what is usual of a bucket is the mean of those that it was learned from.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from defenses.access import AccessSettings, BaseDetector, Baseline, Day
from defenses.access.encoder import Encoder, TextEncoder
from distill.campaigns import TOPICS, Accounts, cells, stream

SCALES = (0.5, 1.0, 2.0, 4.0)
GAPS = 1000  # texts between which distances are looked at


class Settings(AccessSettings):
    """How much evidence the detector wants, and what it looks at."""

    window: int = Field(
        default=500,
        ge=2,
        le=1_000_000,
        description="exchanges; a window closes on the day on which it is full",
    )
    features: int = Field(default=64, ge=8, le=1_000_000, description="random Fourier features")


def fourier(x_NE: np.ndarray, features: int, median: float, seed: int = 0) -> np.ndarray:
    """phi [N, D] with phi(x) . phi(y) near the mean over SCALES of exp(-|x - y|^2 / (2 (scale
    median)^2)).

    Args:
        x_NE: embeddings.
        features: D.
        median: distance that scales the kernel.
        seed: of the features.
    """
    rng = stream(seed, "fourier")
    scale = np.resize(SCALES, features) * median
    frequency = rng.standard_normal((x_NE.shape[-1], features)) / scale
    phase = rng.uniform(0, 2 * np.pi, features)
    phi_ND: np.ndarray = np.sqrt(2 / features) * np.cos(x_NE @ frequency + phase)
    return phi_ND


def features(encoder: TextEncoder | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of everything that may be sent, and usual ones of each topic or bucket.

    Args:
        encoder: of texts; None where prompts are topics' centres.
        n: D.

    Returns:
        `[K, D]` or `[T, D]`, and `[K, D]`.
    """
    if encoder is None:
        centres = Encoder().centres_KE
        gaps = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
        phi_KD = fourier(centres, n, float(np.median(gaps[gaps > 0])))
        return phi_KD, phi_KD
    x = encoder.learned_LE
    some = x[:: len(x) // GAPS + 1]
    gaps = np.sqrt(np.maximum(2 - 2 * some @ some.T, 0))  # of unit vectors
    median = float(np.median(gaps[gaps > 1e-3]))
    phi_LD, phi_TD = (fourier(one, n, median) for one in (x, encoder.vectors_TE))
    usual_KD = np.tile(phi_LD.mean(axis=0), (TOPICS, 1))
    for bucket in np.unique(encoder.learned_L):
        usual_KD[bucket] = phi_LD[encoder.learned_L == bucket].mean(axis=0)
    return phi_TD, usual_KD


def mmd2(
    total_D: np.ndarray, squares: np.ndarray, n: np.ndarray, reference_D: np.ndarray
) -> np.ndarray:
    """MMD^2 of windows to a reference, from sums: features [..., D], squared norms, n; unbiased in
    the window.

    (|sum|^2 - sum of squared norms) / (n (n - 1)) - 2 sum . reference / n + |reference|^2.

    Args:
        total_D: sum of the features of a window `[..., D]`.
        squares: sum of their squared norms `[...]`.
        n: exchanges of a window `[...]`.
        reference_D: mean features of the reference `[..., D]`.

    Returns:
        `[...]`, squared distances of mean features; noise makes some negative.
    """
    inside: np.ndarray = ((total_D**2).sum(axis=-1) - squares) / (n * (n - 1))
    across: np.ndarray = 2 * (total_D * reference_D).sum(axis=-1) / n
    distance: np.ndarray = inside - across + (reference_D**2).sum(axis=-1)
    return distance


class Detector(BaseDetector):
    """Scores the distance of an account's last prompts from its segment's."""

    settings: Settings
    name = "mmd"
    paper = "2606.05725"
    alone = True

    def __init__(self, settings: Settings, baseline: Baseline) -> None:
        super().__init__(settings, baseline)
        # A row for whatever is told apart: topics or texts.
        self.phi_KD, usual_KD = features(baseline.encoder, settings.features)
        self.reference_SD = baseline.topics_SK @ usual_KD

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        self.sum_AD = np.zeros((accounts.capacity, self.settings.features), np.float32)
        self.squares = np.zeros(accounts.capacity, np.float32)
        self.n = np.zeros(accounts.capacity, np.int64)

    def update(self, day: Day) -> None:
        kinds = len(self.phi_KD)
        account, kind, count = self._cells(day)
        if not len(account):
            return
        # Active accounts at a time, so that the dense counts stay small.
        block = max((1 << 21) // kinds, 1)
        edges = np.append(np.searchsorted(account, day.active), len(account))
        for start in range(0, len(day.active), block):
            ids = day.active[start : start + block]
            inside = slice(edges[start], edges[min(start + block, len(day.active))])
            x_AK = np.zeros((len(ids), kinds), np.float32)
            x_AK[np.searchsorted(ids, account[inside]), kind[inside]] = count[inside]
            self.sum_AD[ids] += x_AK @ self.phi_KD.astype(np.float32)
            self.squares[ids] += x_AK @ (self.phi_KD**2).sum(axis=1).astype(np.float32)
        self.n[day.active] += day.n
        full = day.active[self.n[day.active] >= self.settings.window]
        n = self.n[full]
        reference = self.reference_SD[day.accounts.segment[full]]
        self.score[full] = n * mmd2(
            self.sum_AD[full].astype(float), self.squares[full], n, reference
        )
        self.sum_AD[full], self.squares[full], self.n[full] = 0, 0, 0

    def _cells(self, day: Day) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Accounts with what they sent today, and how often, `[cells]` each."""
        if self.baseline.encoder is None:
            return day.cells
        assert day.events.text is not None, "what reads texts is shown texts"
        return cells(day.events.account, day.events.text, len(self.phi_KD))
