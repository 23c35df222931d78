"""Was this student trained on that teacher? Tests that need no mark, only how likely a student
finds the answers of each candidate, beside a reference that was trained on none of them.

A student's gain on an answer y is (log p_S(y) - log p_ref(y)) / tokens of y: DistillDetect (Rawat
et al. 2026, 2607.09692, at second hand) names the candidate of the largest mean gain. Without a
reference what is easy to say wins, whoever taught it. The paper has a threshold; the p-values here
are of two exact nulls that it does not have.

- `ranked`: the student is one more like its siblings (same recipe, none of the candidate's
  answers), so its place among them is even. p is at least 1 / (siblings + 1).
- `attributed`: behind each question the candidates' names could change places, as those of teachers
  of one recipe could for a student of none of them. Candidates that differ in how plainly they
  speak break this null, whoever was trained on; siblings of the student then tell it.

Nothing here runs a model. Axes: N students, K candidate teachers, Q answers or questions.
"""

from __future__ import annotations

import math

import numpy as np

from defenses.marks.detect import Evidence, too_few
from distill.completions import BadInput

SIBLINGS = 19
"""Siblings below which no p is said: p = 0.05 could not be reached."""


def _finite(name: str, values: np.ndarray, dimensions: int) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != dimensions or not np.isfinite(values).all():
        raise BadInput(f"provenance: {name} are finite numbers on {dimensions} axes")
    return values


def gains(
    student_Q: np.ndarray, reference_Q: np.ndarray | None, tokens_Q: np.ndarray
) -> np.ndarray:
    """What a student has gained over a reference on each answer `[Q]`, in nats a token.

    Args:
        student_Q: log p of each answer, in nats.
        reference_Q: the reference's; None: there is no reference, so nothing is taken off.
        tokens_Q: tokens of each answer, at least 1.

    Raises:
        BadInput: shapes differ, a number is not finite, or an answer has no token.
    """
    student_Q, tokens_Q = _finite("log p", student_Q, 1), _finite("counts of tokens", tokens_Q, 1)
    without = np.zeros_like(student_Q)
    reference_Q = without if reference_Q is None else _finite("log p", reference_Q, 1)
    if not len(student_Q) == len(reference_Q) == len(tokens_Q):
        raise BadInput(
            f"provenance: {len(student_Q)} answers of the student's, {len(reference_Q)} of the "
            f"reference's and {len(tokens_Q)} counts of tokens; there is one of each an answer"
        )
    if (tokens_Q < 1).any():
        raise BadInput("provenance: an answer has no token, so it says nothing of a student")
    difference_Q: np.ndarray = (student_Q - reference_Q) / tokens_Q
    return difference_Q


def ranked(student: float, siblings_N: np.ndarray, *, least: int = SIBLINGS) -> Evidence:
    """Whether a student's mean gain is larger than those of its siblings: p = (1 + siblings that
    reach it) / (1 + siblings), exact where it is one of them but for what it learned from.

    Args:
        student: its mean gain on the candidate's answers.
        siblings_N: theirs, on the same answers.
        least: siblings below which no p-value is said.

    Raises:
        BadInput: a number is not finite.
    """
    siblings_N = _finite("gains of siblings", siblings_N, 1)
    student = float(_finite("gains", np.array([student]), 1)[0])
    test, count = "rank among siblings", len(siblings_N)
    if count < max(1, least):
        return too_few(test, count, 0, max(1, least))
    p = (1 + int((siblings_N >= student).sum())) / (1 + count)
    return Evidence(test, count, 0, student, float(siblings_N.mean()), math.log(p))


def ranked_among(
    student_K: np.ndarray, siblings_NK: np.ndarray, *, least: int = SIBLINGS
) -> list[Evidence]:
    """The rank test of several candidates at once, a line each: a student of none of them has any
    p below a with chance a at most, however many candidates there are.

    Each gain is standardised over the student and its siblings together, and stands against the
    largest of each sibling's K (Westfall and Young's single step, on ranks).

    Args:
        student_K: the student's mean gain on the answers of each candidate.
        siblings_NK: its siblings', which were trained on none of them.
        least: siblings below which no p-value is said.

    Raises:
        BadInput: a number is not finite, or there are not as many candidates in both.
    """
    student_K = _finite("gains", student_K, 1)
    siblings_NK = _finite("gains of siblings", siblings_NK, 2)
    if siblings_NK.shape[1] != len(student_K):
        raise BadInput(
            f"provenance: {len(student_K)} candidates of the student's, "
            f"{siblings_NK.shape[1]} of its siblings'"
        )
    every_NK = np.concatenate([siblings_NK, student_K[None]])
    spread_K = every_NK.std(0)
    z_NK = (every_NK - every_NK.mean(0)) / np.where(spread_K > 0, spread_K, 1.0)
    largest_N = z_NK[:-1].max(1, initial=-np.inf)
    lines = [ranked(float(z), largest_N, least=least) for z in z_NK[-1]]
    return [
        Evidence(
            f"rank among siblings of {len(student_K)} candidates",
            line.scored,
            0,
            float(student_K[k]),
            float(siblings_NK[:, k].mean()) if len(siblings_NK) else math.nan,
            line.log_p,
            line.note,
        )
        for k, line in enumerate(lines)
    ]


def attributed(
    gains_QK: np.ndarray, *, draws: int = 9999, seed: int = 0, least: int = 10
) -> tuple[int, Evidence]:
    """Which candidate a student was trained on, and how likely the largest of K mean gains is as
    much above the mean of all where the names mean nothing.

    The names change places behind each question by itself, `draws` times; with the real order
    counted in, the p-value of such a draw is exact, and no smaller than 1 / (draws + 1).

    Args:
        gains_QK: of the student, on each candidate's answer to each question.
        draws: at least 1.
        seed: of how names change places.
        least: questions below which no p-value is said.

    Returns:
        The place of the candidate, and the evidence.

    Raises:
        BadInput: a number is not finite, or there are fewer than two candidates, or no question.
    """
    gains_QK = _finite("gains", gains_QK, 2)
    questions, candidates = gains_QK.shape
    if candidates < 2 or not questions or draws < 1:
        raise BadInput(
            f"provenance: {candidates} candidates, {questions} questions and {draws} draws; two "
            "candidates, a question and a draw are the least"
        )
    best = int(gains_QK.mean(0).argmax())
    test = f"attribution among {candidates} candidates"
    if questions < max(1, least):
        return best, too_few(test, questions, 0, max(1, least))
    centred_QK = gains_QK - gains_QK.mean(1, keepdims=True)
    largest = float(centred_QK.mean(0).max())
    rng, reached, usual = np.random.default_rng(seed), 1, 0.0
    close = largest - 1e-12 * float(np.abs(centred_QK).max())  # sums in another order are as large
    for _ in range(draws):
        other = float(rng.permuted(centred_QK, axis=1).mean(0).max())
        reached, usual = reached + (other >= close), usual + other / draws
    log_p = math.log(reached / (draws + 1))
    return best, Evidence(test, questions, 0, largest, usual, log_p)
