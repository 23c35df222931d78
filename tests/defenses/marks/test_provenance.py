"""Tests of where a student comes from that need no mark: exact nulls, and what a reference adds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from defenses.marks.detect.provenance import attributed, gains, ranked, ranked_among
from distill.completions import BadInput


def even(p: list[float], steps: int, seed: int = 0) -> float:
    """KS on p-values that are even on 1/steps, ..., 1: less an even share of a step each."""
    spread = np.array(p) - np.random.default_rng(seed).random(len(p)) / steps
    return float(stats.kstest(spread, "uniform").pvalue)


def test_a_gain_is_the_difference_a_token():
    made = gains(np.array([-4.0, -9.0]), np.array([-8.0, -6.0]), np.array([2, 3]))
    assert made.tolist() == [2, -1]
    assert gains(np.array([-4.0, -9.0]), None, np.array([2, 3])).tolist() == [-2, -3]


def test_a_rank_counts_those_that_reach_it():
    seen = ranked(3.0, np.array([1.0, 3.0, 5.0, 2.0]), least=4)
    assert seen.p == pytest.approx(3 / 5) and (seen.statistic, seen.expected) == (3, 2.75)
    assert ranked(9.0, np.zeros(99)).p == pytest.approx(0.01)
    assert ranked(0.0, np.zeros(99)).p == 1


def test_ranks_of_students_like_their_siblings_are_even():
    """Whatever the law of a gain is: this one has no mean."""
    rng = np.random.default_rng(0)
    p = [ranked(rng.standard_cauchy(), rng.standard_cauchy(24)).p for _ in range(2000)]
    assert even(p, 25) > 1e-3


def test_of_several_candidates_the_smallest_p_is_even_where_none_was_trained_on():
    """Candidates of other scales, and correlated: the p of the likeliest is even all the same."""
    rng, p = np.random.default_rng(1), []
    for _ in range(2000):
        every = rng.normal(size=(25, 1)) + rng.normal(size=(25, 4)) * [0.1, 1, 10, 1]
        p.append(min(one.p for one in ranked_among(every[0], every[1:])))
    assert even(p, 25) > 1e-3


def test_of_several_candidates_the_one_that_was_trained_on_is_found():
    rng = np.random.default_rng(2)
    siblings, student = rng.normal(size=(99, 3)) * [1, 0.1, 1], np.array([0.5, 0.8, -0.5])
    lines = ranked_among(student, siblings)
    assert [line.p < 0.05 for line in lines] == [False, True, False]
    assert lines[1].p == pytest.approx(0.01) and lines[1].statistic == 0.8
    assert lines[1].expected == pytest.approx(siblings[:, 1].mean())


@pytest.mark.parametrize("candidates", [2, 5])
def test_names_that_mean_nothing_give_even_p(candidates):
    """Questions differ widely in how easy they are; teachers do not."""
    rng, p = np.random.default_rng(candidates), []
    for i in range(400):
        easy = 30 * rng.normal(size=(12, 1))
        made = easy + rng.standard_t(3, size=(12, candidates))
        p.append(attributed(made, draws=99, seed=i)[1].p)
    assert even(p, 100) > 1e-3


def test_the_smallest_p_is_that_of_the_real_order_alone():
    best, seen = attributed(np.tile([0.0, 0.0, 1.0], (40, 1)), draws=99)
    assert best == 2 and seen.p == pytest.approx(0.01) and seen.statistic == pytest.approx(2 / 3)
    assert attributed(np.zeros((40, 3)), draws=99)[1].p == 1


def likelihoods(student: int | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """log p a token of three teachers' answers to 40 questions, by a student and by a reference:
    questions and teachers differ in how plain they are, and the student gains 0.2 on its teacher's.
    """
    plain = rng.normal(size=(40, 1)) + np.array([0.0, 0.6, 1.2]) + rng.normal(size=(40, 3)) / 2
    gained = np.zeros(3) if student is None else 0.2 * (np.arange(3) == student)
    return (
        plain + gained + rng.normal(size=(40, 3)) / 5,
        plain + rng.normal(size=(40, 3)) / 5,
    )


def test_with_a_reference_the_teacher_is_named_and_without_the_plainest_is():
    """The shape of the published result: near-perfect with a reference, chance without."""
    rng = np.random.default_rng(3)
    for teacher in range(3):
        with_one, without = [], []
        for _ in range(20):
            likely_QK, reference = likelihoods(teacher, rng)
            with_one.append(attributed(likely_QK - reference, draws=199))
            without.append(attributed(likely_QK, draws=199)[0])
        assert np.mean([best == teacher for best, _ in with_one]) >= 0.9
        assert np.mean([seen.p < 0.05 for _, seen in with_one]) >= 0.8
        assert {*without} == {2}


def test_a_student_of_nobody_is_attributed_to_nobody_with_a_reference_alone():
    rng, p, naive = np.random.default_rng(4), [], []
    for i in range(300):
        likely_QK, reference = likelihoods(None, rng)
        p.append(attributed(likely_QK - reference, draws=99, seed=i)[1].p)
        naive.append(attributed(likely_QK, draws=99, seed=i)[1].p)
    assert even(p, 100) > 1e-3
    assert np.mean(np.array(naive) < 0.015) > 0.9  # the plainest teacher, whoever is asked


def test_what_is_too_little_is_a_line():
    few = ranked(1.0, np.zeros(18))
    assert few.p is None and "18 draws are too few: 19" in str(few)
    assert all(one.p is None for one in ranked_among(np.zeros(2), np.zeros((3, 2))))
    best, seen = attributed(np.array([[0.0, 1.0]] * 9))
    assert best == 1 and seen.p is None


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: gains(np.zeros(2), np.zeros(3), np.ones(2)), "2 answers of the student's, 3 of"),
        (lambda: gains(np.zeros(2), None, np.array([1, 0])), "no token"),
        (lambda: gains(np.array([math.nan]), None, np.ones(1)), "finite"),
        (lambda: ranked(math.inf, np.zeros(30)), "finite"),
        (lambda: ranked_among(np.zeros(2), np.zeros((30, 3))), "2 candidates of the student's, 3"),
        (lambda: attributed(np.zeros((30, 1))), "1 candidates, 30 questions"),
        (lambda: attributed(np.zeros((0, 2))), "2 candidates, 0 questions"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(BadInput, match=words):
        call()
