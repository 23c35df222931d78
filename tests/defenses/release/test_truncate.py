"""Truncation by hand, and what it keeps of any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defenses.release.truncate import truncate
from tests.defenses.release.texts import STEPS, final_answer

shares = st.floats(0, 1)


@pytest.mark.parametrize(
    ("keep", "shown"), [(0, "# 7"), (0.1, "0 # 7"), (0.5, "01234 # 7"), (0.96, "0123456789 # 7")]
)
def test_by_hand(keep, shown):
    assert truncate("0123456789 # 7", STEPS, keep) == shown


@pytest.mark.parametrize("text", ["1+2=3, 3+4=7 # 7", "# 1 # 2", "all reasoning", "", "x #"])
def test_keeping_nothing_is_answer_only(text):
    assert truncate(text, STEPS, 0) == final_answer(text)


@given(st.text("ab# \n"), shares)
def test_keeps_the_answer_and_a_start_of_the_text(text, keep):
    cut = truncate(text, STEPS, keep)
    assert final_answer(cut) == final_answer(text)
    assert len(cut) <= len(text) and truncate(text, STEPS, 1) == text


@given(st.text("ab ", max_size=20), shares, shares)
def test_shows_more_with_more_keep(text, a, b):
    low, high = (truncate(text, STEPS, keep) for keep in sorted((a, b)))
    assert high.startswith(low) and text.startswith(high)
