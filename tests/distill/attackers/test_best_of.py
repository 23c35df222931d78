"""Which student is kept, what it is asked, and what all of them cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from distill.attackers import AttackerResources, best_of, sft
from distill.trainer import Trained
from tests.distill.attackers.follow.students import OWN, PUBLIC, RECIPE, student, weights

QUICK = RECIPE.model_copy(update={"steps": 5})


def attack(**settings):
    return best_of.Attacker(best_of.Settings(**settings))


@pytest.fixture
def ranked(monkeypatch):
    """Students that are right as often as told, in order, and the seeds that they were trained
    with.
    """
    scores, trained = iter([2, 5, 5, 1]), []

    def noted(self, completions, model, recipe, *, seed, **more):
        trained.append((seed, model))
        return Trained(
            model.network, [float(seed)], tokens=1, positions=2, asked=0, steps=3, examples=4, cut=1
        )

    monkeypatch.setattr(sft.Attacker, "train", noted)
    monkeypatch.setattr(best_of.Attacker, "_right", lambda self, model, held, own: next(scores))
    return trained


def test_the_first_of_the_best_is_kept_and_all_are_paid_for(ranked):
    resources, first = replace(OWN, fresh=student), student(8)
    done = attack(k=4).train(PUBLIC, first, QUICK, seed=8, resources=resources)
    assert [seed for seed, _ in ranked] == best_of.seeds(8, 4) and len(
        {seed for seed, _ in ranked}
    ) == 4
    assert ranked[0][0] == 8 and ranked[0][1] is first
    assert done.network is ranked[1][1].network and done.losses == [float(ranked[1][0])]
    assert (done.tokens, done.positions, done.asked, done.steps, done.examples, done.cut) == (
        4,
        8,
        0,
        12,
        16,
        4,
    )


def test_every_student_starts_from_weights_of_its_own_seed(ranked):
    attack(k=3).train(PUBLIC, student(8), QUICK, seed=8, resources=replace(OWN, fresh=student))
    for seed, model in ranked[1:]:
        assert torch.equal(weights(model.network), weights(student(seed).network))


def test_the_best_of_one_is_the_plain_student():
    done = attack(k=1).train(
        PUBLIC, student(), QUICK, seed=0, resources=replace(OWN, fresh=student)
    )
    plain = sft.Attacker(sft.Settings()).train(PUBLIC, student(), QUICK, seed=0)
    assert (
        torch.equal(weights(done.network), weights(plain.network))
        and done.steps == plain.steps == 5
    )


def test_it_is_asked_what_it_did_not_learn_from_where_there_is_such():
    assert best_of.comparison_questions(OWN, PUBLIC[:6], 2) == PUBLIC[6:8]
    assert best_of.comparison_questions(OWN, PUBLIC, 3) == PUBLIC[:3]  # nothing else is left
    assert best_of.comparison_questions(AttackerResources(), PUBLIC, 3) == []


def test_right_answers_are_counted_greedily():
    model, part = student(), attack()
    sft.Attacker(sft.Settings()).train(
        PUBLIC, model, RECIPE.model_copy(update={"steps": 200}), seed=0
    )
    knows = part._right(model, PUBLIC, OWN)
    assert knows >= 7 and part._right(student(), PUBLIC, OWN) < knows
    assert part._right(model, PUBLIC, replace(OWN, check=lambda answer: False)) == 0


def test_what_the_learner_needs_released_is_needed():
    assert (
        attack().needs_interface == "text"
        and attack(learner="logprob_kd").needs_interface == "top_k"
    )
