"""Fusion: several detectors in one score, by logistic regression on how surprising each of them is.

A feature is -log10 of the conformal p-value of a detector's highest score in the account's segment,
so that detectors and segments are on one scale. Weights are at least 0: no alarm speaks for an
account. Validated on campaigns left out of the fit (`held_out`), since a fit that has seen a
campaign says nothing about the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from defenses.access import AccessSettings, BaseDetector, Baseline, Day
from defenses.access.calibration import Calibration
from distill.campaigns import Accounts


class Settings(AccessSettings):
    """How strongly weights are pulled to 0."""

    ridge: float = Field(default=1e-3, ge=0, description="penalty on the squares of the weights")


class Weights(NamedTuple):
    """Log odds = intercept + weights . features."""

    intercept: float
    weights: np.ndarray


def fit(x_NF: np.ndarray, guilty: np.ndarray, ridge: float) -> Weights:
    """Logistic regression with weights at least 0, honest and guilty accounts counting the same in
    total.

    Args:
        x_NF: features of accounts.
        guilty: mask of accounts `[N]`.
        ridge: penalty on the squared weights.

    Raises:
        RuntimeError: the fit did not converge.
    """
    each = np.where(guilty, 0.5 / max(guilty.sum(), 1), 0.5 / max((~guilty).sum(), 1))
    sign = np.where(guilty, 1.0, -1.0)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (w[0] + x_NF @ w[1:])
        pull = -each * sign * expit(-margin)
        value = -(each * log_expit(margin)).sum() + ridge * (w[1:] ** 2).sum()
        return float(value), np.concatenate([[pull.sum()], pull @ x_NF + 2 * ridge * w[1:]])

    bounds = [(None, None), *[(0, None)] * x_NF.shape[1]]
    start = np.zeros(x_NF.shape[1] + 1)
    solution = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    if not solution.success:
        raise RuntimeError(f"fusion: the fit did not converge ({solution.message})")
    return Weights(float(solution.x[0]), solution.x[1:])


def odds(x_NF: np.ndarray, weights: Weights) -> np.ndarray:
    """Log odds `[N]` of features.

    Args:
        x_NF: features of accounts.
        weights: as `fit` found them.
    """
    odds_N: np.ndarray = weights.intercept + x_NF @ weights.weights
    return odds_N


def features(
    highest: dict[str, np.ndarray], segment: np.ndarray, calibration: Calibration
) -> np.ndarray:
    """-log10 p of each detector (columns, in the order of their names) for each account.

    Args:
        highest: scores of accounts `[N]` by detector.
        segment: of each account `[N]`.
        calibration: of the detectors.

    Returns:
        `[N, F]`, F detectors.
    """
    return np.stack(
        [-np.log10(calibration.p_value(name, highest[name], segment)) for name in sorted(highest)],
        axis=1,
    )


def held_out(runs: Sequence[tuple[np.ndarray, np.ndarray]], ridge: float) -> list[np.ndarray]:
    """Log odds of each campaign's accounts and its honest neighbours from a fit on all other
    campaigns.

    A run is one campaign beside honest accounts: features [N, F] and which rows are guilty.

    Args:
        runs: one a campaign, `[N, F]` and `[N]`.
        ridge: penalty on the squared weights.

    Returns:
        `[N]` of each run.
    """
    out = []
    for left_out in range(len(runs)):
        others = [run for i, run in enumerate(runs) if i != left_out]
        x, guilty = np.concatenate([x for x, _ in others]), np.concatenate([g for _, g in others])
        out.append(odds(runs[left_out][0], fit(x, guilty, ridge)))
    return out


class Detector(BaseDetector):
    """The parts run inside it; calibrate it as any other, on traffic that fitted neither it nor the
    parts.

    Args:
        parts: detectors, which it begins and updates itself.
        calibration: of the parts.
        weights: of their p-values.
    """

    name = "fusion"
    alone = False

    def __init__(
        self,
        settings: Settings,
        baseline: Baseline,
        parts: Sequence[BaseDetector],
        calibration: Calibration,
        weights: Weights,
    ) -> None:
        super().__init__(settings, baseline)
        self.parts = sorted(parts, key=lambda part: part.name)
        self.calibration, self.weights = calibration, weights

    def begin(self, accounts: Accounts) -> None:
        super().begin(accounts)
        for part in self.parts:
            part.begin(accounts)
        self.highest = {
            part.name: np.full(accounts.capacity, -np.inf, np.float32) for part in self.parts
        }

    def update(self, day: Day) -> None:
        for part in self.parts:
            part.update(day)
            np.maximum(self.highest[part.name], part.score, out=self.highest[part.name])
        rows = slice(day.accounts.count)
        highest = {name: held[rows] for name, held in self.highest.items()}
        x = features(highest, day.accounts.segment[rows], self.calibration)
        self.score[rows] = odds(x, self.weights)

    def on_closed(self, day: int, ids: np.ndarray) -> None:
        for part in self.parts:
            part.on_closed(day, ids)
