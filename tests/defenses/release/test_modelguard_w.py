"""ModelGuard-W against an LP solver (HiGHS), by hand, and what must hold for any distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from defenses.release._distributions import atom_probabilities
from defenses.release.modelguard_w import FLOOR, MARGIN, Defense, Settings, poison
from distill.completions import Completion, Logprobs

seeds, budgets = (
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1e-3, 0.05, 0.2, 0.5, 1.0, 1.5, 2.0]),
)
sizes, shapes = st.sampled_from([2, 3, 5, 20, 60]), st.sampled_from([0.01, 0.1, 1.0, 100.0])


def distribution(seed: int, size: int, shape: float) -> np.ndarray:
    """A Dirichlet draw, now and then with zeros or with ties (as rounding makes
    them), in no order.
    """
    rng = np.random.default_rng(seed)
    y = rng.dirichlet(np.full(size, shape))
    if seed % 3 == 1:
        y[rng.random(size) < 0.3] = 0
    if seed % 3 == 2:
        y = np.round(y, 1)
    return np.full(size, 1 / size) if y.sum() == 0 else y / y.sum()


def objective(y: np.ndarray, released: np.ndarray) -> float:
    return float(np.log(y + FLOOR) @ released)


def solved(y: np.ndarray, eps: float) -> float:
    """The least objective, by HiGHS, over (up, down) >= 0 with y' = y + up - down."""
    n, top = len(y), int(y.argmax())
    others = [j for j in range(n) if j != top]
    gap = min(MARGIN, y[top] - y[others].max())
    change = np.hstack([np.eye(n), -np.eye(n)])
    ahead = change[others] - change[top]
    tightest = np.vstack([np.ones(2 * n), ahead, -change])
    limits = np.concatenate([[eps], y[top] - y[others] - gap, y])
    costs = np.log(y + FLOOR)
    solution = linprog(
        np.concatenate([costs, -costs]),
        tightest,
        limits,
        change.sum(0)[None],
        [0.0],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    assert solution.success, solution.message
    return float(solution.fun + costs @ y)


class TestPoisoned:
    @pytest.mark.parametrize(
        ("y", "eps", "expected"),
        [
            ([0.6, 0.3, 0.1], 0.2, [0.5, 0.3, 0.2]),  # the dearest gives 0.1, the cheapest takes it
            (
                [0.6, 0.3, 0.1],
                0.6,
                [0.4001, 0.1999, 0.4],
            ),  # 0.3 may move, but the top has to stay ahead of 0.1 + 0.3
            (
                [0.5, 0.0, 0.5],
                0.2,
                [0.45, 0.1, 0.45],
            ),  # a tie has no margin to keep: both are pressed down together
            ([0.1, 0.9], 2.0, [0.49995, 0.50005]),  # all may move, but for the margin
            ([1.0], 1.0, [1.0]),
        ],
    )
    def test_by_hand(self, y, eps, expected):
        np.testing.assert_allclose(poison(np.array(y), eps), expected, atol=1e-12)

    def test_a_large_budget_raises_the_top_if_that_lets_the_cheapest_have_more(self):
        # With budget for all: the top and the cheapest share everything, at the margin.
        np.testing.assert_allclose(
            poison(np.array([0.34, 0.33, 0.32, 0.01]), 2), [0.50005, 0, 0, 0.49995], atol=1e-12
        )

    @settings(max_examples=200, deadline=None)
    @given(seeds, sizes, shapes, budgets)
    def test_objective_equals_the_lp(self, seed, size, shape, eps):
        y = distribution(seed, size, shape)
        assert objective(y, poison(y, eps)) == pytest.approx(solved(y, eps), abs=1e-6)

    @pytest.mark.parametrize("eps", [0.5, 1.0])
    def test_objective_equals_the_lp_where_all_below_the_cap_is_filled_and_all_above_pressed_down(
        self, eps
    ):
        for seed in range(1, 61, 3):  # likely tokens about as likely as each other, and zeros
            y = distribution(seed, 5, 100.0)
            assert objective(y, poison(y, eps)) == pytest.approx(solved(y, eps), abs=1e-8)

    @given(seeds, sizes, shapes, budgets)
    def test_is_a_distribution_within_the_budget_that_keeps_the_top_ahead(
        self, seed, size, shape, eps
    ):
        y = distribution(seed, size, shape)
        out, top = poison(y, eps), int(y.argmax())
        assert out.min() >= 0 and out.sum() == pytest.approx(1, abs=1e-11)
        assert np.abs(out - y).sum() <= eps + 1e-11
        second = np.delete(y, top).max()
        assert out[top] - np.delete(out, top).max() >= min(MARGIN, y[top] - second) - 1e-12

    @given(seeds, sizes, shapes)
    def test_more_budget_is_never_better_for_the_student_and_helps_the_provider_less_and_less(
        self, seed, size, shape
    ):
        y = distribution(seed, size, shape)
        values = np.array([objective(y, poison(y, eps)) for eps in np.linspace(0, 2, 9)])
        assert (np.diff(values) <= 1e-9).all() and (
            np.diff(values, 2) >= -1e-9
        ).all()  # convex, not increasing

    @given(seeds, sizes, shapes, budgets)
    def test_follows_a_permutation_of_the_tokens(self, seed, size, shape, eps):
        y = distribution(seed, size, shape)
        order = np.random.default_rng(seed).permutation(size)
        assert objective(y[order], poison(y[order], eps)) == pytest.approx(
            objective(y, poison(y, eps)), abs=1e-9
        )

    @given(seeds, sizes, budgets)
    def test_rows_at_once_equal_the_rows_one_by_one(self, seed, size, eps):
        rng = np.random.default_rng(seed)
        y_TA = np.stack(
            [distribution(seed + t, size, rng.choice([0.01, 0.1, 1.0, 100.0])) for t in range(6)]
        )
        there_TA = rng.random(y_TA.shape) < 0.8
        out_TA = poison(y_TA, eps, there=there_TA)
        for y_A, there_A, out_A in zip(y_TA, there_TA, out_TA, strict=True):
            np.testing.assert_array_equal(out_A, poison(y_A, eps, there=there_A))
            np.testing.assert_array_equal(out_A[~there_A], y_A[~there_A])
            if there_A.any():  # what is absent is as if the row were shorter
                y, out = y_A[there_A], out_A[there_A]
                assert objective(y, out) == pytest.approx(objective(y, poison(y, eps)), abs=1e-9)

    def test_no_budget_is_the_input_itself(self):
        y = np.array([0.7, 0.3])
        assert poison(y, 0) is y


class TestDefense:
    def test_the_tail_is_an_atom_unless_it_is_heavier_than_the_top(self):
        rows = np.array([[0.6, 0.3], [0.3, 0.2]])  # tails 0.1 and 0.5
        logprobs = Logprobs(np.array([[4, 9], [4, 9]], np.int32), np.log(rows))
        out, _ = atom_probabilities(
            Defense(Settings(eps=0.2)).logprobs(logprobs, Completion("a", "?", ""))
        )
        np.testing.assert_allclose(out[0], [0.5, 0.3, 0.2], atol=1e-12)
        np.testing.assert_allclose(out[1], [*poison(np.array([0.3, 0.2]), 0.2), 0.5], atol=1e-12)
        assert out[1, 0] - out[1, 1] == pytest.approx(MARGIN)

    def test_withheld_entries_stay_withheld_and_types_stay(self):
        logprobs = Logprobs(
            np.array([[4, 9, -1]], np.int32),
            np.array([[np.log(0.6), np.log(0.4), -np.inf]], np.float32),
        )
        out = Defense(Settings(eps=0.1)).logprobs(logprobs, Completion("a", "?", ""))
        assert out.ids_TK.tolist() == [[4, 9, -1]] and out.ids_TK.dtype == np.int32
        assert out.values_TK.dtype == np.float32
        np.testing.assert_allclose(np.exp(out.values_TK), [[0.55, 0.45, 0]], atol=1e-6)
