"""Overlap by hand and against sets, and which of equal answers stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.attackers.clean import deduplicate
from tests.distill.attackers.clean.traces import CLEAN, OWN, completions, made, texts

letters = st.text("ab", max_size=8)


def test_by_hand():
    # abcd bcde cdef defg efgh against abcd bcde cdef defg efgx: 4 of 6 are shared
    first, other = (deduplicate.grams(text, 4) for text in ("abcdefgh", "abcdefgx"))
    assert deduplicate.overlap(first, other) == pytest.approx(4 / 6) and len(first) == 5
    assert deduplicate.grams("ab", 4) == {"ab"} and deduplicate.grams("", 4) == {""}


@given(letters, letters, st.integers(1, 4))
def test_overlap_is_symmetric_and_1_only_for_the_same_grams(a, b, n):
    x, y = deduplicate.grams(a, n), deduplicate.grams(b, n)
    both, either = sum(gram in y for gram in x), len({*x, *y})
    assert deduplicate.overlap(x, y) == deduplicate.overlap(y, x) == both / either
    assert (deduplicate.overlap(x, y) == 1) == (x == y)


def test_the_first_of_nearly_equal_answers_to_a_question_stays():
    answers = [
        *completions("abcdefgh", "abcdefgh", "abcdefgx", "12345678"),
        *completions("abcdefgh", prompt="other"),
    ]
    assert texts(made(deduplicate, above=0.6).clean(answers, OWN, seed=0)) == [
        "abcdefgh",
        "12345678",
        "abcdefgh",
    ]
    assert texts(made(deduplicate, above=0.7).clean(answers, OWN, seed=0)) == [
        "abcdefgh",
        "abcdefgx",
        "12345678",
        "abcdefgh",
    ]
    assert made(deduplicate, above=0.6).clean(answers, OWN, seed=0)[0] is answers[0]


def test_two_are_compared_with_what_was_kept_and_not_with_what_was_dropped():
    # 1-grams: abc ~ abcd (3/4) ~ abcde (4/5), but abc and abcde share 3 of 5 alone.
    answers = completions("abc", "abcd", "abcde")
    assert texts(made(deduplicate, above=0.7, n=1).clean(answers, OWN, seed=0)) == ["abc", "abcde"]


@given(st.lists(letters, max_size=8), st.floats(0.1, 1), st.integers(1, 3))
def test_what_is_kept_is_apart_what_is_dropped_is_not_and_again_changes_nothing(drawn, above, n):
    attacker, answers = made(deduplicate, above=above, n=n), completions(*drawn)
    cleaned = attacker.clean(answers, OWN, seed=0)
    near = [
        [
            deduplicate.overlap(*(deduplicate.grams(x.text, n) for x in (a, b))) >= above
            for b in cleaned
        ]
        for a in answers
    ]
    for answer, alike in zip(answers, near, strict=True):
        assert sum(alike) == 1 if answer in cleaned else any(alike)
    assert attacker.clean(cleaned, OWN, seed=0) == cleaned


def test_right_answers_to_different_questions_gain_nothing_however_alike():
    alike = [replace(one, text=CLEAN[0].text) for one in CLEAN]
    assert (
        made(deduplicate).clean(CLEAN, OWN, seed=0) == CLEAN
        and made(deduplicate).clean(alike, OWN, seed=0) == alike
    )
