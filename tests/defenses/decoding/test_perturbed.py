"""Perturbed sampling: numbers worked out by hand, and budgets that hold along every answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.decoding import perturbed
from distill.completions import Completion, Interface
from distill.generation import DecodingStep
from distill.models import LanguageModel

seeds, shares = st.integers(0, 2**32 - 1), st.floats(0, 1)


def distributions(seed: int, rows: int = 3, size: int = 6) -> np.ndarray:
    """Dirichlet rows with a zero in each, sorted from the most likely on."""
    p = np.random.default_rng(seed).dirichlet(np.full(size, 0.3), rows)
    p[:, -1] = 0
    return -np.sort(-(p / p.sum(-1, keepdims=True)), -1)


def flips(answer: Completion) -> float:
    """Expected flips of an answer, as its own account of L1 has them."""
    return answer.l1 * (len(answer.token_ids) + answer.finished) / 2


class TestMixture:
    def test_by_hand(self):
        # 0.8 * (1/2, 1/4, 1/4) + 0.2 * e_2 = (0.4, 0.2, 0.4), at L1 distance 0.1 + 0.05 + 0.15 = 2
        # * 0.2 * (1 - 1/4)
        p = torch.tensor([[0.5, 0.25, 0.25]])
        q = perturbed.mixture(p.log(), torch.tensor([2]), 0.2).exp()
        torch.testing.assert_close(q, torch.tensor([[0.4, 0.2, 0.4]]))
        torch.testing.assert_close((q - p).abs().sum(), torch.tensor(0.3))

    @given(seeds, shares, st.integers(0, 5))
    def test_is_a_distribution_at_l1_distance_2_eps_times_1_minus_p(self, seed, eps, token):
        p = torch.tensor(distributions(seed))
        q = perturbed.mixture(p.log(), torch.full((3,), token), eps).exp()
        oracle = (1 - eps) * p + eps * torch.eye(6, dtype=torch.float64)[token]
        torch.testing.assert_close(q, oracle, rtol=0, atol=1e-12)
        torch.testing.assert_close(
            (q - p).abs().sum(-1), 2 * eps * (1 - p[:, token]), rtol=0, atol=1e-12
        )

    def test_eps_0_is_the_input_itself_and_eps_1_the_token(self):
        logprobs = torch.tensor([[0.5, 0.5, 0.0]]).log()
        assert torch.equal(perturbed.mixture(logprobs, torch.tensor([1]), 0.0), logprobs)
        assert perturbed.mixture(logprobs, torch.tensor([2]), 1.0).exp().tolist() == [[0, 0, 1]]

    @given(seeds, shares)
    def test_an_eps_a_row_is_the_one_for_all_bit_for_bit(self, seed, eps):
        logprobs, tokens = torch.tensor(distributions(seed)).float().log(), torch.tensor([5, 0, 3])
        added = torch.tensor(eps, dtype=torch.float64)
        scaled = logprobs + (-added).log1p()
        mixed = torch.logaddexp(scaled.gather(-1, tokens[:, None]), added.log().float())
        oracle = scaled.scatter(-1, tokens[:, None], mixed)
        assert torch.equal(perturbed.mixture(logprobs, tokens, eps), oracle)
        assert torch.equal(perturbed.mixture(logprobs, tokens, added.expand(3)), oracle)


class TestTokens:
    def test_the_least_likely_is_chosen_among_equals_by_the_number(self):
        logprobs = torch.tensor([[0.2, 0.7, 0.1], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]).log()
        numbers = torch.tensor([0.99, 0.49, 0.5], dtype=torch.float64)
        assert perturbed.least_likely(logprobs, numbers).tolist() == [2, 0, 2]

    def test_random_tokens_cover_the_vocabulary_evenly(self):
        numbers = torch.tensor([0.0, 0.24, 0.25, 0.5, 0.75, 0.999999])
        assert perturbed.random_tokens(numbers, 4).tolist() == [0, 0, 1, 2, 3, 3]

    @pytest.mark.parametrize("token", ["random", "adversarial"])
    @pytest.mark.parametrize("decoding", [0.0, 1.0])
    def test_the_model_accounts_an_l1_within_2_eps(self, teacher, prompts, token, decoding):
        defense = perturbed.Defense(perturbed.Settings(eps=0.25, token=token))
        answers = defense(replace(teacher, temperature=decoding)).generate(
            prompts, seed=0, interface=Interface()
        )
        assert all(0 < answer.l1 <= 0.5 + 1e-6 for answer in answers)
        if (
            token == "adversarial" and decoding == 0
        ):  # the token had no mass at all, so the bound is reached
            assert all(answer.l1 == pytest.approx(0.5) for answer in answers)

    def test_the_key_decides_and_eps_1_says_only_what_the_provider_picked(self, teacher, prompts):
        tokens = [
            [
                a.token_ids
                for a in perturbed.Defense(settings)(model).generate(
                    prompts, seed=0, interface=Interface()
                )
            ]
            for settings in (perturbed.Settings(eps=1, key="a"), perturbed.Settings(eps=1, key="b"))
            for model in (teacher, replace(teacher, temperature=0.0))
        ]
        assert tokens[0] == tokens[1] and tokens[2] == tokens[3] and tokens[0] != tokens[2]


class TestBudgets:
    @given(seeds, shares, st.floats(0, 2))
    def test_an_l1_budget_scales_eps_to_what_the_token_still_allows(self, seed, eps, l1):
        p = torch.tensor(distributions(seed))
        allowed = perturbed.within(eps, 1 - p[:, 0], torch.full((3,), l1, dtype=torch.float64))
        moved = perturbed.mixture(p.log(), torch.zeros(3, dtype=torch.long), allowed).exp()
        wanted = (2 * eps * (1 - p[:, 0])).clamp(max=l1)
        torch.testing.assert_close((moved - p).abs().sum(-1), wanted, rtol=0, atol=1e-9)

    def test_no_budget_and_a_large_one_are_the_same(self, teacher, prompts):
        runs = [
            perturbed.Defense(perturbed.Settings(eps=0.3, **more))(teacher).generate(
                prompts, seed=0, interface=Interface("full")
            )
            for more in ({}, {"l1": 2.0}, {"flips": 1e9}, {"l1": 0.6, "flips": 1e9})
        ]
        for others in runs[1:]:
            for a, b in zip(runs[0], others, strict=True):
                assert a.token_ids == b.token_ids and np.array_equal(
                    a.logprobs.values_TK, b.logprobs.values_TK
                )

    @pytest.mark.parametrize("decoding", [0.0, 1.0])
    @pytest.mark.parametrize("token", ["random", "adversarial"])
    def test_an_answer_spends_no_more_flips_than_it_has(self, teacher, prompts, decoding, token):
        settings = perturbed.Settings(eps=0.3, token=token, flips=0.8)
        model = replace(teacher, temperature=decoding)
        answers = perturbed.Defense(settings)(model).generate(
            prompts, seed=0, interface=Interface()
        )
        for answer in answers:
            steps = len(answer.token_ids) + answer.finished
            assert flips(answer) <= 0.8 + 1e-6
            if (
                token == "adversarial" and decoding == 0
            ):  # every token costs all of eps, until none is left
                assert flips(answer) == pytest.approx(min(0.8, 0.3 * steps), abs=1e-5)
        assert any(flips(answer) == pytest.approx(0.8, abs=1e-5) for answer in answers)

    def test_by_hand(self):
        """Greedy, eps 0.3, flips 0.8: tokens cost 0.3, 0.3, 0.2, 0; a second call at a step has as
        much and costs 0.
        """
        defense = perturbed.Defense(perturbed.Settings(eps=0.3, token="adversarial", flips=0.8))
        edit, memory = defense(LanguageModel(None, range(4))).edits[0], {}
        sure, flat = torch.tensor([[0.0, 1.0, 0.0, 0.0]]).log(), torch.full((1, 4), 0.25).log()
        for index, eps in enumerate((0.3, 0.3, 0.2, 0.0)):
            step = DecodingStep(torch.zeros(1, 1), torch.ones(1, 1), ["k"], index, None, memory)
            assert float(edit(step, sure)[0, 1].exp()) == pytest.approx(1 - eps)
            # A token of mass 1/4 goes 2 eps (3/4) away, so the same L1 budget allows a larger eps,
            # up to 0.3.
            released = min(0.3, (0.8 - 0.3 * min(index, 2) - 0.2 * (index > 2)) / 0.75)
            for _ in range(2):
                assert float(edit(step, flat).exp().amax()) == pytest.approx(0.25 + 0.75 * released)

    def test_what_is_released_spends_nothing(self, teacher, prompts):
        model = perturbed.Defense(perturbed.Settings(eps=0.5, flips=1.0))(teacher)
        runs = [
            model.generate(prompts, seed=0, interface=p)
            for p in (Interface(), Interface("top_k", 3), Interface("full"))
        ]
        assert len({tuple((a.token_ids, a.l1) for a in answers) for answers in runs}) == 1

    def test_edits_in_a_chain_have_budgets_of_their_own(self, teacher, prompts):
        none, some = (
            perturbed.Defense(perturbed.Settings(eps=0.5, flips=flips)) for flips in (0.0, 0.5)
        )
        for model in (some(none(teacher)), none(some(teacher))):
            answers = model.generate(prompts, seed=0, interface=Interface())
            assert max(map(flips, answers)) == pytest.approx(0.5, abs=1e-5)
