"""The best of several answers, by each of the three ways to go, against brute force and with a
model of its own.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.attackers.clean import best
from distill.completions import Completion
from tests.distill.attackers.clean.traces import (
    CLEAN,
    OWN,
    RECIPE,
    WORKED,
    completions,
    made,
    texts,
)


def test_the_right_one_then_the_first():
    right = CLEAN[0]
    answers = completions("wrong # x", right.text, "later " + right.text, prompt=right.prompt)
    assert texts(made(best).clean(answers, OWN, seed=0)) == [right.text]
    assert texts(made(best).clean(completions("b", "a", prompt=right.prompt), OWN, seed=0)) == ["b"]


@given(st.lists(st.tuples(st.sampled_from("pq"), st.text("x", max_size=4)), max_size=10))
def test_the_shortest_against_brute_force(drawn):
    answers = [Completion(str(i), prompt, text) for i, (prompt, text) in enumerate(drawn)]
    cleaned = made(best, by="length").clean(answers, OWN, seed=0)
    assert [one.prompt for one in cleaned] == list(dict.fromkeys(prompt for prompt, _ in drawn))
    for winner in cleaned:
        others = [other for other in answers if other.prompt == winner.prompt]
        assert winner is next(o for o in others if len(o.text) == min(len(o.text) for o in others))


def test_the_likeliest_by_hand_and_what_does_not_fit_is_the_least_likely(monkeypatch):
    nats = {"too long": math.inf, "odd": 2.0, "usual": 0.5, "as usual": 0.5}
    monkeypatch.setattr(best, "train_own_model", lambda held, own, seed: None)
    monkeypatch.setattr(best, "surprisal", lambda model, held: [nats[one.text] for one in held])
    assert texts(made(best, by="likelihood").clean(completions(*nats), OWN, seed=0)) == ["usual"]
    longer = completions("too long", "odd")
    assert texts(made(best, by="likelihood").clean(longer, OWN, seed=0)) == ["odd"]


def test_a_model_of_its_own_prefers_what_most_answers_look_like():
    quick = replace(OWN, recipe=RECIPE.model_copy(update={"steps": 60}))
    noise = [replace(one, text="?" + one.text[::-1]) for one in WORKED[:4]]
    cleaned = made(best, by="likelihood").clean([*noise, *WORKED[:60]], quick, seed=0)
    assert cleaned == WORKED[:60]
    # Longer than the context: it must not win over an answer that fits, whichever comes first.
    endless = replace(WORKED[0], text=WORKED[0].text * 9)
    assert made(best, by="likelihood").clean([endless, *WORKED[:60]], quick, seed=0) == WORKED[:60]


def test_what_it_needs_depends_on_what_it_goes_by():
    assert [made(best, by=by).needs for by in ("check", "likelihood", "length")] == [
        ("check",),
        ("fresh",),
        (),
    ]


@pytest.mark.parametrize("by", ["check", "likelihood", "length"])
def test_one_answer_a_question_is_left_alone_and_nothing_is_trained(by, monkeypatch):
    monkeypatch.setattr(
        best, "train_own_model", lambda *args: pytest.fail("there is nothing to choose from")
    )
    assert made(best, by=by).clean(CLEAN, OWN, seed=0) == CLEAN


def test_of_equally_right_answers_the_first_is_as_good():
    both = [*CLEAN, *(replace(one, prompt_id=f"{one.prompt_id}~1") for one in CLEAN)]
    assert made(best).clean(both, OWN, seed=0) == CLEAN
