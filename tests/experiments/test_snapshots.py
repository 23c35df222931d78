"""Nothing that a study asks for, and nothing that is reported of grades, changes without being
seen.
"""

import pytest

from tests.experiments import snapshots


@pytest.mark.parametrize("name", [*snapshots.PLANS, *snapshots.STUDIES])
def test_nothing_has_changed(name):
    """Where something has on purpose: `python -m tests.experiments.snapshots`, and read the
    difference.
    """
    assert not list(snapshots.apart(snapshots.now(name), snapshots.committed(name)))


@pytest.mark.parametrize(
    ("ours", "committed", "where"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, ".b is gone"),
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.1]}, "a[1]: 2.1 -> 2.0"),
        ({"a": [1]}, {"a": [1, 2]}, "a: [1, 2] -> [1]"),
        ({"a": True}, {"a": 1}, "a: 1 -> True"),
        ({"a": None}, {"a": 0.0}, "a: 0.0 -> None"),
    ],
)
def test_a_difference_is_named(ours, committed, where):
    assert list(snapshots.apart(ours, committed)) == [where]


def test_sums_of_another_machine_are_the_same():
    assert not list(snapshots.apart({"a": [0.1 + 0.2]}, {"a": [0.3]}))
