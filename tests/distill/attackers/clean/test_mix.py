"""The share of own data by characters, and copies that can be told apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.attackers.clean import mix
from distill.completions import BadInput, Completion
from tests.distill.attackers.clean.traces import CLEAN, OWN, WORKED, completions, made


def size(answers):
    return sum(len(one.text) for one in answers)


def test_by_hand():
    # 12 characters were sold; three quarters own are 36: 4 of 10, 10, 10, 10, as 30 are too few.
    resources = replace(OWN, worked=[Completion("w", "?", "0123456789")])
    cleaned = made(mix, share=0.75).clean(completions("abcdef", "ghijkl"), resources, seed=0)
    assert [one.prompt_id for one in cleaned] == ["a", "a~1", "w+0", "w+1", "w+2", "w+3"]
    exact = made(mix, share=0.5).clean(completions("0123456789"), resources, seed=0)
    assert [one.prompt_id for one in exact] == ["a", "w+0"]


@given(st.floats(0.01, 0.95), st.integers(1, 12), st.integers(1, 9), st.integers(0, 3))
def test_the_share_is_met_within_one_answer_and_what_was_sold_stays_first(share, sold, owned, seed):
    resources = replace(OWN, worked=WORKED[:owned])
    cleaned = made(mix, share=share).clean(CLEAN[:sold], resources, seed=seed)
    added, target = cleaned[sold:], share / (1 - share) * size(CLEAN[:sold])
    assert cleaned[:sold] == CLEAN[:sold]
    assert size(added[:-1]) < target <= size(added) + 1e-9
    assert len({one.prompt_id for one in cleaned}) == len(cleaned)
    # In rounds: none is repeated before all were used.
    used = [sum(one.text == other.text for other in added) for one in resources.worked]
    assert max(used) - min(used) <= 1


def test_none_is_the_identity_and_needs_nothing_to_mix_with():
    assert made(mix, share=0).clean(CLEAN, replace(OWN, worked=[]), seed=0) == CLEAN


@pytest.mark.parametrize("worked", [[], [replace(CLEAN[0], text="")]])
def test_nothing_to_mix_with_is_one_line(worked):
    with pytest.raises(BadInput, match="owns no worked solutions"):
        made(mix).clean(CLEAN, replace(OWN, worked=worked), seed=0)


def test_which_come_first_is_the_seeds_and_another_round_has_another_order():
    first, again, other = (
        [one.prompt_id for one in mix.fill(WORKED[:20], 900, seed)] for seed in (0, 0, 1)
    )
    assert first == again != other
    rounds = [
        [one.partition("+")[0] for one in first if one.endswith(f"+{turn}")] for turn in (0, 1)
    ]
    assert len(rounds[0]) == 20 and rounds[0][: len(rounds[1])] != rounds[1]
