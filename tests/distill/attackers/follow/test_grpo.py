"""GRPO by hand: advantages, clipping with its gradient, the KL estimator, a whole loss in float64,
one step by AdamW.

And what rounds do to a student.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from distill.attackers import _policy, sft
from distill.attackers.follow import copy_model, grpo
from distill.completions import Completion, Prompt
from distill.seeds import derived_seed
from tests.distill.attackers.follow.students import (
    OWN,
    PUBLIC,
    RECIPE,
    TOKENIZER,
    followed,
    student,
    weights,
)

RIGHT, WRONG = PUBLIC[0], replace(PUBLIC[0], text=" # 71")


@pytest.fixture
def one_group(monkeypatch):
    """One question with a right and a wrong answer, whoever is sampled."""
    monkeypatch.setattr(grpo, "questions", lambda own: PUBLIC[:1])
    monkeypatch.setattr(grpo, "sample_completions", lambda *args: [RIGHT, WRONG])


def test_advantages_by_hand():
    # Mean 1/4, variance 3/16: the right one is sqrt 3 ahead, the others 1/sqrt 3 behind.
    advantages = grpo.advantages(np.array([[1.0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]))
    assert (
        advantages[0] == pytest.approx([3**0.5, *[-(3**-0.5)] * 3]) and (advantages[1:] == 0).all()
    )


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_advantages_are_scipys_standard_scores_where_a_group_differs(rewards):
    rewards = np.array(rewards, float)
    advantages = grpo.advantages(rewards)
    mixed = np.ptp(rewards, 1) > 0
    assert (
        advantages[mixed] == pytest.approx(stats.zscore(rewards[mixed], axis=1))
        if mixed.any()
        else True
    )
    assert (advantages[~mixed] == 0).all() and (
        (advantages > 0) == (rewards > rewards.mean(1, keepdims=True))
    ).all()


def mean_logprob(network, answer):
    """The mean over an answer's tokens and its end of their log-probabilities."""
    ids = [
        TOKENIZER(text, add_special_tokens=False).input_ids for text in (answer.prompt, answer.text)
    ]
    whole = torch.tensor([[*ids[0], *ids[1], TOKENIZER.eos_token_id]])
    logprobs = network(input_ids=whole).logits[0, len(ids[0]) - 1 : -1].log_softmax(-1)
    return logprobs.gather(-1, whole[0, len(ids[0]) :, None]).mean()


def test_one_step_by_hand(one_group):
    done = followed(grpo, student(), rounds=1, samples=2, rate=0.5)
    want = copy_model(student()).network
    # Two answers, advantages 1 and -1; where the student is the one that was sampled the ratio has
    # slope 1.
    loss = -(mean_logprob(want, RIGHT) - mean_logprob(want, WRONG)) / 2
    optimizer = torch.optim.AdamW(
        want.parameters(), 0.5 * RECIPE.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
    )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(want.parameters(), RECIPE.clip)
    slopes = torch.cat([p.grad.flatten() for p in want.parameters()])
    optimizer.step()
    sure = slopes.abs() > 1e-6  # where rounding cannot turn the sign of AdamW's first step
    assert sure.float().mean() > 0.5
    assert torch.allclose(weights(done.network)[sure], weights(want)[sure], atol=1e-5)
    assert done.tokens == len(RIGHT.text) + len(WRONG.text) + 2


@pytest.mark.parametrize("rounds", [1, 3])
def test_right_answers_become_likelier_and_wrong_ones_less(one_group, rounds):
    before = student()
    after = replace(
        before, network=followed(grpo, before, rounds=rounds, samples=2, rate=0.2).network.eval()
    )
    prompts, texts = [Prompt("a", RIGHT.prompt)] * 2, [RIGHT.text, WRONG.text]
    gained = np.subtract(before.surprisal(prompts, texts), after.surprisal(prompts, texts))
    assert gained[0] > 0.02 and gained[1] < -0.02


