"""Counts of pairs, whichever width of numbers they are sorted in."""

import numpy as np
import pytest

from distill.campaigns import cells


@pytest.mark.parametrize(
    ("accounts", "values"),
    [(50, 128), (1 << 25, 128), ((1 << 25) + 1, 128), (40_000, 1 << 20), (1 << 31, 1 << 31)],
)
def test_pairs_are_counted_as_numpy_counts_them(accounts, values):
    """The second is the widest that is sorted in half the width."""
    rng = np.random.default_rng(0)
    account = np.append(rng.integers(accounts, size=500), [0, accounts - 1]).repeat(2)
    value = np.append(rng.integers(values, size=501), values - 1).repeat(2)
    pairs, counts = np.unique(np.stack([account, value]), axis=1, return_counts=True)
    for kind in (np.uint32, np.uint64):
        got = cells(account.astype(kind), value.astype(np.uint32), values)
        assert all(part.dtype == np.int64 for part in got)
        np.testing.assert_array_equal(got, [*pairs, counts])


def test_of_nothing_there_are_none():
    none = np.zeros(0, np.uint32)
    assert all(len(part) == 0 for part in cells(none, none, 128))
