"""Rounding by hand, and what it keeps."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from defenses.release.rounding import round_logprobs
from tests.defenses.release.rows import ROW, distributions, released, seeds


def test_by_hand():
    # ln 1/2 = -0.693, ln 1/4 = -1.386, ln 1/8 = -2.079
    assert (
        round_logprobs(ROW, 1).values_TK.tolist()
        == np.array([[-0.7, -1.4, -2.1, -np.inf]], "f4").tolist()
    )
    assert round_logprobs(ROW, 0).values_TK.tolist() == [[-1, -1, -2, -np.inf]]


@given(seeds, st.integers(0, 3))
def test_is_idempotent_keeps_order_and_moves_by_half_a_unit(seed, decimals):
    clean = released(distributions(seed))
    once = round_logprobs(clean, decimals)
    np.testing.assert_array_equal(round_logprobs(once, decimals).values_TK, once.values_TK)
    assert (once.values_TK[:, :-1] >= once.values_TK[:, 1:]).all()
    there = np.isfinite(clean.values_TK)
    moved = np.abs(once.values_TK[there] - clean.values_TK[there])
    assert moved.max() <= 0.5 * 10.0**-decimals + 1e-5
    assert np.array_equal(there, np.isfinite(once.values_TK))
