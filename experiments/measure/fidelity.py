"""How closely a student copies its teacher, right or wrong (E11): a secondary panel, always beside
the floor arm.

Answers are integer codes, equal codes for equal final answers and -1 for unparsed; S seeds x N
items for students, N for the teacher. Two unparsed answers do not agree.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.measure import bootstrap
from experiments.measure.contrast import Estimate, contrast
from experiments.measure.scores import Arm, NotMeasurable

JOINTLY_WRONG = 100
PANEL_DRAWS = 500


class Student(NamedTuple):
    """What a student said: codes, right in {0, 1}, bits per byte of the teacher's text, confidence
    in [0, 1].
    """

    final_SN: np.ndarray
    right_SN: np.ndarray
    bits_SN: np.ndarray | None
    confidence_SN: np.ndarray | None


def agreement(final_SN: np.ndarray, teacher_N: np.ndarray) -> np.ndarray:
    """1 where the final answers are equal (Jagielski et al. 2020: fidelity).

    Args:
        final_SN: number of each student's final answer; below 0 is none.
        teacher_N: of the teacher's.

    Returns:
        `[S, N]`, 0 or 1.
    """
    return np.asarray((final_SN == teacher_N) & (final_SN >= 0), float)


def error_consistency(same: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Cohen's kappa of being right together: (c_obs - c_exp) / (1 - c_exp) (Geirhos et al. 2020,
    eq. 1-3).

    `same` is how often both are right or both wrong, p and q their accuracies. 0 where chance
    explains everything.

    Args:
        same: share of items `[...]`.
        p: share that is right `[...]`.
        q: the same of the other `[...]`.

    Returns:
        `[...]`, at most 1, no unit.
    """
    chance = p * q + (1 - p) * (1 - q)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(chance < 1, (same - chance) / (1 - chance), 0.0))


class Copy(NamedTuple):
    """How one arm copies: per-item scores whose means count, and statistics of means with their
    bootstrap draws.
    """

    scores: dict[str, np.ndarray]
    statistics: dict[str, tuple[float, np.ndarray]]
    seeds: tuple[int, ...] | None = None


def copying(
    student: Student, teacher: Student, draws: bootstrap.Draws, seeds: tuple[int, ...] | None = None
) -> Copy:
    """The whole panel of one arm; `teacher` has one seed. What cannot be had is left out.

    Arms whose seeds have the same names redraw them alike, whatever else is drawn before or after
    them.

    Args:
        student: arrays `[S, N]`.
        teacher: arrays `[1, N]`.
        draws: of the study.
        seeds: their names.

    Raises:
        NotMeasurable: student and teacher were scored on different items.
    """
    if student.final_SN.shape[1] != teacher.final_SN.shape[1]:
        raise NotMeasurable("student and teacher were scored on different items")
    if seeds is not None:
        draws = draws._replace(rng=np.random.default_rng([2**31 + seed for seed in seeds]))
    weight_BS = bootstrap.seed_weights(draws, len(student.final_SN))

    def moments(*arrays: np.ndarray) -> list[np.ndarray]:
        """Weighted means in every draw, and in front of them the plain mean: 1 + B."""
        return [np.append(a.mean(), bootstrap.means(draws, a, weight_BS)) for a in arrays]

    right_SN, right_N = (
        student.right_SN,
        np.broadcast_to(teacher.right_SN[0], student.right_SN.shape),
    )
    same_SN = agreement(student.final_SN, teacher.final_SN[0])
    scores, terms = {"agreement": same_SN}, {}
    terms["error_consistency"] = error_consistency(
        *moments((right_SN == right_N).astype(float), right_SN, right_N)
    )
    wrong_SN = (1 - right_SN) * (1 - right_N)
    if wrong_SN.sum() >= JOINTLY_WRONG:
        terms["same_wrong"] = _share(*moments(wrong_SN * same_SN, wrong_SN))
    if student.bits_SN is not None:
        scores["bits_per_byte"] = student.bits_SN
    if student.confidence_SN is not None:
        sure_SN = student.confidence_SN
        scores |= {"brier": brier(sure_SN, right_SN), "nll": log_loss(sure_SN, right_SN)}
        if teacher.confidence_SN is not None:
            x = np.apply_along_axis(stats.rankdata, 1, sure_SN)
            y = np.broadcast_to(stats.rankdata(teacher.confidence_SN[0]), x.shape)
            x, y = x - x.mean(), y - y.mean()
            terms["confidence_rank"] = _correlation(*moments(x * y, x, y, x * x, y * y))
    return Copy(scores, {name: (float(both[0]), both[1:]) for name, both in terms.items()}, seeds)


def panel(
    student: Copy, floor: Copy, alpha: float = 0.05, clusters: np.ndarray | None = None
) -> dict[str, Estimate]:
    """Each measure of the student minus the floor's; means by the two-way t, others by the crossed
    bootstrap.

    Arms that name their seeds are paired by them, and were redrawn so (`copying`).

    Args:
        student: of the attack.
        floor: of the best teacher-free student.
        alpha: level of the two-sided interval.
        clusters: labels `[N]` of items that belong together; None where each is its own.

    Returns:
        By measure, in its own unit.
    """
    estimates = {}
    for name in (one for one in student.scores if one in floor.scores):
        arms = [
            one.scores[name] if one.seeds is None else Arm(one.scores[name], one.seeds)
            for one in (floor, student)
        ]
        estimates[name] = contrast(arms, [-1, 1], alpha=alpha, clusters=clusters)
    for name, (value, drawn_B) in student.statistics.items():
        if name in floor.statistics:
            base, base_B = floor.statistics[name]
            gap_B = drawn_B - base_B
            estimates[name] = Estimate(
                value - base, float(np.std(gap_B)), np.nan, *bootstrap.interval(gap_B, alpha=alpha)
            )
    return estimates


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, 0.0)


def _correlation(
    xy: np.ndarray, x: np.ndarray, y: np.ndarray, xx: np.ndarray, yy: np.ndarray
) -> np.ndarray:
    """Pearson's correlation from moments; 0 where one side does not vary."""
    scale = np.sqrt(np.maximum((xx - x * x) * (yy - y * y), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scale > 0, (xy - x * y) / scale, 0.0)


def brier(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared distance of confidence from being right (Brier 1950).

    Args:
        confidence: `[...]` in [0, 1].
        right: `[...]`, 0 or 1.

    Returns:
        `[...]` in [0, 1].
    """
    return np.asarray((confidence - right) ** 2)


def log_loss(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of being right, nats; confidences are kept 1e-6 away from 0 and 1.

    Args:
        confidence: `[...]` in [0, 1].
        right: `[...]`, 0 or 1.

    Returns:
        `[...]`, nats.
    """
    sure = np.clip(confidence, 1e-6, 1 - 1e-6)
    return np.asarray(-(right * np.log(sure) + (1 - right) * np.log(1 - sure)))
