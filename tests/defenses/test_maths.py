"""The defences' maths against numbers worked out by hand, and against what must hold for all inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from defenses.decoding import perturbed, temperature
from defenses.release.answer_only import Defense as AnswerOnly
from defenses.release.answer_only import Settings as AnswerOnlySettings
from defenses.release.answer_only import final_answer
from defenses.release.noise import keyed_normals, noised
from defenses.release.rounding import rounded
from defenses.release.top_k import top_k
from defenses.release.truncate import truncate
from distill.answers import Answer, Logprobs, Profile

ROW = Logprobs(np.array([[7, 2, 5, -1]], np.int32), np.log(np.array([[0.5, 0.25, 0.125, 0]]) + 1e-300).astype("f4"))
ROW.values_TK[0, 3] = -np.inf
seeds, shares = st.integers(0, 2**32 - 1), st.floats(0, 1)


def distributions(seed: int, rows: int = 3, size: int = 6) -> np.ndarray:
    """Dirichlet rows with a zero in each, sorted from the most likely on."""
    p = np.random.default_rng(seed).dirichlet(np.full(size, 0.3), rows)
    p[:, -1] = 0
    return -np.sort(-(p / p.sum(-1, keepdims=True)), -1)


def released(p_TK: np.ndarray) -> Logprobs:
    with np.errstate(divide="ignore"):
        return Logprobs(np.arange(p_TK.size, dtype=np.int32).reshape(p_TK.shape), np.log(p_TK).astype("f4"))


class TestMixture:
    def test_by_hand(self):
        # 0.8 * (1/2, 1/4, 1/4) + 0.2 * e_2 = (0.4, 0.2, 0.4), at L1 distance 0.1 + 0.05 + 0.15 = 2 * 0.2 * (1 - 1/4)
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
        torch.testing.assert_close((q - p).abs().sum(-1), 2 * eps * (1 - p[:, token]), rtol=0, atol=1e-12)

    def test_eps_0_is_the_input_itself_and_eps_1_the_token(self):
        logprobs = torch.tensor([[0.5, 0.5, 0.0]]).log()
        assert perturbed.mixture(logprobs, torch.tensor([1]), 0.0) is logprobs
        assert perturbed.mixture(logprobs, torch.tensor([2]), 1.0).exp().tolist() == [[0, 0, 1]]


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
        answers = defense(replace(teacher, temperature=decoding)).answer(prompts, seed=0, profile=Profile())
        assert all(0 < answer.l1 <= 0.5 + 1e-6 for answer in answers)
        if token == "adversarial" and decoding == 0:  # the token had no mass at all, so the bound is reached
            assert all(answer.l1 == pytest.approx(0.5) for answer in answers)

    def test_the_key_decides_and_eps_1_says_only_what_the_provider_picked(self, teacher, prompts):
        said = [
            [a.token_ids for a in perturbed.Defense(settings)(model).answer(prompts, seed=0, profile=Profile())]
            for settings in (perturbed.Settings(eps=1, key="a"), perturbed.Settings(eps=1, key="b"))
            for model in (teacher, replace(teacher, temperature=0.0))
        ]
        assert said[0] == said[1] and said[2] == said[3] and said[0] != said[2]


def test_temperature_sets_what_is_given_and_keeps_what_is_not(teacher):
    model = temperature.Defense(temperature.Settings(temperature=0.5))(replace(teacher, top_p=0.9))
    assert (model.temperature, model.top_p, teacher.temperature) == (0.5, 0.9, 1.0)
    model = temperature.Defense(temperature.Settings(temperature=0.0, top_p=0.8))(teacher)
    assert (model.temperature, model.top_p) == (0.0, 0.8)


class TestText:
    @pytest.mark.parametrize(
        ("text", "answer"),
        [("1+2=3, 3+4=7 # 7", "# 7"), ("# 1 # 2", "# 2"), ("all reasoning", ""), ("", ""), ("x #", "#")],
    )
    def test_answer_only_by_hand(self, text, answer):
        assert final_answer(text, "#") == answer
        assert truncate(text, "#", 0) == answer

    def test_answer_only_releases_nothing_that_spells_the_reasoning(self):
        answer = Answer("a", "?", "because # 7", (1, 2, 3), logprobs=ROW)
        kept = AnswerOnly(AnswerOnlySettings()).edit(answer)
        assert kept == Answer("a", "?", "# 7")

    @pytest.mark.parametrize(
        ("keep", "shown"), [(0, "# 7"), (0.1, "0 # 7"), (0.5, "01234 # 7"), (0.96, "0123456789 # 7")]
    )
    def test_truncation_by_hand(self, keep, shown):
        assert truncate("0123456789 # 7", "#", keep) == shown

    @given(st.text("ab# \n"), shares)
    def test_truncation_keeps_the_answer_and_a_start_of_the_text(self, text, keep):
        cut = truncate(text, "#", keep)
        assert final_answer(cut, "#") == final_answer(text, "#")
        assert len(cut) <= len(text) and truncate(text, "#", 1) == text

    @given(st.text("ab ", max_size=20), shares, shares)
    def test_truncation_shows_more_with_more_keep(self, text, a, b):
        low, high = (truncate(text, "#", keep) for keep in sorted((a, b)))
        assert high.startswith(low) and text.startswith(high)


class TestLogprobs:
    def test_top_k_by_hand(self):
        kept = top_k(ROW, 2)
        assert kept.ids_TK.tolist() == [[7, 2]] and np.exp(kept.values_TK).tolist() == [[0.5, 0.25]]
        assert np.array_equal(top_k(ROW, 9).values_TK, ROW.values_TK)

    @given(seeds, st.integers(1, 6))
    def test_top_k_is_off_by_the_tail(self, seed, k):
        p = distributions(seed)
        kept = np.exp(top_k(released(p), k).values_TK)
        padded = np.pad(kept, ((0, 0), (0, 6 - k)))
        np.testing.assert_allclose(np.abs(p - padded).sum(-1), 1 - p[:, :k].sum(-1), atol=1e-6)

    def test_rounding_by_hand(self):
        # ln 1/2 = -0.693, ln 1/4 = -1.386, ln 1/8 = -2.079
        assert rounded(ROW, 1).values_TK.tolist() == np.array([[-0.7, -1.4, -2.1, -np.inf]], "f4").tolist()
        assert rounded(ROW, 0).values_TK.tolist() == [[-1, -1, -2, -np.inf]]

    @given(seeds, st.integers(0, 3))
    def test_rounding_is_idempotent_keeps_order_and_moves_by_half_a_unit(self, seed, decimals):
        clean = released(distributions(seed))
        once = rounded(clean, decimals)
        np.testing.assert_array_equal(rounded(once, decimals).values_TK, once.values_TK)
        assert (once.values_TK[:, :-1] >= once.values_TK[:, 1:]).all()
        there = np.isfinite(clean.values_TK)
        moved = np.abs(once.values_TK[there] - clean.values_TK[there])
        assert moved.max() <= 0.5 * 10.0**-decimals + 1e-5
        assert np.array_equal(there, np.isfinite(once.values_TK))


class TestNoise:
    def test_by_hand(self):
        # masses (1/2, 1/4, 1/8) with tail 1/8; times (1/2, 4, 1): (1/4, 1, 1/8, tail 1/8), total 3/2
        normals = np.log(np.array([[0.5, 4, 1, 1]]))
        kept = noised(ROW, normals, 1.0)
        assert kept.ids_TK.tolist() == [[2, 7, 5, -1]]
        np.testing.assert_allclose(np.exp(kept.values_TK), [[2 / 3, 1 / 6, 1 / 12, 0]], rtol=1e-6)

    @given(seeds, st.floats(0.01, 5), st.integers(1, 6))
    def test_mass_is_never_above_1_and_a_whole_row_stays_whole(self, seed, sigma, k):
        clean = top_k(released(distributions(seed)), k)
        kept = noised(clean, keyed_normals("k", str(seed), clean.ids_TK), sigma)
        mass = np.exp(kept.values_TK.astype("f8")).sum(-1)
        assert (mass <= 1 + 1e-6).all() and (kept.values_TK[:, :-1] >= kept.values_TK[:, 1:]).all()
        if k == 6:
            np.testing.assert_allclose(mass, 1, atol=1e-5)

    def test_sigma_0_is_the_input_itself(self):
        assert noised(ROW, np.ones((1, 4)), 0) is ROW

    def test_depends_on_key_prompt_position_and_token_but_not_on_the_column(self):
        ids = np.array([[3, 1, -1], [3, 2, 1]], np.int32)
        normals = keyed_normals("k", "prompt", ids)
        np.testing.assert_array_equal(keyed_normals("k", "prompt", ids[:, ::-1]), normals[:, ::-1])
        np.testing.assert_array_equal(keyed_normals("k", "prompt", ids[:1, 1:2]), normals[:1, 1:2])
        assert normals[0, 0] != normals[1, 0] and normals[0, 1] != normals[1, 2]
        assert (keyed_normals("k2", "prompt", ids) != normals).all()
        assert (keyed_normals("k", "prompt2", ids) != normals).all()

    def test_is_standard_normal_and_uncorrelated_over_ids_and_positions(self):
        normals = keyed_normals("k", "p", np.tile(np.arange(500), (100, 1)))
        assert stats.kstest(normals.ravel(), "norm").pvalue > 1e-3
        for shifted in (normals[:, 1:] * normals[:, :-1], normals[1:] * normals[:-1]):
            assert abs(shifted.mean()) < 4 / np.sqrt(shifted.size)
