"""Which answers a student of the student learns from, and how many students there are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from distill.attackers.follow import neutralise, questions, redistil
from distill.completions import BadInput
from distill.seeds import derived_seed
from tests.distill.attackers.follow.students import (
    OWN,
    PUBLIC,
    RECIPE,
    SUMS,
    followed,
    student,
    weights,
)

RESOURCES = replace(OWN, fresh=student, recipe=RECIPE)


@pytest.fixture
def spied(monkeypatch):
    """Who was asked and how; every question is answered rightly, rightly again, and wrongly."""
    drawn = []

    def draw(model, completions, *rest):
        drawn.append((model, list(completions), *rest))
        answers = [(one, f" # {SUMS[one.prompt]}") for one in completions]
        return [
            replace(one, text=text) for one, right in answers for text in (right, right, " # 99")
        ]

    monkeypatch.setattr(redistil, "sample_completions", draw)
    return drawn


def test_right_answers_alone_are_learned_from_each_text_once(spied):
    answers = redistil.answers_to_learn(student(), RESOURCES, 3, 0.5, True, 7)
    assert [one.text for one in answers] == [f" # {total}" for total in SUMS.values()]
    assert spied[0][1:] == (questions(OWN), 3, 0.5, 7)
    every = redistil.answers_to_learn(student(), RESOURCES, 3, 0.5, False, 7)
    assert len(every) == 2 * len(SUMS)
    blind = replace(RESOURCES, check=lambda answer: False)
    assert redistil.answers_to_learn(student(), blind, 3, 0.5, True, 7) == every


def test_each_generation_asks_the_one_before_and_begins_afresh(spied):
    done = followed(redistil, student(4), RESOURCES, seed=3, generations=2, samples=1)
    first, second = (call[0] for call in spied)
    assert torch.equal(weights(first.network), weights(student(4).network))
    seeds = [derived_seed("redistil", 3, turn) for turn in (0, 1)]
    answers = redistil.answers_to_learn(student(), RESOURCES, 1, 0.7, True, seeds[0])
    want = redistil.learn_anew(answers, RECIPE, RESOURCES, seeds[0])[0]
    assert torch.equal(weights(second.network), weights(want.network))
    assert (
        done.steps
        == 2 * RECIPE.steps
        == redistil.Attacker(redistil.Settings(generations=2)).steps(RECIPE)
    )


def test_a_student_that_says_nothing_has_an_untrained_student():
    model, trained = redistil.learn_anew([], RECIPE, RESOURCES, 5)
    assert torch.equal(weights(model.network), weights(student(5).network))
    assert trained.steps == 0


def test_what_is_needed():
    part = redistil.Attacker(redistil.Settings(right=False))
    assert part.needs == ("fresh", "worked")
    assert "check" in redistil.Attacker(redistil.Settings()).needs
    with pytest.raises(BadInput, match="no questions of its own"):
        followed(redistil, student(), replace(RESOURCES, public=[], worked=[]))


def test_neutralisation_subtracts_what_the_student_has_gained(monkeypatch):
    seen = {}

    class Guess:
        def edit(self, strength):
            seen["strength"] = strength
            return lambda step, scores: scores

    def estimate(completions, base, marked, how, temperature, seed):
        seen["compared"] = base, marked
        return Guess()

    def learn(model, *rest):
        seen["edits"] = len(model.score_edits)
        return PUBLIC

    monkeypatch.setattr(neutralise, "stolen", estimate)
    monkeypatch.setattr(neutralise, "answers_to_learn", learn)
    model = student(1)
    for by, compared in (("models", True), ("tokens", False)):
        done = followed(neutralise, model, RESOURCES, by=by, strength=1.5, samples=1)
        before, marked = seen["compared"]
        assert (marked is model) == compared and seen["edits"] == 1 and seen["strength"] == -1.5
        assert not torch.equal(weights(before.network), weights(model.network))
        assert done.steps == neutralise.Attacker(neutralise.Settings()).steps(RECIPE) == 30
    with pytest.raises(BadInput, match="follow/neutralise: the attacker owns no worked"):
        followed(neutralise, model, replace(RESOURCES, worked=[]))
