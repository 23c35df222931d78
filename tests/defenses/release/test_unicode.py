"""Unicode edits: the attacker's one normalisation undoes them exactly."""

from __future__ import annotations

import unicodedata

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from defenses.release.unicode import (
    INVISIBLE,
    TWINS,
    Defense,
    Settings,
    insert_invisible,
    replace_by_twin,
)
from distill.answer_format import AnswerFormat
from tests.defenses.release.texts import STEPS, edited, final_answer

ADDITION, TRACE = "760=13;481=13;351=09 # 933", "c=3;a=3+4=7;b=7-3=4 # 4"
PROSE = "She sells 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = $18 a day.\n#### 18"
ways = st.sampled_from(["insertion", "twin"])


def released(text: str, prompt: str = "?", form: AnswerFormat = STEPS, **settings: object) -> str:
    return edited(Defense, Settings(**settings), text, prompt, form)


def normalised(text: str) -> str:
    """The attacker's inverse: NFKC, and no format characters."""
    return "".join(
        c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf"
    )


def test_by_hand():
    assert replace_by_twin("3a=Z;é") == "\U0001d7f9\U0001d68a=\U0001d689;é"
    assert [insert_invisible("7", place) for place in (0.0, 0.5, 0.99)] == [
        "7\u200b",
        "7\u200d",
        "7\ufeff",
    ]
    assert released("c=3 # 4", rate=1.0, by="twin") == "\U0001d68c=\U0001d7f9 # 4"
    edited = released("c=3 # 4", rate=1.0)
    assert normalised(edited) == "c=3 # 4" and len(edited) == 3 * 2 + 4


def test_every_character_is_what_it_is_said_to_be():
    assert {unicodedata.category(c) for c in INVISIBLE} == {"Cf"} and len(TWINS) == 62
    for plain, twin in TWINS.items():
        assert unicodedata.normalize("NFKC", twin) == chr(
            plain
        ) and "MATHEMATICAL MONOSPACE" in unicodedata.name(twin)


@pytest.mark.parametrize("text", [ADDITION, TRACE, PROSE, ""])
@pytest.mark.parametrize("by", ["insertion", "twin"])
def test_one_normalisation_undoes_it_exactly(text, by):
    edited = released(text, rate=0.5, by=by)
    assert (edited != text) == bool(text) and normalised(edited) == text


@given(st.text(), st.floats(0, 1), ways, st.text("k", min_size=1, max_size=2))
def test_keeps_the_final_answer_says_the_same_again_and_is_undone(text, rate, by, key):
    edited = released(text, rate=rate, by=by, key=key)
    assert final_answer(edited) == final_answer(text) and edited == released(
        text, rate=rate, by=by, key=key
    )
    if (
        by == "twin" or text.isascii()
    ):  # an invisible character keeps a mark from joining its letter
        assert normalised(edited) == normalised(text)


def test_the_rate_is_the_share_of_edited_characters():
    text = "5" * 5000
    few, many = (released(text, rate=rate, by="twin") for rate in (0.1, 0.2))
    assert stats.binomtest(5000 - few.count("5"), 5000, 0.1).pvalue > 1e-3
    assert all(b != "5" for a, b in zip(few, many, strict=True) if a != "5")
    assert (
        released(text, rate=0.1, by="twin", key="other")
        != few
        != released(text, "other", rate=0.1, by="twin")
    )


def test_rate_0_is_the_model_itself(teacher):
    assert Defense(Settings(rate=0.0))(teacher) is teacher


def test_the_config_is_the_default():
    assert (
        Settings(**yaml.safe_load(open("configs/defense/release/unicode.yaml"))["settings"])
        == Settings()
    )
