"""Reverse sigmoid by hand, and what its form says of every distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defenses.release import _distributions, modelguard_w, noise, reverse_sigmoid
from defenses.release._distributions import (
    RESOLUTION,
    argsort_ascending,
    argsort_descending,
    atom_probabilities,
    replace_probabilities,
)
from defenses.release.reverse_sigmoid import Defense, Settings, add_reverse_sigmoid, sigmoid_offset
from distill.completions import Completion, Logprobs

seeds, strengths, slopes = st.integers(0, 2**32 - 1), st.floats(0.01, 20), st.floats(0.01, 2)


def distributions(seed: int, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(size, 0.3), 3)


def everywhere(y: np.ndarray, c: float, gamma: float) -> np.ndarray:
    return add_reverse_sigmoid(y, np.ones_like(y, bool), c, gamma)


class TestTaken:
    def test_by_hand(self):
        # gamma 1 undoes the logit: r = beta (y - 1/2); gamma 2 gives y^2 / (y^2 + (1 - y)^2), 9/10
        # at 3/4.
        np.testing.assert_allclose(
            sigmoid_offset(np.array([0.0, 0.25, 0.5, 1.0]), 0.8, 1),
            [-0.4, -0.2, 0, 0.4],
            atol=1e-15,
        )
        assert sigmoid_offset(np.array(0.75), 1.0, 2.0) == pytest.approx(0.4)

    @given(st.floats(0, 1), st.floats(0, 3), slopes)
    def test_is_odd_about_a_half_and_within_half_of_beta(self, y, beta, gamma):
        assert abs(sigmoid_offset(np.array(y), beta, gamma)) <= beta / 2
        assert sigmoid_offset(np.array(1 - y), beta, gamma) == pytest.approx(
            -sigmoid_offset(np.array(1 - (1 - y)), beta, gamma), abs=1e-12
        )
        assert sigmoid_offset(np.array(0.5), beta, gamma) == 0

    def test_takes_most_from_the_likeliest_which_released_code_does_not(self):
        likely = sigmoid_offset(np.array([0.6, 0.9, 0.999]), 1.0, 0.2)
        assert (likely > 0).all() and (np.diff(likely) > 0).all()


class TestReversedSigmoid:
    @given(st.floats(0.001, 0.999), st.floats(0.01, 2), slopes)
    def test_two_atoms_have_a_closed_form(self, y, c, gamma):
        # What one gives the other takes, so that alpha = 1: y~ = y - beta (y^g / (..) - 1/2).
        odds = (y / (1 - y)) ** gamma
        expected = y - min(c / 2, 1, 1 / gamma) * (odds / (1 + odds) - 0.5)
        out = everywhere(np.array([[y, 1 - y]]), c, gamma)
        np.testing.assert_allclose(out, [[expected, 1 - expected]], atol=1e-12)

    @given(seeds, st.floats(0.5, 1 - 1e-9), st.floats(0.01, 100), slopes)
    def test_a_token_above_a_half_keeps_its_place_whatever_the_strength(self, seed, top, c, gamma):
        rest = np.random.default_rng(seed).dirichlet(np.full(4, 0.3)) * (1 - top)
        out = everywhere(np.array([[top, *rest]]), c, gamma)[0]
        assert out[0] >= out[1:].max() - 1e-12 and out.min() > 0

    @pytest.mark.parametrize("c", [2.1, 7.8, 16.7, 20.0])
    @pytest.mark.parametrize("top", [0.9999, 0.99999, 1 - 1e-9])
    @pytest.mark.parametrize("size", [2, 5, 10])
    def test_what_is_nearly_certain_is_released_as_likeliest(self, c, top, size):
        row = np.array([[top, *[(1 - top) / (size - 1)] * (size - 1)]])
        out = everywhere(row, c, 0.2)[0]
        assert out[0] > out[1:].max()

    def test_what_is_certain_is_released_so(self):
        sure = Logprobs(np.array([[7]], np.int32), np.zeros((1, 1), np.float32))
        released = Defense(Settings()).edit(Completion("a", "?", "", logprobs=sure)).logprobs
        assert released.ids_TK.tolist() == [[7]] and released.values_TK.tolist() == [[0.0]]

    @given(seeds, strengths, slopes)
    def test_is_a_distribution_that_follows_a_permutation(self, seed, c, gamma):
        y = distributions(seed)
        out, order = everywhere(y, c, gamma), np.random.default_rng(seed).permutation(6)
        assert (out >= 0).all() and np.allclose(out.sum(-1), 1, atol=1e-12)
        np.testing.assert_allclose(everywhere(y[:, order], c, gamma), out[:, order], atol=1e-12)

    def test_equals_a_loop_in_which_beta_is_1_at_most(self):
        y = distributions(0)
        for c in (2.1, 30.0):
            rows = []
            for row in y:
                bare = [p - min(c / 6, 1) * (p**0.2 / (p**0.2 + (1 - p) ** 0.2) - 0.5) for p in row]
                rows.append([b / sum(bare) for b in bare])
            np.testing.assert_allclose(everywhere(y, c, 0.2), rows, atol=1e-12)
        # r = 1/2 (81/82 - 1/2)
        np.testing.assert_allclose(
            everywhere(np.array([[0.9, 0.1]]), 8.0, 2.0), [[0.9 - 20 / 82, 0.1 + 20 / 82]]
        )

    @given(seeds)
    def test_a_flat_sigmoid_is_no_defence(self, seed):
        y = distributions(seed)
        np.testing.assert_allclose(everywhere(y, 2.1, 1e-9), y, atol=1e-7)

    def test_the_same_c_moves_vocabularies_of_all_sizes_about_as_far(self):
        rng, far, unscaled = np.random.default_rng(0), [], []
        for size in (200, 2000, 20_000, 128_000):
            scores = rng.normal(0, 5, (8, size))
            y = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
            far.append(np.abs(everywhere(y, 2.1, 0.2) - y).sum(-1).mean())
            unscaled.append(
                np.abs(everywhere(y, 0.0105 * size, 0.2) - y).sum(-1).mean()
            )  # beta as at 200
        assert 0.85 < min(far) < max(far) < 1.05
        assert unscaled[0] == pytest.approx(far[0]) and unscaled[-1] > 1.9


class TestOrder:
    @given(seeds, st.sampled_from([np.float32, np.float64]))
    def test_is_that_of_a_stable_sort_for_rows_that_rise_and_rows_that_hardly_do(self, seed, dtype):
        rng = np.random.default_rng(seed)
        values = (
            rng.normal(0, 10, (3, 200)).round(int(rng.integers(0, 9))).astype(dtype)
        )  # with and without ties
        values[:, rng.integers(0, 200, 9)] = -np.inf
        for rows in (values, -np.sort(-values, -1)):
            assert np.array_equal(argsort_descending(rows), np.argsort(-rows, -1, kind="stable"))

    @given(seeds, st.sampled_from([9, 2**16 + 9, 2**32]))
    def test_of_keys_is_that_of_unsigned_numbers(self, seed, end):
        keys = np.random.default_rng(seed).integers(0, end, (3, 50), np.uint32)
        assert np.array_equal(argsort_ascending(keys), np.argsort(keys, -1, kind="stable"))

    @pytest.mark.parametrize("kind", [noise, modelguard_w, reverse_sigmoid])
    def test_how_many_rows_are_worked_on_together_makes_no_difference(self, monkeypatch, kind):
        values = np.log(-np.sort(-distributions(1, 20))).astype(np.float32)
        answer = Completion(
            "a", "?", "", logprobs=Logprobs(np.tile(np.arange(20, dtype=np.int32), (3, 1)), values)
        )
        together = kind.Defense(kind.Settings()).edit(answer).logprobs
        for most in (1, 40):
            monkeypatch.setattr(_distributions, "AT_ONCE", most)
            apart = kind.Defense(kind.Settings()).edit(answer).logprobs
            assert np.array_equal(apart.ids_TK, together.ids_TK)
            assert np.array_equal(apart.values_TK, together.values_TK)


class TestAtoms:
    def test_tails_and_withheld_entries_by_hand(self):
        logprobs = Logprobs(
            np.array([[3, 1, -1], [1, 2, 3]]),
            np.log(np.array([[0.5, 0.25, 0], [0.5, 0.3, 0.2]]) + 1e-300),
        )
        logprobs.values_TK[0, 2] = -np.inf
        p, there = atom_probabilities(logprobs)
        np.testing.assert_allclose(p, [[0.5, 0.25, 0, 0.25], [0.5, 0.3, 0.2, 0]], atol=1e-12)
        assert there.tolist() == [[True, True, False, True], [True, True, True, False]]

    def test_a_tail_that_is_known_is_taken_and_given_back(self):
        logprobs = Logprobs(
            np.array([[3, 1]]), np.log(np.array([[0.75, 0.25]])), np.log(np.array([RESOLUTION * 2]))
        )
        p, there = atom_probabilities(logprobs)
        assert there.all() and p[0, 2] == pytest.approx(RESOLUTION * 2)
        out = replace_probabilities(logprobs, np.array([[0.2, 0.3, 0.5]]))
        assert out.ids_TK.tolist() == [[1, 3]] and np.exp(out.tail_T) == pytest.approx([0.5])

    @given(seeds)
    def test_released_undoes_atoms_to_the_bit(self, seed):
        values = np.log(-np.sort(-distributions(seed))).astype(np.float32)
        logprobs = Logprobs(np.arange(18, dtype=np.int32).reshape(3, 6), values)
        assert np.array_equal(
            replace_probabilities(logprobs, atom_probabilities(logprobs)[0]).values_TK, values
        )

    def test_beta_counts_the_atoms_that_there_are_and_no_others_gain(self):
        logprobs = Logprobs(
            np.array([[3, 1, -1]], np.int32),
            np.array([[np.log(0.9), np.log(0.1), -np.inf]], np.float32),
        )
        out = Defense(Settings()).logprobs(logprobs, Completion("a", "?", ""))
        assert out.ids_TK.tolist() == [[3, 1, -1]]
        expected = everywhere(np.array([[0.9, 0.1]]), 2.1, 0.2)[0]
        np.testing.assert_allclose(np.exp(out.values_TK[0]), [*expected, 0], atol=1e-6)

    def test_the_tail_gains_as_any_unlikely_atom_does(self):
        logprobs = Logprobs(
            np.array([[3, 1]], np.int32), np.log(np.array([[0.9, 0.09]], np.float32))
        )
        p, _ = atom_probabilities(
            Defense(Settings(c=0.3)).logprobs(logprobs, Completion("a", "?", ""))
        )
        np.testing.assert_allclose(
            p[0], everywhere(np.array([[0.9, 0.09, 0.01]]), 0.3, 0.2)[0], atol=1e-6
        )
        assert p[0, 2] > 0.01 and p.sum() == pytest.approx(1)
