"""The grid by hand, and what makes it a quantiser: one answer a bucket, within the budget, and
stable.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defenses.release.quantised import bucket
from distill.completions import Logprobs

seeds, budgets = st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.05, 0.2, 0.5, 1.0, 1.5, 1.9])
shapes, sizes = st.sampled_from([0.01, 0.1, 1.0, 100.0]), st.sampled_from([1, 2, 5, 20, 60])


def row(p: object, ids: object = None) -> Logprobs:
    values = np.log(np.asarray(p, np.float64)[None] + 1e-300).astype(np.float32)
    return Logprobs(
        np.arange(values.size, dtype=np.int32)[None] if ids is None else np.array([ids], np.int32),
        values,
    )


def sampled(seed: int, size: int, shape: float, tail: bool = False) -> Logprobs:
    """A Dirichlet row, whole or without its last tokens, over ids in a random order."""
    rng = np.random.default_rng(seed)
    p = -np.sort(-rng.dirichlet(np.full(size + 5 * tail, shape)))[:size]
    return row(p, rng.permutation(size + 5)[:size])


def probabilities(logprobs: Logprobs) -> dict[int, float]:
    return {
        int(i): float(np.exp(v))
        for i, v in zip(logprobs.ids_TK[0], logprobs.values_TK[0].astype("f8"), strict=True)
        if i >= 0
    }


def test_by_hand():
    # eps 1: powers of 1/2 until they make up 1/2. 0.3 -> 1/4, 0.28 -> 1/4, and that is enough.
    out = bucket(row([0.3, 0.28, 0.22, 0.2], [7, 2, 5, 1]), 1.0)
    assert out.ids_TK.tolist() == [[7, 2, -1, -1]] and np.exp(out.values_TK).tolist() == [
        [0.25, 0.25, 0, 0]
    ]
    # 0.9 -> 1/2, and so is a certain token, which would stand out otherwise.
    assert probabilities(bucket(row([0.9, 0.1]), 1.0)) == pytest.approx({0: 0.5})
    assert probabilities(bucket(row([1.0, 0.0]), 1.0)) == pytest.approx({0: 0.5})
    # Behind the likeliest token, equals are in the order of their ids: 0.3, 0.2, 0.15, 0.14 -> 1/4,
    # 1/8, 1/8, 1/8.
    out = bucket(row([0.3, 0.15, 0.14, 0.13, 0.12, 0.1, 0.06], [9, 8, 7, 6, 5, 4, 3]), 1.0)
    assert out.ids_TK.tolist() == [[9, 7, 8, -1, -1, -1, -1]]
    # eps 0.2: powers of 0.9 until they make up 0.9: 0.85 -> 0.9 ** 2, 0.1 -> 0.9 ** 22.
    assert probabilities(bucket(row([0.85, 0.1, 0.05]), 0.2)) == pytest.approx(
        {0: 0.81, 1: 0.9**22}, rel=1e-6
    )


@given(seeds, sizes, shapes, budgets, st.booleans())
def test_moves_named_tokens_and_the_rest_within_the_budget(seed, size, shape, eps, tail):
    clean = sampled(seed, size, shape, tail)
    before, after = probabilities(clean), probabilities(bucket(clean, eps))
    moved = sum(before[i] - q for i, q in after.items())
    assert all(
        0 < q <= before[i] * (1 + 1e-4) for i, q in after.items()
    )  # only down, so the rest gains what they lose
    assert 2 * moved <= eps + 1e-6


@given(seeds, sizes, shapes, budgets)
def test_whatever_the_withheld_mass_is_taken_for_the_whole_vocabulary_is_within_the_budget(
    seed, size, shape, eps
):
    clean = sampled(seed, size, shape)
    before, after = probabilities(clean), probabilities(bucket(clean, eps))
    assert sum(after.values()) >= 1 - eps / 2 - 1e-4
    guess = np.random.default_rng(seed).dirichlet(np.full(size + 5, 0.1)) * (
        1 - sum(after.values())
    )
    far = sum(abs(before.get(i, 0) - after.get(i, 0) - guess[i]) for i in range(size + 5))
    assert far <= eps + 1e-4


@given(seeds, sizes, shapes, budgets, st.booleans())
def test_releasing_again_changes_nothing_and_the_likeliest_stays_first(
    seed, size, shape, eps, tail
):
    clean = sampled(seed, size, shape, tail)
    once = bucket(clean, eps)
    again = bucket(once, eps)
    assert np.array_equal(again.ids_TK, once.ids_TK) and np.array_equal(
        again.values_TK, once.values_TK
    )
    assert once.ids_TK[0, 0] == clean.ids_TK[0, 0]
    assert (
        once.values_TK[:, :-1] >= once.values_TK[:, 1:]
    ).all() and once.values_TK.dtype == np.float32


@given(seeds, sizes, shapes, budgets)
def test_all_rows_of_a_bucket_are_released_as_one(seed, size, shape, eps):
    """Raise named tokens within their powers, take that from the others, and shuffle those: the
    same is released.
    """
    clean, rng = sampled(seed, size, shape), np.random.default_rng(seed)
    out = bucket(clean, eps)
    point, p = probabilities(out), probabilities(clean)
    named = [i for i in p if i in point]
    others = [i for i in p if i not in point]
    room = sum(p.values()) - sum(p[i] for i in named)
    lifted = {
        i: min(p[i] * (1 + rng.random() * 0.3 * room), point[i] / (1 - eps / 2) * 0.999)
        for i in named
    }
    lifted = {i: max(q, p[i]) for i, q in lifted.items()}
    left = 1 - sum(lifted.values())
    least = min(lifted.values())
    if left < 0 or (others and left / len(others) > least):
        return
    rows = sorted(lifted.items(), key=lambda one: -one[1])
    if rows[0][0] != clean.ids_TK[0, 0]:
        return
    rows += [(i, left / len(others)) for i in rng.permutation(others)] if others else []
    other = bucket(row([q for _, q in rows], [i for i, _ in rows]), eps)
    assert np.array_equal(other.ids_TK, out.ids_TK) and np.array_equal(
        other.values_TK, out.values_TK
    )


def test_rows_do_not_depend_on_each_other():
    first, second = sampled(1, 20, 0.1), sampled(2, 20, 1.0)
    ids, values = (
        np.concatenate([first.ids_TK, second.ids_TK]),
        np.concatenate([first.values_TK, second.values_TK]),
    )
    both = bucket(Logprobs(ids, values), 0.5)
    for i, alone in enumerate((first, second)):
        assert np.array_equal(both.ids_TK[i : i + 1], bucket(alone, 0.5).ids_TK)


def test_there_are_few_buckets_where_rows_are_many():
    rng = np.random.default_rng(0)
    p = -np.sort(-rng.dirichlet(np.full(20, 0.05), 5000))
    out = bucket(
        Logprobs(
            np.tile(np.arange(20, dtype=np.int32), (5000, 1)), np.log(p + 1e-300).astype("f4")
        ),
        1.0,
    )
    seen = {
        (ids.tobytes(), values.tobytes())
        for ids, values in zip(out.ids_TK, out.values_TK, strict=True)
    }
    assert len(seen) < 50
