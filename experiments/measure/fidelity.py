"""How closely a student copies its teacher, right or wrong (E11): a secondary panel, always beside the floor arm.

Answers are integer codes, equal codes for equal final answers and -1 for unparsed; S seeds x N items for students, N for
the teacher. Two unparsed answers do not agree.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.measure import bootstrap
from experiments.measure.contrast import Estimate, Refuse, contrast

JOINTLY_WRONG = 100
BINS = 10
PANEL_DRAWS = 500


class Panel(NamedTuple):
    """Each measure of the student minus that of the floor; None where it cannot be had."""

    agreement: Estimate
    error_consistency: Estimate
    same_wrong: Estimate | None
    bits_per_byte: Estimate | None
    brier: Estimate | None
    nll: Estimate | None
    ece: Estimate | None
    confidence_rank: Estimate | None


class Student(NamedTuple):
    """What a student said: codes, right in {0, 1}, bits per byte of the teacher's text, confidence in [0, 1]."""

    said_SN: np.ndarray
    right_SN: np.ndarray
    bits_SN: np.ndarray | None
    confidence_SN: np.ndarray | None


def agreement(said_SN: np.ndarray, teacher_N: np.ndarray) -> np.ndarray:
    """1 where the final answers are equal (Jagielski et al. 2020: fidelity)."""
    return ((said_SN == teacher_N) & (said_SN >= 0)).astype(float)


def error_consistency(same: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Cohen's kappa of being right together: (c_obs - c_exp) / (1 - c_exp) (Geirhos et al. 2020, eq. 1-3).

    `same` is how often both are right or both wrong, p and q their accuracies. 0 where chance explains everything.
    """
    chance = p * q + (1 - p) * (1 - q)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(chance < 1, (same - chance) / (1 - chance), 0.0))


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error over equal-mass bins (Nixon et al. 2019); biased upwards where items are few."""
    order = np.argsort(confidence, axis=None, kind="stable")
    parts = np.array_split(order, min(bins, order.size))
    gaps = [abs(float(confidence.ravel()[p].mean() - right.ravel()[p].mean())) * p.size for p in parts]
    return sum(gaps) / order.size


def panel(
    student: Student, floor: Student, teacher: Student, *, alpha: float = 0.05, draws: int = PANEL_DRAWS, seed: int = 0
) -> Panel:
    """The whole panel; means by the two-way t, ratios by the crossed bootstrap. `teacher` has one seed."""
    if student.said_SN.shape[1] != teacher.said_SN.shape[1]:
        raise Refuse("student and teacher were scored on different items")
    drawn = bootstrap.start(student.said_SN.shape[1], draws, seed)
    both = (student, floor)
    said_N, right_N = teacher.said_SN[0], teacher.right_SN[0]
    weights = [bootstrap.seed_weights(drawn, len(one.said_SN)) for one in both]
    means = [agreement(one.said_SN, said_N) for one in both]
    result = {"agreement": contrast([means[1], means[0]], [-1, 1], alpha=alpha)}

    def minus(statistic: object) -> Estimate:
        """A statistic of weighted means, the student's minus the floor's: value, percentile interval."""
        parts = [statistic(one, w) for one, w in zip(both, weights, strict=True)]  # type: ignore[operator]
        (value, drawn_B), (base, base_B) = parts
        lo, hi = bootstrap.interval(drawn_B - base_B, alpha=alpha)
        return Estimate(value - base, float(np.std(drawn_B - base_B)), np.nan, lo, hi)

    def kappa(one: Student, weight_BS: np.ndarray) -> tuple[float, np.ndarray]:
        same = (one.right_SN == right_N).astype(float)
        q = np.broadcast_to(right_N, same.shape)
        at = float(error_consistency(same.mean(), one.right_SN.mean(), right_N.mean()))
        return at, error_consistency(*(bootstrap.means(drawn, a, weight_BS) for a in (same, one.right_SN, q)))

    def wrong(one: Student, weight_BS: np.ndarray) -> tuple[float, np.ndarray]:
        joint = ((one.right_SN == 0) & (right_N == 0)).astype(float)
        same = joint * agreement(one.said_SN, said_N)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = bootstrap.means(drawn, same, weight_BS) / bootstrap.means(drawn, joint, weight_BS)
        return float(same.sum() / joint.sum()), np.nan_to_num(share, nan=0.0)

    def rank(one: Student, weight_BS: np.ndarray) -> tuple[float, np.ndarray]:
        assert one.confidence_SN is not None and teacher.confidence_SN is not None
        x = np.apply_along_axis(stats.rankdata, 1, one.confidence_SN)
        y = np.broadcast_to(stats.rankdata(teacher.confidence_SN[0]), x.shape)
        x, y = x - x.mean(), y - y.mean()
        moments = [bootstrap.means(drawn, a, weight_BS) for a in (x * y, x, y, x * x, y * y)]
        return float(_correlation(*(np.array(a.mean()) for a in (x * y, x, y, x * x, y * y)))), _correlation(*moments)

    def ece(one: Student, weight_BS: np.ndarray) -> tuple[float, np.ndarray]:
        assert one.confidence_SN is not None
        gap = one.confidence_SN - one.right_SN
        edges = np.quantile(one.confidence_SN, np.linspace(0, 1, BINS + 1)[1:-1])
        label = np.searchsorted(edges, one.confidence_SN, side="right")
        drawn_B = sum(np.abs(bootstrap.means(drawn, gap * (label == b), weight_BS)) for b in range(BINS))
        return calibration_error(one.confidence_SN, one.right_SN), np.asarray(drawn_B)

    result["error_consistency"] = minus(kappa)
    fewest = min(int(((one.right_SN == 0) & (right_N == 0)).sum()) for one in both)
    result["same_wrong"] = minus(wrong) if fewest >= JOINTLY_WRONG else None  # type: ignore[assignment]
    bits = [one.bits_SN for one in both]
    known = [b for b in bits if b is not None]
    result["bits_per_byte"] = contrast(known[::-1], [-1, 1], alpha=alpha) if len(known) == 2 else None  # type: ignore
    sure = [one.confidence_SN for one in both]
    have = all(c is not None for c in sure)
    result["brier"] = _proper(both, _brier, alpha) if have else None  # type: ignore[assignment]
    result["nll"] = _proper(both, _nll, alpha) if have else None  # type: ignore[assignment]
    result["ece"] = minus(ece) if have else None  # type: ignore[assignment]
    ranked = have and teacher.confidence_SN is not None
    result["confidence_rank"] = minus(rank) if ranked else None  # type: ignore[assignment]
    return Panel(**result)  # type: ignore[arg-type]


def _correlation(xy: np.ndarray, x: np.ndarray, y: np.ndarray, xx: np.ndarray, yy: np.ndarray) -> np.ndarray:
    """Pearson's correlation from moments; 0 where one side does not vary."""
    scale = np.sqrt(np.maximum((xx - x * x) * (yy - y * y), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scale > 0, (xy - x * y) / scale, 0.0)


def _brier(p: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (p - right) ** 2


def _nll(p: np.ndarray, right: np.ndarray) -> np.ndarray:
    kept = np.clip(p, 1e-6, 1 - 1e-6)
    return -(right * np.log(kept) + (1 - right) * np.log(1 - kept))


def _proper(both: tuple[Student, Student], score: object, alpha: float) -> Estimate:
    scored = [score(one.confidence_SN, one.right_SN) for one in both]  # type: ignore[operator]
    return contrast(scored[::-1], [-1, 1], alpha=alpha)