@pytest.mark.parametrize("verdict", [True, False])
def test_groups_that_agree_change_nothing_to_the_bit(verdict):
    done = followed(grpo, student(), replace(OWN, check=lambda answer: verdict))
    assert torch.equal(weights(done.network), weights(student().network))
    assert (done.positions, done.tokens, done.losses) == (0, 0, [])


def test_every_round_samples_anew_from_the_student_of_the_last(monkeypatch):
    seen = []

    def drawn(model, questions, k, temperature, seed):
        seen.append((weights(model.network), len(questions), k, temperature, seed))
        return [
            one
            for question in questions
            for one in (question, *[replace(question, text="7")] * (k - 1))
        ]

    monkeypatch.setattr(grpo, "sample_completions", drawn)
    done = followed(grpo, student(), seed=4, rounds=2, samples=3, temperature=0.9)
    seeds = [derived_seed("grpo", 4, turn) for turn in (0, 1)]
    assert [one[1:] for one in seen] == [(len(PUBLIC), 3, 0.9, seed) for seed in seeds]
    assert torch.equal(seen[0][0], weights(student().network)) and not torch.equal(
        seen[1][0], seen[0][0]
    )
    assert not torch.equal(weights(done.network), seen[1][0])
    # 27 answers in batches of 8 are four steps a round, each answer once.
    assert done.tokens == 2 * sum(len(one.text) + 1 + 2 * len("7#") for one in PUBLIC)


@pytest.mark.parametrize(
    ("ratio", "gain", "value", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.5, 2.0, 2.4, 0.0),  # already likelier by more than a fifth: clipped, no gradient
        (0.5, 2.0, 1.0, 1.0),  # not clipped: it may come back
        (0.5, -2.0, -1.6, 0.0),
        (1.5, -2.0, -3.0, -3.0),
    ],
)
def test_the_clipped_ratio_by_hand(ratio, gain, value, slope):
    now = torch.tensor([np.log(ratio)], requires_grad=True)
    surrogate = grpo.surrogate(now, torch.zeros(1), torch.tensor([gain]), 0.2)
    surrogate.sum().backward()
    assert float(surrogate.detach()) == pytest.approx(value) and float(now.grad) == pytest.approx(
        slope
    )


def test_the_estimator_of_kl_is_exact_in_the_mean_and_never_negative():
    p, q = (
        torch.randn(6, generator=torch.Generator().manual_seed(i)).double().log_softmax(-1)
        for i in (0, 1)
    )
    each = grpo.kl(p, q)
    assert (each >= 0).all()
    assert float((p.exp() * each).sum()) == pytest.approx(float((p.exp() * (p - q)).sum()))


def test_the_loss_in_float64():
    texts, gains = ["3 # 3", "12", "4 # 4"], [1.0, -0.5, -0.5]
    rows = [
        replace(sft.example(Completion("q", "1+2=", text), TOKENIZER, 32), weight=gain)
        for text, gain in zip(texts, gains, strict=True)
    ]
    now, old, start = (student(seed).network for seed in (1, 2, 3))
    referenced = [
        one
        for group in _policy.with_reference_logprobs([[row] for row in rows], [old, start], 0)
        for one in group
    ]
    answers = []
    for row in rows:
        ids = torch.tensor([row.prompt_ids + row.answer_ids])
        seen = []
        for net in (now, old, start):
            with torch.no_grad():
                all_TV = (
                    net(input_ids=ids)
                    .logits[0]
                    .double()
                    .log_softmax(-1)[len(row.prompt_ids) - 1 : -1]
                )
            seen.append(all_TV.gather(-1, torch.tensor(row.answer_ids)[:, None])[:, 0].numpy())
        ratio = np.exp(seen[0] - seen[1])
        gained = np.minimum(ratio * row.weight, np.clip(ratio, 0.9, 1.1) * row.weight)
        far = np.exp(seen[2] - seen[0]) - (seen[2] - seen[0]) - 1
        answers.append((gained - 0.3 * far).mean())
    loss = grpo.policy_loss(now, referenced, 0, torch.device("cpu"), grpo.Policy(1, 1.0, 0.1, 0.3))
    assert float(loss.detach()) == pytest.approx(-np.mean(answers), rel=1e-4)
