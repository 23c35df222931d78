"""Majority by hand and against a count of all votes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.attackers import AttackerResources
from distill.attackers.clean import vote
from distill.completions import Completion
from tests.distill.attackers.clean.traces import CLEAN, OWN, completions, made, texts

# 0 stands for an answer without a final one.
ballots = st.lists(st.tuples(st.sampled_from("pq"), st.integers(0, 3)), max_size=12)
READ = AttackerResources(
    final=lambda one: one.text.rpartition("# ")[2].strip() if "# " in one.text else None
)


@pytest.mark.parametrize(
    ("answers", "every", "first"),
    [
        (("x # 1", "y # 2", "no answer", "z # 2"), ["y # 2", "z # 2"], ["y # 2"]),
        (("x # 1", "y # 2"), ["x # 1"], ["x # 1"]),  # the earliest of equals
        (("z # 2", "x # 1", "y # 1", "w # 2"), ["z # 2", "w # 2"], ["z # 2"]),
        (("x", "y # 2"), ["y # 2"], ["y # 2"]),  # who says nothing has no vote
        (("x", "y"), ["x"], ["x"]),
    ],
)
def test_by_hand(answers, every, first):
    assert texts(made(vote, keep="all").clean(completions(*answers), OWN, seed=0)) == every
    assert texts(made(vote, keep="first").clean(completions(*answers), OWN, seed=0)) == first


def test_an_answer_that_was_cut_off_has_no_vote():
    cut = [replace(one, finished=False) for one in completions("x # 1", "y # 1")]
    answers = [*cut, *completions("z # 2")]
    assert texts(made(vote).clean(answers, OWN, seed=0)) == ["z # 2"]
    assert made(vote).clean(cut, OWN, seed=0) == cut[:1]  # nobody votes


@given(ballots, st.sampled_from(["all", "first"]))
def test_against_brute_force(drawn, keep):
    answers = [
        Completion(str(i), prompt, f"{i} # {digit}" if digit else "?")
        for i, (prompt, digit) in enumerate(drawn)
    ]
    cleaned = made(vote, keep=keep).clean(answers, READ, seed=0)
    want = []
    for prompt in dict.fromkeys(prompt for prompt, _ in drawn):
        votes = [
            (one, digit)
            for one, (asked, digit) in zip(answers, drawn, strict=True)
            if asked == prompt
        ]
        digits = [digit for _, digit in votes if digit]
        most = max((digits.count(digit) for digit in digits), default=0)
        winner = next((digit for digit in digits if digits.count(digit) == most), None)
        agreeing = [one for one, digit in votes if digit == winner] or [votes[0][0]]
        want += agreeing if keep == "all" else agreeing[:1]
    assert cleaned == want


def test_it_counts_final_answers_and_not_texts():
    answers = completions("1 # 07", "2 # 7", "3 # 8")
    read = replace(READ, final=lambda one: one.text.rpartition("# ")[2].lstrip("0"))
    assert texts(made(vote).clean(answers, read, seed=0)) == ["1 # 07", "2 # 7"]


def test_right_answers_gain_nothing():
    both = [copy for one in CLEAN for copy in (one, replace(one, prompt_id=f"{one.prompt_id}~1"))]
    assert (
        made(vote).clean(both, OWN, seed=0) == both
        and made(vote, keep="first").clean(CLEAN, OWN, seed=0) == CLEAN
    )
