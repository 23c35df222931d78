"""Top-k by hand, and its diameter against the worst pair of distributions that can be found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defenses.release.top_k import diameter, top_k
from distill.completions import BadInput
from tests.defenses.release.rows import ROW, distributions, released, seeds


def test_by_hand():
    top = top_k(ROW, 2)
    assert top.ids_TK.tolist() == [[7, 2]] and np.exp(top.values_TK).tolist() == [[0.5, 0.25]]
    assert np.array_equal(top_k(ROW, 9).values_TK, ROW.values_TK)


@given(seeds, st.integers(1, 6))
def test_is_off_by_the_tail(seed, k):
    p = distributions(seed)
    top = np.exp(top_k(released(p), k).values_TK)
    padded = np.pad(top, ((0, 0), (0, 6 - k)))
    np.testing.assert_allclose(np.abs(p - padded).sum(-1), 1 - p[:, :k].sum(-1), atol=1e-6)


class TestDiameter:
    def test_by_hand(self):
        # Seen weights 2 + 1, two unseen of at most 1/2: they hold 1 of 4 at most.
        assert diameter(np.log(0.5), np.log(3), V=4, K=2) == pytest.approx(0.25)
        assert diameter(np.log(0.5), np.log(3), V=2, K=2) == 0
        assert diameter(0.0, -1e4, V=9, K=2) == 1 and diameter(-1e4, 0.0, V=9, K=2) == 0
        for K in (0, 5):
            with pytest.raises(BadInput, match=f"K={K} of V=4"):
                diameter(0.0, 0.0, V=4, K=K)

    @given(seeds, st.integers(1, 4), st.integers(1, 3))
    def test_no_pair_of_compatible_distributions_is_further_apart_and_a_corner_is_as_far(
        self, seed, K, unseen
    ):
        """Total variation is convex in each of the two, so that the worst pair is among corners,
        seen from each other.

        Compatible distributions are {(Z-scaled seen, u)} with 0 <= u_j <= e^tau; they are convex
        combinations of those whose unseen weights are each 0 or e^tau.
        """
        rng = np.random.default_rng(seed)
        scores, tau = rng.normal(0, 2, K), rng.normal(0, 2)
        corners = np.array(np.meshgrid(*[[0.0, np.exp(tau)]] * unseen)).reshape(unseen, -1).T
        inner = rng.random((50, unseen)) * np.exp(tau)
        weights = np.concatenate(
            [np.tile(np.exp(scores), (len(corners) + 50, 1)), np.concatenate([corners, inner])], 1
        )
        p = weights / weights.sum(-1, keepdims=True)
        far = np.abs(p[:, None] - p[None]).sum(-1) / 2
        bound = diameter(tau, np.logaddexp.reduce(scores), V=K + unseen, K=K)
        assert far.max() == pytest.approx(bound, abs=1e-12)

    @given(seeds, st.floats(-9, 9))
    def test_is_the_same_for_scores_that_are_known_up_to_a_constant(self, seed, constant):
        scores = np.random.default_rng(seed).normal(0, 2, 4)
        seen = np.logaddexp.reduce(scores[1:])
        moved = diameter(scores[0] + constant, seen + constant, V=100, K=3)
        assert moved == pytest.approx(diameter(scores[0], seen, V=100, K=3), rel=1e-9)

    @given(seeds, st.integers(2, 6), st.floats(0.01, 1))
    def test_where_the_tail_is_known_two_completions_are_closer(self, seed, unseen, share):
        rng, cap = np.random.default_rng(seed), 0.1
        mass = share * unseen * cap

        def completion() -> np.ndarray:
            """Unseen tokens in a random order, each filled to the cap until the tail is spent: the
            corners.
            """
            filled = np.clip(mass - cap * np.arange(unseen), 0, cap)
            return filled[rng.permutation(unseen)]

        far = max(np.abs(completion() - completion()).sum() / 2 for _ in range(50))
        assert far <= min(mass, unseen * cap - mass) + 1e-12

    def test_that_bound_is_reached_where_the_tail_fills_whole_tokens(self):
        # Two of four unseen tokens hold 0.1 each in one completion, the other two in the other.
        first, other = np.array([0.1, 0.1, 0, 0]), np.array([0, 0, 0.1, 0.1])
        assert np.abs(first - other).sum() / 2 == pytest.approx(min(0.2, 4 * 0.1 - 0.2))
