"""Answer-only by hand."""

from __future__ import annotations

import pytest

from defenses.release.answer_only import Defense, Settings
from distill.completions import Completion
from tests.defenses.release.rows import ROW
from tests.defenses.release.texts import edited


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1+2=3, 3+4=7 # 7", "# 7"),
        ("# 1 # 2", "# 2"),
        ("all reasoning", ""),
        ("", ""),
        ("x #", "#"),
    ],
)
def test_by_hand(text, answer):
    assert edited(Defense, Settings(), text) == answer


def test_releases_nothing_that_spells_the_reasoning():
    answer = Completion("a", "?", "because # 7", (1, 2, 3), logprobs=ROW)
    edited = Defense(Settings()).edit(answer)
    assert edited == Completion("a", "?", "# 7")
