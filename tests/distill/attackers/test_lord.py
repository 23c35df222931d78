"""LoRD: which answer is y+ by hand, the loss against float64, and how the periods follow one
another.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.attackers import lord, sft
from distill.completions import Completion
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.specs import TrainingConfig
from distill.trainer import Trained

TOKENIZER = character_tokenizer("0123456789+= #")
RECIPE = TrainingConfig(max_length=32, steps=30, batch_size=9)
SOLD = [
    Completion(f"{a}{b}", f"{a}+{b}=", f"{a + b} # {a + b}") for a in range(3) for b in range(3)
]


def network(seed=0):
    return llama(TOKENIZER, hidden_size=16, num_layers=1, num_heads=2, max_length=32, seed=seed)


def model(seed=0):
    return LanguageModel(network(seed), TOKENIZER, max_new_tokens=10)


@pytest.mark.parametrize(
    ("before", "now", "want"),
    [
        ([-1.0, -1.0], [-0.5, -0.9], (0, 1)),  # gains 0.5 and 0.1
        ([-1.0, -1.0], [-0.9, -0.5], (1, 0)),
        ([-3.0, -0.2], [-2.0, -0.1], (0, 1)),  # the gain counts, not what is likely
        ([-1.0, -1.0], [-1.5, -1.6], (None, 1)),  # lost 0.5 and is not likely: the sold answer
        ([-0.01, -0.01], [-0.21, -0.3], (0, 1)),  # lost, but e**-0.21 = 0.81
        ([-0.01, -0.01], [-0.23, -0.3], (None, 1)),  # e**-0.23 = 0.79
        ([-1.0, -1.0], [-1.05, -1.6], (0, 1)),  # unlikely, but lost no more than 0.1
    ],
)
def test_which_answer_is_preferred_by_hand(before, now, want):
    assert lord.order(before, now, 0.8, -0.1) == want


@given(st.lists(st.floats(-5, 0), min_size=4, max_size=4))
def test_the_order_of_two_answers_means_nothing(levels):
    before, now = levels[:2], levels[2:]
    plus, minus = lord.order(before, now, 0.0, -9.0)
    other = lord.order(before[::-1], now[::-1], 0.0, -9.0)
    gains = np.subtract(now, before)
    assert gains[plus] >= gains[minus] and (gains[0] == gains[1] or other == (1 - plus, 1 - minus))


def test_the_loss_in_float64():
    rows = [
        sft.example(Completion("q", "1+2=", text), TOKENIZER, 32)
        for text in ("3 # 3", "3", "44", "7 # 7", "8", "99")
    ]
    net, levels = network(1), []
    for row in rows:
        ids = torch.tensor([row.prompt_ids + row.answer_ids])
        with torch.no_grad():
            all_TV = (
                net(input_ids=ids).logits[0].double().log_softmax(-1)[len(row.prompt_ids) - 1 : -1]
            )
        levels.append(float(all_TV.gather(-1, torch.tensor(row.answer_ids)[:, None]).mean()))
    want = [1 / (1 + math.exp(s + p - 2 * m)) for s, p, m in (levels[:3], levels[3:])]
    loss = lord.loss(net, rows, 0, torch.device("cpu"))
    assert float(loss.detach()) == pytest.approx(np.mean(want), rel=1e-5)


def test_periods_learn_from_the_answers_of_the_one_before(monkeypatch):
    seen, turns = [], iter(range(9))

    def drawn(model, sold, k, temperature, seed):
        turn = next(turns)
        return [
            Completion(one.prompt_id, one.prompt, f"{turn}{i}") for one in sold for i in range(k)
        ]

    def noted(net, groups, recipe, **options):
        seen.append([[TOKENIZER.decode(one.answer_ids[:-1]) for one in group] for group in groups])
        assert recipe.steps == 5 and recipe.batch_size == 3
        with torch.no_grad():  # every answer becomes likelier or not, which orders them
            net.get_output_embeddings().weight.mul_(1.5)
        return Trained(net, positions=1)

    monkeypatch.setattr(lord, "sample_completions", drawn)
    monkeypatch.setattr(lord, "train", noted)
    attacker = lord.Attacker(lord.Settings(periods=3, first=0.5, tau=0.0))
    done = attacker.train(
        [*SOLD, Completion("00~1", SOLD[0].prompt, "5")], model(4), RECIPE, seed=0
    )
    assert [group[0] for group in seen[0]] == [
        sold.text for sold in SOLD
    ]  # the first answer, in order
    assert all(group[1:] == [group[0], "01"] for group in seen[0])  # no delta yet
    for turn in (1, 2):
        assert all(sorted(group[1:]) == [f"{turn - 1}0", f"{turn - 1}1"] for group in seen[turn])
    assert any(group[1].endswith("0") for group in seen[1]) and any(
        group[1].endswith("1") for group in seen[1]
    )
    assert done.positions > 3


def test_sold_answers_stand_for_what_is_unlikely(monkeypatch):
    seen = []
    monkeypatch.setattr(
        lord, "train", lambda net, groups, *args, **kw: seen.append(groups) or Trained(net)
    )
    lord.Attacker(lord.Settings(periods=2, tau=1.0, tau_delta=99.0)).train(
        SOLD, model(), RECIPE, seed=0
    )
    assert all(group[0].answer_ids == group[1].answer_ids for groups in seen for group in groups)


def test_a_question_whose_y_minus_is_the_sold_answer_is_left_out(monkeypatch):
    seen = []
    monkeypatch.setattr(
        lord, "train", lambda net, groups, *args, **kw: seen.append(groups) or Trained(net)
    )
    monkeypatch.setattr(
        lord,
        "sample_completions",
        lambda here, sold, *args: [
            replace(one, text="9" if i else one.text)
            for i, one in enumerate(sold)
            for _ in range(2)
        ],
    )
    lord.Attacker(lord.Settings(periods=2, tau=0.0)).train(SOLD, model(), RECIPE, seed=0)
    assert [len(groups) for groups in seen] == [len(SOLD) - 1] * 2


def test_periods_share_all_steps_that_are_left(monkeypatch):
    steps = []
    monkeypatch.setattr(
        lord, "train", lambda net, groups, recipe, **kw: steps.append(recipe.steps) or Trained(net)
    )
    lord.Attacker(lord.Settings(periods=4, first=0.5)).train(SOLD, model(), RECIPE, seed=0)
    assert steps == [4, 4, 4, 3]
