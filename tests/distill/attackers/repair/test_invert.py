"""Closed-form inversions against the defences themselves, and what they do where there was none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defenses.release import reverse_sigmoid, top_k
from distill.attackers import NOTHING
from distill.attackers.repair import atoms, dense, invert, sparse
from distill.completions import BadInput, Completion, Logprobs


def l1(a, b):
    return np.abs(a - b).sum(-1)


def peaked(count, size, seed=0):
    """Rows as a language model has them: a few likely tokens, the rest next to impossible."""
    p = np.exp(4 * np.random.default_rng(seed).normal(size=(count, size)))
    return p / p.sum(-1, keepdims=True)


def cleaned(rows, **changes):
    part = invert.Attacker(invert.Settings(**changes))
    return part.clean([Completion("a", "?", "", logprobs=rows)], NOTHING, seed=0)[0].logprobs


class TestSmoothing:
    def test_one_share_for_all_rows_is_found_and_taken_back(self):
        y = peaked(50, 100)
        smooth = 0.75 * y + 0.25 / 100
        assert l1(smooth, y).mean() > 0.4
        back = dense(cleaned(sparse(smooth, 100), form="smoothing"), 100)
        assert l1(back, y).mean() <= 5e-5 and invert.invert_smoothing(smooth)[1] == pytest.approx(
            0.25, abs=1e-5
        )

    def test_by_hand(self):
        # 4 * 0.05 = 0.2 is the share: (0.45 - 0.05) / 0.8, (0.25 - 0.05) / 0.8, and so on
        back, share = invert.invert_smoothing(
            np.array([[0.45, 0.25, 0.25, 0.05], [0.25, 0.25, 0.25, 0.25]])
        )
        assert share == pytest.approx(0.2) and back[0] == pytest.approx([0.5, 0.25, 0.25, 0])
        assert back[1] == pytest.approx([0.25] * 4)

    def test_clean_rows_are_nearly_as_they_were(self):
        y = peaked(50, 100)
        assert l1(dense(cleaned(sparse(y, 100), form="smoothing"), 100), y).max() <= 1e-4
        uniform = np.full((3, 8), 1 / 8)
        assert (invert.invert_smoothing(uniform)[0] == uniform).all()

    def test_rows_that_do_not_name_all_tokens_are_refused(self):
        with pytest.raises(BadInput, match="every row must name all tokens"):
            cleaned(
                Logprobs(np.array([[1, -1]], np.int32), np.array([[-0.1, -np.inf]], "f4")),
                form="smoothing",
            )
        assert invert.Attacker(invert.Settings(form="smoothing")).needs_interface == "full"
        assert invert.Attacker(invert.Settings()).needs_interface == "top_k"


class TestReverseSigmoid:
    @pytest.mark.parametrize(("c", "before", "after"), [(0.2, 0.04, 0.007), (2.1, 0.35, 0.25)])
    def test_ten_classes(self, c, before, after):
        y = np.random.default_rng(0).dirichlet(np.full(10, 0.3), 200)
        given_ = reverse_sigmoid.add_reverse_sigmoid(y, np.ones(y.shape, bool), c, 0.2)
        assert l1(given_, y).mean() > before
        assert l1(invert.invert_reverse_sigmoid(given_, c / 10, 0.2), y).mean() < after

    @pytest.mark.parametrize(("k", "c", "left"), [(5, 2.1, 0.8), (20, 2.1, 0.4), (20, 0.5, 0.3)])
    def test_the_shipped_defence_on_rows_of_a_language_model(self, k, c, left):
        clean = top_k.top_k(sparse(peaked(200, 100), 100), k)
        defense = reverse_sigmoid.Defense(reverse_sigmoid.Settings(c=c))
        sold = defense.edit(Completion("a", "?", "", logprobs=clean)).logprobs
        back = cleaned(sold, form="reverse_sigmoid", c=c)
        before, after = (l1(dense(one, 100), dense(clean, 100)).mean() for one in (sold, back))
        assert before > 0.1 and after < left * before

    @given(st.integers(0, 2**16), st.floats(0.05, 1.5))
    @settings(max_examples=10, deadline=None)
    def test_rows_with_nothing_ambiguous_are_solved(self, seed, c):
        y = np.random.default_rng(seed).dirichlet(np.full(6, 30), 5)  # all near 1 / 6
        sold = reverse_sigmoid.add_reverse_sigmoid(y, np.ones(y.shape, bool), c, 0.2)
        assert l1(invert.invert_reverse_sigmoid(sold, c / 6, 0.2), y).max() < 1e-5

    @pytest.mark.parametrize("c", [2.1, 6.0])
    @pytest.mark.parametrize("spread", [0.1, 0.3, 1.0])
    def test_what_is_read_was_released_so_whatever_is_ambiguous(self, c, spread):
        """With one reading for all entries of a row, 5 to 80 of 100 rows stayed."""
        y = np.random.default_rng(1).dirichlet(np.full(6, spread), 60)
        there = np.ones(y.shape, bool)
        sold = reverse_sigmoid.add_reverse_sigmoid(y, there, c, 0.2)
        back = invert.invert_reverse_sigmoid(sold, min(c / 6, 1), 0.2)
        again = reverse_sigmoid.add_reverse_sigmoid(back, there, c, 0.2)
        assert (np.abs(again - sold).max(-1) < 1e-4).mean() > 0.9
        if spread < 1:  # flat rows are released as several others are
            assert l1(back, y).mean() < l1(sold, y).mean()

    def test_rows_that_it_cannot_have_released_stay(self):
        clean = sparse(peaked(100, 30), 30)
        back = cleaned(clean, form="reverse_sigmoid")
        assert (back.ids_TK == clean.ids_TK).all()
        np.testing.assert_allclose(back.values_TK, clean.values_TK, rtol=1e-5)


class TestTruncation:
    def test_what_is_missing_is_the_tail(self):
        clean = peaked(50, 100)
        rows = sparse(clean, 5)
        restored = cleaned(rows)
        left = 1 - np.sort(clean, -1)[:, -5:].sum(-1)
        np.testing.assert_allclose(
            np.exp(restored.tail_T), np.where(left > 1e-6, left, 0), atol=1e-6
        )
        np.testing.assert_allclose(restored.values_TK, rows.values_TK, atol=1e-6)

    def test_mass_that_rounding_made_more_than_1_is_1(self):
        restored = cleaned(
            Logprobs(np.array([[3, 1]], np.int32), np.log(np.array([[0.8, 0.4]], "f4")))
        )
        assert np.exp(restored.values_TK[0]) == pytest.approx([2 / 3, 1 / 3])
        assert restored.tail_T[0] == -np.inf


def test_atoms_are_the_first_entries_and_all_else():
    rows = sparse(np.array([[0.5, 0.2, 0.2, 0.1]]), 3)
    assert atoms(rows, 2)[0] == pytest.approx([0.5, 0.2, 0.3]) and atoms(rows)[0] == pytest.approx(
        [0.5, 0.2, 0.2, 0.1]
    )
