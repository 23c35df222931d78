"""GAD: what the discriminator reads and learns, and that the student moves to what it prefers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.attackers import AttackerResources, gad, sft
from distill.completions import Completion
from tests.distill.attackers.test_dpo import (
    RECIPE,
    SOLD,
    TOKENIZER,
    model,
    network,
    token_logprobs,
)

OWN = AttackerResources(fresh=model, recipe=RECIPE)
WRONG = [replace(one, text="7 # 77", token_ids=()) for one in SOLD]


def example(answer):
    return sft.example(answer, TOKENIZER, RECIPE.max_length)


def test_the_ranking_loss_by_hand():
    loss = gad.ranking_loss(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 3.0]))
    assert float(loss) == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(3))) / 2)


def test_a_number_is_read_off_the_last_token_whatever_stands_beside_it():
    judge, rows = gad.Discriminator(network(), 3), [example(one) for one in (SOLD[0], WRONG[15])]
    numbers = judge(rows, TOKENIZER.pad_token_id).detach()
    for row, number in zip(rows, numbers, strict=True):
        ids = torch.tensor([row.prompt_ids + row.answer_ids])
        with torch.no_grad():
            states = network()(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        assert float(number) == pytest.approx(
            float(states[0, -1] @ judge.weights.detach()), abs=1e-5
        )
    assert len({round(float(one), 4) for one in numbers}) == 2


def test_it_learns_to_tell_sold_answers_from_the_students():
    judge = gad.Judge(gad.Discriminator(network(), 0), model(), RECIPE)
    judge.recipe = RECIPE.model_copy(update={"learning_rate": 0.1})
    judge.optimizer = torch.optim.AdamW(judge.discriminator.parameters(), lr=5e-3)
    judge.learn(SOLD[:12], [one for one in WRONG[:12] for _ in range(2)], 60, seed=0)
    gaps = judge.scores(SOLD[12:]) - judge.scores(WRONG[12:])  # of questions that it has not seen
    assert (gaps > 0.5).all()


def test_each_drawn_answer_is_ranked_below_what_was_sold_of_its_own_question(monkeypatch):
    judge = gad.Judge(gad.Discriminator(network(), 0), model(), RECIPE)
    seen, rows = [], judge._rows
    monkeypatch.setattr(judge, "_rows", lambda answers: seen.append(answers) or rows(answers))
    judge.learn(SOLD, [one for one in WRONG for _ in range(3)], 5, seed=0)
    for answers in seen:
        half = len(answers) // 2
        assert [one.prompt for one in answers[:half]] == [one.prompt for one in answers[half:]]
        assert all(
            a in SOLD and b in WRONG for a, b in zip(answers[:half], answers[half:], strict=True)
        )


def test_an_answer_of_which_nothing_is_left_is_its_end():
    judge = gad.Judge(gad.Discriminator(network(), 0), model(), RECIPE)
    (row,) = judge._rows([Completion("q", "1+1=", "", finished=False)])
    assert row.answer_ids == [TOKENIZER.eos_token_id]


def test_the_student_moves_to_what_scores_higher(monkeypatch):
    drawn = [a for one in SOLD for a in (one, replace(one, text="7 # 77", token_ids=()))]
    monkeypatch.setattr(gad, "sample_completions", lambda *args: drawn)
    monkeypatch.setattr(gad.Judge, "learn", lambda *args: None)
    monkeypatch.setattr(
        gad.Judge,
        "scores",
        lambda self, answers: np.array([one.text == "7 # 77" for one in answers], float),
    )
    settings = gad.Settings(first=0.5, rounds=3, samples=2, rate=0.5, kl=0.0)
    after = gad.Attacker(settings).train(SOLD, model(), RECIPE, seed=0, resources=OWN)
    half = RECIPE.model_copy(update={"steps": 15})
    before = sft.Attacker(sft.Settings()).train(SOLD, model(), half, seed=0)
    pair = [example(drawn[1]), example(drawn[0])]
    gaps = [
        token_logprobs(net, pair[0]).sum() - token_logprobs(net, pair[1]).sum()
        for net in (before.network.eval(), after.network.eval())
    ]
    assert gaps[1] > gaps[0] + 1 and 15 < after.steps <= RECIPE.steps


def test_answers_that_score_alike_teach_nothing(monkeypatch):
    monkeypatch.setattr(gad.Judge, "learn", lambda *args: None)
    monkeypatch.setattr(gad.Judge, "scores", lambda self, answers: np.zeros(len(answers)))
    done = gad.Attacker(gad.Settings(first=0.5)).train(SOLD, model(), RECIPE, seed=0, resources=OWN)
    half = RECIPE.model_copy(update={"steps": 15})
    want = sft.Attacker(sft.Settings()).train(SOLD, model(), half, seed=0)
    assert done.steps == 15 and done.losses == want.losses
