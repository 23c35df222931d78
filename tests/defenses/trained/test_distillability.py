"""Rewards and policy gradient by hand and against plain loops; a teacher moves from its proxy, or
towards it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.trained import answer_logits, fixed_logits, rows
from defenses.trained.distillability import (
    Defense,
    Settings,
    normalise,
    objective,
    sample_answers,
    token_means,
)
from distill.completions import BadInput, Completion

seeds = st.integers(0, 2**32 - 1)
QUICK = {"rounds": 16, "samples": 8, "batch_size": 8, "learning_rate": 1e-3}


class TestRewards:
    def test_normalised_by_hand(self):
        # mean 1/2 and deviation 1/2; mean 2 and deviation sqrt(2/3) of (1, 2, 3)
        assert normalise(torch.tensor([[1.0, 0, 0, 1]])).tolist()[0] == pytest.approx(
            [1, -1, -1, 1], rel=1e-3
        )
        assert normalise(torch.tensor([[1.0, 2, 3]])).tolist()[0] == pytest.approx(
            [-math.sqrt(3 / 2), 0, math.sqrt(3 / 2)], rel=1e-3
        )

    def test_where_all_agree_there_is_no_advantage_not_even_from_rounding(self):
        assert normalise(torch.ones(2, 4)).abs().max() == 0
        assert normalise(torch.tensor([[0.5, 0.5 + 1e-7, 0.5]])).abs().max() < 1e-2

    @given(seeds, st.floats(0.1, 100), st.floats(-5, 5))
    def test_unit_and_origin_of_a_reward_do_not_count_and_groups_are_their_own(
        self, seed, scale, shift
    ):
        rewards = torch.tensor(np.random.default_rng(seed).normal(size=(3, 6)))
        torch.testing.assert_close(
            normalise(rewards * scale + shift), normalise(rewards), rtol=1e-2, atol=1e-2
        )
        torch.testing.assert_close(normalise(rewards)[1], normalise(rewards[1:2])[0])

    def test_means_are_of_each_answers_own_tokens(self):
        assert token_means(torch.tensor([1.0, 2, 3, 10, 5, 7]), [3, 1, 2]).tolist() == [2, 10, 6]


class TestObjective:
    def test_by_hand(self):
        # p = (1/2, 1/2), clean (3/4, 1/4): -2 log(1/2) + beta * ln(4/3) / 2
        clean = torch.tensor([[math.log(3), 0]])
        value = objective(
            torch.zeros(1, 2), clean, torch.tensor([0]), torch.tensor([2.0]), beta=0.5
        )
        assert float(value) == pytest.approx(2 * math.log(2) + 0.5 * math.log(4 / 3) / 2)

    @given(seeds, st.floats(0, 2))
    def test_against_a_plain_loop_and_its_gradient_in_closed_form(self, seed, beta):
        rng = np.random.default_rng(seed)
        z, c = rng.normal(size=(2, 5, 6))
        y, a = rng.integers(0, 6, 5), rng.normal(size=5)
        value, wanted = 0.0, np.zeros((5, 6))
        for n in range(5):
            p, q = (np.exp(x) / np.exp(x).sum() for x in (z[n], c[n]))
            kl = float((p * np.log(p / q)).sum())
            value += (beta * kl - a[n] * math.log(p[y[n]])) / 5
            wanted[n] = (-a[n] * (np.eye(6)[y[n]] - p) + beta * p * (np.log(p / q) - kl)) / 5
        scores = torch.tensor(z, requires_grad=True)
        loss = objective(scores, torch.tensor(c), torch.tensor(y), torch.tensor(a), beta)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(value, abs=1e-12)
        np.testing.assert_allclose(scores.grad.numpy(), wanted, atol=1e-12)


class TestSampling:
    def test_a_group_holds_different_answers_to_one_prompt(self, adder, provider):
        traces = provider.traces[:3]
        sampled = sample_answers(replace(adder, top_p=0.1), traces, 6, seed=0)
        assert [(a.prompt_id, a.prompt) for a in sampled] == [
            (t.prompt_id, t.prompt) for t in traces for _ in range(6)
        ]
        assert max(len({a.text for a in sampled[i : i + 6]}) for i in (0, 6, 12)) > 1
        assert (
            sampled
            == sample_answers(adder, traces, 6, seed=0)
            != sample_answers(adder, traces, 6, seed=1)
        )

    def test_it_samples_the_policy_that_is_scored(self, adder, provider):
        bent = replace(adder, score_edits=(lambda step, scores_BV: -scores_BV,))
        assert sample_answers(bent, provider.traces[:3], 2, seed=0) == sample_answers(
            adder, provider.traces[:3], 2, seed=0
        )


def surprise(adder, provider, model) -> float:
    """The proxy's nats a token of what a model says at temperature 1."""
    answer_rows = rows(adder, sample_answers(model, provider.traces, 4, seed=123))
    with torch.no_grad():
        return float(
            torch.nn.functional.cross_entropy(*answer_logits(provider.proxy.network, answer_rows))
        )


@pytest.mark.parametrize("eta", [2.0, -2.0])
def test_the_proxy_finds_answers_less_likely_or_likelier_and_they_stay_right(
    adder, provider, untouched, accuracy, eta
):
    settings = Settings(eta=eta, **QUICK)
    learned = Defense(settings, provider).learn(adder)
    assert list(learned) == [name for name, _ in adder.network.named_parameters()]
    model = Defense(settings, replace(provider, learned=learned))(adder)
    before, after = (surprise(adder, provider, one) for one in (adder, model))
    assert (after - before) * math.copysign(1, eta) > 0.05
    assert accuracy(model) >= accuracy(adder) - 0.1


def test_a_strong_anchor_holds_the_teacher_where_it_was(adder, provider):
    def kl(beta: float) -> float:
        settings = Settings(eta=2.0, beta=beta, **QUICK | {"rounds": 8})
        model = Defense(
            settings, replace(provider, learned=Defense(settings, provider).learn(adder))
        )(adder)
        answer_rows = rows(adder, provider.traces)
        p, c = (
            torch.log_softmax(fixed_logits(one.network, answer_rows), -1) for one in (model, adder)
        )
        return float((p.exp() * (p - c)).sum(-1).mean())

    assert kl(20.0) < 0.5 * kl(0.0)


def test_right_answers_become_likelier_where_likeness_hardly_counts(adder, provider):
    """With a grader that wants the larger digit first, and next to no eta, the teacher comes to say
    that.
    """

    def larger_first(answer: Completion) -> bool:
        return answer.text[:2] == "".join(sorted(answer.prompt[:-1].split("+"), reverse=True))

    def share(model) -> float:
        answers = sample_answers(model, provider.traces, 4, seed=7)
        return sum(map(larger_first, answers)) / len(answers)

    settings = Settings(eta=1e-6, **QUICK)
    picky = replace(provider, grade=larger_first)
    model = Defense(settings, replace(picky, learned=Defense(settings, picky).learn(adder)))(adder)
    assert share(model) > share(adder) + 0.15


def test_the_same_is_learned_twice(adder, provider):
    first, again = (
        Defense(Settings(**QUICK | {"rounds": 2}), provider).learn(adder) for _ in range(2)
    )
    assert all(torch.equal(first[name], value) for name, value in again.items())


def test_it_needs_a_grade(adder, provider):
    with pytest.raises(BadInput, match="trained/distillability: needs a grade"):
        Defense(Settings(), replace(provider, grade=None)).learn(adder)
