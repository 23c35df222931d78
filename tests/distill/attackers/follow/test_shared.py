"""What all follow-ups share: copies, samples of one's own, tuning, and trainings that are one."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill.attackers import AttackerResources, follow, sft
from distill.attackers.follow import (
    copy_model,
    fine_tune,
    join_trainings,
    questions,
    sample_completions,
)
from distill.completions import Completion, Interface, Prompt
from distill.trainer import Trained
from tests.distill.attackers.follow.students import OWN, PUBLIC, RECIPE, SUMS, student, weights


def test_samples_of_a_question_stand_together_differ_and_are_the_seeds():
    samples = sample_completions(student(), PUBLIC[:2], 3, 2.0, seed=0)
    assert [one.prompt for one in samples] == [PUBLIC[0].prompt] * 3 + [PUBLIC[1].prompt] * 3
    assert len({one.text for one in samples[:3]}) > 1 and samples == sample_completions(
        student(), PUBLIC[:2], 3, 2.0, seed=0
    )
    assert samples != sample_completions(student(), PUBLIC[:2], 3, 2.0, seed=1)


def test_what_is_sampled_is_what_the_interface_samples_at_that_temperature():
    hot = replace(student(), temperature=0.8)
    want = hot.generate(
        [Prompt("x", "1+1=", attempt=i) for i in range(4)], seed=5, interface=Interface()
    )
    assert [
        one.text for one in sample_completions(student(), [Completion("x", "1+1=", "")], 4, 0.8, 5)
    ] == [o.text for o in want]


def test_a_greedy_student_stays_greedy_after_sampling():
    before = student()
    sample_completions(before, PUBLIC, 1, 1.0, seed=0)
    prompts = [Prompt("a", "1+1=")]
    assert before.generate(prompts, seed=0, interface=Interface()) == student().generate(
        prompts, seed=1, interface=Interface()
    )


def test_tuning_is_fine_tuning_at_a_share_of_the_rate_for_its_own_steps():
    model, other = student(), student()
    done = fine_tune(model, PUBLIC, RECIPE, 3, 20, 0.5)
    slower = RECIPE.model_copy(update={"steps": 20, "learning_rate": 0.5 * RECIPE.learning_rate})
    want = sft.Attacker(sft.Settings()).train(PUBLIC, other, slower, seed=3)
    assert torch.equal(weights(done.network), weights(want.network)) and done.losses == want.losses
    assert done.network is model.network and not torch.equal(
        weights(done.network), weights(student().network)
    )


def test_a_copy_has_weights_of_its_own():
    before = student()
    copied = copy_model(before)
    with torch.no_grad():
        for p in copied.network.parameters():
            p.add_(1)
    assert (
        torch.equal(weights(before.network), weights(student().network))
        and copied.tokenizer is before.tokenizer
    )


def test_trainings_in_a_row_are_one():
    whole = join_trainings(
        [
            Trained(1, [1.0], False, 2, 3, 4, 5, 6, 0),
            Trained(2, [2.0], True, 5, 6, 7, 8, 9, 3),
            Trained(3, [], False, 1, 1, 1, 1, 1, 1),
        ]
    )
    assert whole == Trained(3, [1.0, 2.0], True, 8, 10, 12, 14, 16, 4)


def test_questions_are_asked_once():
    assert [one.prompt for one in questions(OWN)] == list(SUMS)
    assert (
        questions(AttackerResources()) == []
        and questions(AttackerResources(worked=PUBLIC[:2])) == PUBLIC[:2]
    )


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_the_first_step_is_as_long_as_the_rate_says(rate):
    # AdamW's first step moves every weight that has a gradient by the learning rate.
    done = fine_tune(copied := copy_model(student()), PUBLIC[:1], RECIPE, 0, 1, rate)
    moved = (weights(done.network) - weights(student().network)).abs()
    assert (
        float(moved.max()) == pytest.approx(rate * RECIPE.learning_rate, rel=1e-3)
        and copied.network is done.network
    )


def parts():
    """Every part of the group, by name, with few steps."""
    names = sorted(
        path.stem for path in Path(follow.__file__).parent.glob("*.py") if path.stem != "__init__"
    )
    seen = []
    for name in names:
        module = importlib.import_module(f"distill.attackers.follow.{name}")
        few = {"steps": 3, "rounds": 2, "samples": 2}
        settings = {key: few[key] for key in few if key in module.Settings.model_fields}
        seen.append((name, module.Attacker(module.Settings(**settings))))
    return seen


@pytest.mark.parametrize(("name", "part"), parts())
def test_no_more_steps_are_taken_than_a_part_says(name, part):
    few = RECIPE.model_copy(
        update={"batch_size": 2}
    )  # so that a pass over all samples would be longer
    # With coins as grades, groups differ.
    coins = lambda answer: len(answer.text) % 2 == 0  # noqa: E731
    resources = replace(OWN, check=coins, fresh=student, recipe=few)
    done = part.follow(student(), few, resources, seed=0)
    assert isinstance(part.steps(few), int) and done.steps <= part.steps(few)
    want = {"clean_sft": 3, "expert_iteration": 6, "prune": 0, "quantise": 0}.get(name, done.steps)
    assert done.steps == want and (name != "grpo" or (part.steps(few) == 6 and done.steps > 0))
