"""Keyed noise by hand, and against the distribution that it should have."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from defenses.release.noise import add_noise, keyed_normals
from defenses.release.top_k import top_k
from tests.defenses.release.rows import ROW, distributions, released, seeds


def test_by_hand():
    # masses (1/2, 1/4, 1/8) with tail 1/8; times (1/2, 4, 1): (1/4, 1, 1/8, tail 1/8), total 3/2
    normals = np.log(np.array([[0.5, 4, 1, 1]]))
    noisy = add_noise(ROW, normals, 1.0)
    assert noisy.ids_TK.tolist() == [[2, 7, 5, -1]]
    np.testing.assert_allclose(np.exp(noisy.values_TK), [[2 / 3, 1 / 6, 1 / 12, 0]], rtol=1e-6)


@given(seeds, st.floats(0.01, 5), st.integers(1, 6))
def test_mass_is_never_above_1_and_a_whole_row_stays_whole(seed, sigma, k):
    clean = top_k(released(distributions(seed)), k)
    noisy = add_noise(clean, keyed_normals("k", str(seed), clean.ids_TK), sigma)
    mass = np.exp(noisy.values_TK.astype("f8")).sum(-1)
    assert (mass <= 1 + 1e-6).all() and (noisy.values_TK[:, :-1] >= noisy.values_TK[:, 1:]).all()
    if k == 6:
        np.testing.assert_allclose(mass, 1, atol=1e-5)


def test_sigma_0_is_the_input_itself():
    assert add_noise(ROW, np.ones((1, 4)), 0) is ROW


def test_depends_on_key_prompt_position_and_token_but_not_on_the_column():
    ids = np.array([[3, 1, -1], [3, 2, 1]], np.int32)
    normals = keyed_normals("k", "prompt", ids)
    np.testing.assert_array_equal(keyed_normals("k", "prompt", ids[:, ::-1]), normals[:, ::-1])
    np.testing.assert_array_equal(keyed_normals("k", "prompt", ids[:1, 1:2]), normals[:1, 1:2])
    assert normals[0, 0] != normals[1, 0] and normals[0, 1] != normals[1, 2]
    assert (keyed_normals("k2", "prompt", ids) != normals).all()
    assert (keyed_normals("k", "prompt2", ids) != normals).all()


def test_is_standard_normal_and_uncorrelated_over_ids_and_positions():
    normals = keyed_normals("k", "p", np.tile(np.arange(500), (100, 1)))
    assert stats.kstest(normals.ravel(), "norm").pvalue > 1e-3
    for shifted in (normals[:, 1:] * normals[:, :-1], normals[1:] * normals[:-1]):
        assert abs(shifted.mean()) < 4 / np.sqrt(shifted.size)
