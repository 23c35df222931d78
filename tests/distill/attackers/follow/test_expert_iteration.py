"""What the student is tuned on in every round, spied on, and that it becomes right more often."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from distill.attackers import sft
from distill.attackers.follow import expert_iteration, questions, sample_completions
from distill.seeds import derived_seed
from distill.trainer import Trained
from tests.distill.attackers.follow.students import (
    OWN,
    PUBLIC,
    RECIPE,
    SUMS,
    followed,
    student,
    weights,
)


@pytest.fixture
def spied(monkeypatch):
    """What each round is tuned on, with which settings, and what was sampled for it, with which."""
    train_items, seen = [], []

    def noted(model, completions, *rest):
        train_items.append((completions, *rest))
        return Trained(model.network, [float(len(train_items))], positions=5)

    def drawn(model, questions, *rest):
        seen.append((questions, *rest))
        return [
            replace(one, text=text)
            for one in questions
            for text in (one.text, one.text, " # 99", one.text[:-1])
        ]

    monkeypatch.setattr(expert_iteration, "fine_tune", noted)
    monkeypatch.setattr(expert_iteration, "sample_completions", drawn)
    return train_items, seen


def pairs(answers):
    return sorted((one.prompt, one.text) for one in answers)


def test_only_right_answers_and_worked_solutions_are_learned_from_each_text_once(spied):
    train_items, sampled = spied
    worked = [replace(PUBLIC[0], text="in words # 0"), PUBLIC[1]]
    done = followed(
        expert_iteration,
        student(),
        replace(OWN, worked=worked),
        7,
        rounds=2,
        samples=3,
        temperature=0.6,
        steps=11,
        rate=0.2,
    )
    for turn in (0, 1):
        assert pairs(train_items[turn][0]) == pairs([worked[0], *PUBLIC[1:]])
        seed = derived_seed("expert_iteration", 7, turn)
        assert train_items[turn][1:] == (RECIPE, seed, 11, 0.2)
        assert sampled[turn] == (questions(replace(OWN, worked=worked)), 3, 0.6, seed)
    assert len(train_items) == 2 and done.positions == 10 and done.losses == [1.0, 2.0]


def test_wrong_answers_leave_worked_solutions_alone_to_learn_from(spied):
    followed(expert_iteration, student(), replace(OWN, check=lambda answer: False), rounds=1)
    assert [pairs(said) for said, *_ in spied[0]] == [pairs(OWN.worked)]


def test_a_round_with_nothing_right_ends_it_and_returns_the_student_as_it_was(spied):
    resources = replace(OWN, worked=[], check=lambda answer: False)
    done = followed(expert_iteration, student(), resources, rounds=3)
    assert spied[0] == [] and len(spied[1]) == 1
    assert torch.equal(weights(done.network), weights(student().network)) and (
        done.losses,
        done.positions,
    ) == ([], 0)


def test_a_later_round_with_nothing_right_keeps_what_was_learned(monkeypatch):
    rounds = iter([PUBLIC, []])
    monkeypatch.setattr(expert_iteration, "sample_completions", lambda *args: next(rounds))
    done = followed(expert_iteration, student(), replace(OWN, worked=[]), rounds=3, steps=3)
    assert (
        not torch.equal(weights(done.network), weights(student().network)) and len(done.losses) == 1
    )


def test_it_becomes_right_more_often_by_itself():
    before = student()
    beginner = RECIPE.model_copy(update={"steps": 60})
    sft.Attacker(sft.Settings()).train(PUBLIC, before, beginner, seed=0)  # knows some, not all

    def right(model):
        return sum(map(OWN.check, sample_completions(model, PUBLIC, 8, 1.0, seed=99))) / (
            8 * len(SUMS)
        )

    done = followed(
        expert_iteration,
        before,
        replace(OWN, worked=[]),
        rounds=3,
        samples=8,
        temperature=1.0,
        steps=30,
    )
    after = replace(before, network=done.network)
    assert right(after) > right(before) + 0.2
