"""Filters by hand and one by one, their fall-back, and what a model of its own finds unlikely."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.attackers.clean import filter
from tests.distill.attackers.clean.traces import (
    CLEAN,
    OWN,
    RECIPE,
    WORKED,
    completions,
    made,
    texts,
)


def test_repetition_by_hand():
    # aaaa has three 2-grams, two of which were there before; abcd has three and none.
    assert (
        filter.repetition("aaaa", 2) == pytest.approx(2 / 3) and filter.repetition("abcd", 2) == 0
    )
    assert filter.repetition("a", 2) == filter.repetition("", 1) == 0
    assert filter.repetition("abab", 2) == pytest.approx(1 / 3)  # ab ba ab


@given(st.text("ab", max_size=20), st.integers(1, 5))
def test_repetition_against_brute_force(text, n):
    grams = [text[i : i + n] for i in range(len(text)) if i + n <= len(text)]
    again = sum(gram in grams[:i] for i, gram in enumerate(grams))
    assert filter.repetition(text, n) == pytest.approx(again / len(grams) if grams else 0)


@given(st.lists(st.floats(0, 9) | st.just(math.inf), min_size=1), st.floats(0.01, 1))
def test_upper_is_numpys_quantile(values, share):
    assert filter.upper(values, share) == np.quantile(values, share, method="inverted_cdf")


def test_wrong_answers_go():
    answers = [CLEAN[0], replace(CLEAN[1], text="c=1 # x"), CLEAN[2]]
    assert made(filter).clean(answers, OWN, seed=0) == [CLEAN[0], CLEAN[2]]
    assert made(filter, wrong=False).clean(answers, OWN, seed=0) == answers


def test_repeating_answers_go():
    # 13 3-grams, 10 of them again: 0.77
    answers = completions("abcabcabcabcabc", "no loops at all")
    assert texts(made(filter, wrong=False, repeats=0.7, n=3).clean(answers, OWN, seed=0)) == [
        "no loops at all"
    ]
    assert made(filter, wrong=False, repeats=0.8, n=3).clean(answers, OWN, seed=0) == answers
    # 1-grams: two thirds, a half and none of them again; what is just at the limit may stay.
    half = completions("bbb", "aa", "ab")
    assert made(filter, wrong=False, repeats=0.5, n=1).clean(half, OWN, seed=0) == half[1:]


def test_long_answers_go():
    answers = completions("a" * 10, "b" * 12, "c" * 15, "d" * 40)  # the lower median is 12
    assert made(filter, wrong=False, long=1.25).clean(answers, OWN, seed=0) == answers[:3]
    assert made(filter, wrong=False, long=1.2).clean(answers, OWN, seed=0) == answers[:2]


def test_unlikely_answers_go_by_share_and_what_does_not_fit_goes_first(monkeypatch):
    nats = {"usual": 0.1, "too long": math.inf, "odd": 2.0, "as usual": 0.1}
    monkeypatch.setattr(filter, "train_own_model", lambda held, own, seed: None)
    monkeypatch.setattr(filter, "surprisal", lambda model, held: [nats[one.text] for one in held])

    def most_likely(share):
        return texts(made(filter, wrong=False, likely=share).clean(completions(*nats), OWN, seed=0))

    assert most_likely(0.25) == most_likely(0.5) == ["usual", "as usual"]
    assert most_likely(0.75) == ["usual", "odd", "as usual"] and most_likely(1.0) == [*nats]


def test_a_model_of_its_own_knows_what_is_unlike_the_rest():
    quick = replace(OWN, recipe=RECIPE.model_copy(update={"steps": 60}))
    odd = [replace(one, text=one.text[::-1]) for one in WORKED[60:65]]
    cleaned = made(filter, wrong=False, likely=60 / 65).clean([*odd, *WORKED[:60]], quick, seed=0)
    assert cleaned == WORKED[:60]


@given(st.integers(1, 40), st.sampled_from([0.05, 0.25, 0.5, 1.0]))
def test_who_would_be_left_with_nothing_keeps_the_least_share(n, least):
    answers = completions(*(f"{i} # wrong" for i in range(n)))
    cleaned = made(filter, least=least).clean(answers, OWN, seed=0)
    assert cleaned == answers[: math.ceil(least * n)] and cleaned


def test_the_least_share_is_of_those_that_fail_fewest_in_their_order():
    long = [replace(one, text="?" * 99) for one in CLEAN[:2]]
    wrong = [replace(one, text=one.text[:-1] + "?") for one in CLEAN[2:7]]
    answers = [long[0], *wrong[:3], long[1], *wrong[3:]]
    assert made(filter, long=1.5, least=0.5).clean(answers, OWN, seed=0) == wrong[:4]
    assert made(filter, long=1.5, least=6 / 7).clean(answers, OWN, seed=0) == [
        long[0],
        *wrong[:3],
        *wrong[3:],
    ]


def test_nothing_is_filtered_of_nothing():
    assert made(filter, repeats=0.5, long=2).clean([], OWN, seed=0) == []


def test_it_needs_what_its_filters_need():
    assert made(filter).needs == ("check",) and made(filter, wrong=False, repeats=0.5).needs == ()
    assert made(filter, likely=0.5).needs == ("check", "fresh")


def test_right_answers_gain_nothing():
    assert made(filter, repeats=0.5, long=2.0).clean(CLEAN, OWN, seed=0) == CLEAN
