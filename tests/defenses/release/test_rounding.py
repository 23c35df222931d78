"""Rounding by hand, and what it keeps."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from defenses.release.rounding import Defense, Settings, round_logprobs, round_probabilities
from distill.completions import Completion, Logprobs
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


def test_probabilities_by_hand():
    rounded = round_probabilities(ROW, 1)  # 1/2, 1/4 and 1/8 to 0.5, 0.2 and 0.1
    np.testing.assert_allclose(np.exp(rounded.values_TK), [[0.5, 0.2, 0.1, 0]], atol=1e-6)
    assert (rounded.ids_TK[:, :3] == ROW.ids_TK[:, :3]).all() and rounded.ids_TK[0, 3] == -1
    assert round_probabilities(ROW, 0).ids_TK.tolist() == [[-1, -1, -1, -1]]  # half to even
    assert not Defense(Settings(of="probabilities")).traits.keeps_argmax
    assert Defense(Settings()).traits.keeps_argmax


def test_probabilities_are_moved_far_more_than_nats():
    """Peaked rows of 2,000 tokens at two decimals: L1 .064 and .0015 in the audit."""
    scores = np.random.default_rng(0).normal(0, 4, (20, 2000))
    y = -np.sort(-np.exp(scores) / np.exp(scores).sum(-1, keepdims=True), -1)
    ids = np.tile(np.arange(2000, dtype=np.int32), (20, 1))
    clean = Logprobs(ids, np.log(y).astype(np.float32))
    nats, probabilities = (
        np.abs(np.exp(Defense(Settings(decimals=2, of=of)).logprobs(clean, ANSWER).values_TK) - y)
        .sum(-1)
        .mean()
        for of in ("nats", "probabilities")
    )
    assert nats < 0.005 < 10 * nats < probabilities


ANSWER = Completion("a", "?", "")
