"""Normalisation against Unicode's own tables, against the defence that it undoes, and on scripts
that it must leave.
"""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defenses.release import unicode as letters
from distill.attackers.clean import normalise as part
from distill.attackers.clean.normalise import TWINS, UNSEEN, normalise
from distill.completions import Completion
from tests.distill.attackers.clean.traces import CLEAN, OWN, made, texts

visible_ascii = st.text(st.characters(min_codepoint=33, max_codepoint=126))
# What may go wrong together: twins, marks that join letters, syllables that join, invisible
# characters, spaces.
tricky = st.text(
    [
        *map(chr, TWINS),
        *map(chr, sorted(UNSEEN)[:12]),
        *"ae \n\t\u0301\u0308\u0327\u200b\u2060\u00ad"
        "\u1100\u1161\u11a8\u00b4\uff21\U0001d7f9\u0915\u094d\u09c7\u09be\u0338",
    ]
)


@given(visible_ascii, visible_ascii)
def test_ascii_with_single_spaces_and_lines_stays(a, b):
    for text in (a, f"{a} {b}", f"{a}\n{b}\n"):
        assert normalise(text) == text


@given(st.text() | tricky)
def test_twice_is_once_and_the_result_is_in_compatibility_form(text):
    once = normalise(text)
    assert normalise(once) == once and unicodedata.is_normalized("NFKC", once)
    assert not any(
        unicodedata.category(letter) == "Cf" or ord(letter) in {*TWINS, *UNSEEN} for letter in once
    )
    assert "  " not in once


@given(st.text())
def test_compatibility_form_first_makes_no_difference_where_nothing_is_invisible(text):
    seen = "".join(filter(part.visible, text))
    assert normalise(unicodedata.normalize("NFKC", seen)) == normalise(seen)


def test_every_twin_looks_like_ascii_and_no_ascii_has_one():
    assert len(TWINS) == 61 and all(source > 127 > twin for source, twin in TWINS.items())
    # NFKC alone does not do it, or it would not need a table.
    assert all(unicodedata.normalize("NFKC", chr(source)) == chr(source) for source in TWINS)
    for source, twin in TWINS.items():
        name, plain = unicodedata.name(chr(source)), unicodedata.name(chr(twin))
        if "LETTER" in name and chr(twin).isalpha():
            assert ("CAPITAL" in name) == ("CAPITAL" in plain)
    # Cyrillic and Greek capitals that carry the name of the Latin letter that they look like.
    assert normalise("\u0410\u041c\u0422 \u0391\u039a\u0396") == "AMT AKZ"
    assert normalise("\u0441\u0430\u0440 5\u22123\u20141") == "cap 5-3-1"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\uff41\u00a0 b\u200bc\nd", "a bc\nd"),
        ("a\tb \u3000c\r\nd\x00", "a b c\nd"),  # a tab is a space; it must not join two words
        ("a \u200b b", "a b"),
        ("\u0430\u0301", "\u00e1"),  # a Cyrillic a with an accent
        ("3\ufe0f+\u034f4", "3+4"),  # variation selector, grapheme joiner
        (
            "\u1100\u200b\u1161",
            "\uac00",
        ),  # two halves of a Korean syllable, kept apart by nothing that is seen
        ("\U0001d7d9\u00b2\u2460", "121"),
    ],
)
def test_by_hand(text, plain):
    assert normalise(text) == plain


@pytest.mark.parametrize("text", ["हिन्दी", "ไทย ๔", "العَرَبِيَّة", "ёлка", "naïve", "ΑΛΦΑ"[1:2]])
def test_scripts_that_need_their_marks_keep_them(text):
    once = normalise(text)
    marks = [
        [c for c in unicodedata.normalize("NFD", one) if unicodedata.category(c) == "Mn"]
        for one in (once, text)
    ]
    assert marks[0] == marks[1]


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126)).filter(
        lambda text: "  " not in text
    ),
    st.floats(0, 1),
    st.sampled_from(["twin", "insertion"]),
    st.text("k", min_size=1, max_size=3),
)
def test_it_undoes_the_defence_of_characters_exactly(text, rate, by, key):
    defense = letters.Defense(letters.Settings(rate=rate, by=by, key=key))
    edited = defense.edit(Completion("x", "?", text, (1,)))
    assert texts(made(part).clean([edited], OWN, seed=0)) == [text]


@pytest.mark.parametrize("by", ["twin", "insertion"])
def test_defended_traces_come_back_and_their_tokens_are_forgotten(by):
    defense = letters.Defense(letters.Settings(rate=1.0, by=by))
    edited = [defense.edit(one) for one in CLEAN]
    assert all(a.text != b.text for a, b in zip(edited, CLEAN, strict=True))
    cleaned = made(part).clean(edited, OWN, seed=0)
    assert texts(cleaned) == texts(CLEAN) and all(
        one.token_ids == () and one.logprobs is None for one in cleaned
    )


def test_right_answers_gain_nothing():
    assert made(part).clean(CLEAN, OWN, seed=0) == CLEAN
