"""Every way back by hand and against the defences that went there; with a judge that knows, and
with a real one.
"""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defenses.release import obfuscate, reformulate
from distill.answer_format import AnswerFormat
from distill.attackers.clean import reorder, split_answer
from distill.completions import Completion
from tests.distill.attackers.clean.traces import (
    CLEAN,
    OWN,
    PROVIDER,
    WORKED,
    completions,
    made,
    texts,
)

ADDITION = Completion("add", "347+586=", "760=13;481=13;351=09 # 933")
PROSE = [
    "16 - 3 - 4 = 9",
    "She makes 9 * 2 = $18 a day",
    "20/100 = 20% and (3+4)*2 = 14",
    "c = 3 and 1.5 + 2.5 = 4",
    "3+4=5+2=7",
    "a=3+14=17",
    "He has no numbers",
    "2 x 3 = 6",
]

HASH = AnswerFormat(steps=";", thinking="none")


@pytest.mark.parametrize(
    ("step", "back"),
    [
        ("a=7=3+4", "a=3+4=7"),
        ("13=760", "760=13"),
        ("c=3", "c=3"),
        ("8=9-1", "9-1=8"),
        ("7=3+4=5+2", "3+4=5+2=7"),
        ("so $18 = 9 * 2 a day", "so 9 * 2 = $18 a day"),
    ],
)
def test_turned_by_hand(step, back):
    assert reorder.turn(step) == back


def test_turned_undoes_reformulation_and_leaves_what_derives_first():
    steps = [step for one in CLEAN for step in split_answer(one.text, HASH)[0].split(";")]
    changed = [step for step in steps + PROSE if reformulate.hoist_result(step) != step]
    assert len(changed) == 2 * len(CLEAN) + len(PROSE) - 1
    assert [reorder.turn(reformulate.hoist_result(step)) for step in changed] == changed
    assert [reorder.turn(step) for step in steps + PROSE] == steps + PROSE


def test_mirrored_and_swapped_by_hand():
    assert reorder.mirror("7=3+4=a") == "a=3+4=7" and reorder.mirror("no equation") == "no equation"
    assert reorder.swap("a=4+3=7") == "a=3+4=7" and reorder.swap("2 * 9 + 1") == "9 * 2 + 1"
    assert reorder.swap("7-3=4") == "7-3=4" and reorder.swap("9 - 3 + 4") == "9 - 3 + 4"


@given(st.text("12+-*= a."))
def test_swapped_and_mirrored_are_what_the_defence_does_and_undo_themselves(step):
    swap, mirror = obfuscate.RULES["swap_operands"], obfuscate.RULES["swap_sides"]
    assert [reorder.swap(step)] == swap([step], "") and [reorder.mirror(step)] == mirror([step], "")
    assert reorder.mirror(reorder.mirror(step)) == step


@given(st.integers(1, 9), st.integers(1, 30))
def test_orders_are_permutations_without_repetition_and_as_many_as_asked_for(size, most):
    orders = reorder.orders(size, most)
    assert orders[0] == tuple(range(size)) and len(set(orders)) == len(orders) == min(
        most, math.factorial(size)
    )
    assert all(sorted(order) == list(range(size)) for order in orders)


@given(st.integers(1, 9), st.sampled_from(["reverse", "rotate", "interleave"]))
def test_however_many_steps_a_known_rule_is_undone_by_one_of_the_first_orders(size, rule):
    steps = [str(i) for i in range(size)]
    reordered = obfuscate.RULES[rule](steps, "")
    assert steps in [[reordered[i] for i in order] for order in reorder.orders(size, 4)]


@given(
    st.permutations(range(3)),
    st.sampled_from(["", "turn", "mirror", "swap", "mirror and swap"]),
    st.booleans(),
    st.sampled_from([ADDITION, *CLEAN]),
)
def test_the_true_form_is_among_the_candidates_whatever_was_done(order, change, merge, answer):
    reasoning, rest = split_answer(answer.text, HASH)
    steps = reasoning.split(";")
    if change == "turn":
        steps = [reformulate.hoist_result(step) for step in steps]
    if "swap" in change:
        steps = obfuscate.RULES["swap_operands"](steps, "")
    if "mirror" in change:
        steps = obfuscate.RULES["swap_sides"](steps, "")
    steps = [steps[i] for i in order]
    moved = ";".join(obfuscate.RULES["merge"](steps, "") if merge else steps) + rest
    forms = reorder.candidates(moved, HASH, 24)
    assert forms[0] == moved and answer.text in forms and len(forms) == len(set(forms))
    assert all(split_answer(form, HASH)[1] == rest for form in forms)


def test_one_order_is_the_order_it_has():
    assert reorder.candidates("a;b # 1", HASH, 1) == ["a;b # 1"]
    assert reorder.candidates("", HASH, 24) == [""]


@pytest.fixture
def knowing(monkeypatch):
    """A model of own solutions that knows the right form of every answer."""
    right = {one.prompt: one.text for one in CLEAN}
    monkeypatch.setattr(reorder, "train_own_model", lambda *args: None)
    monkeypatch.setattr(
        reorder,
        "surprisal",
        lambda model, held: [0.1 if one.text == right[one.prompt] else 1.0 for one in held],
    )


INVERTIBLE = [
    "reverse",
    "rotate",
    "interleave",
    "shuffle",
    "repeat",
    "merge",
    "swap_sides",
    "swap_operands",
]


SEQUENCES = [
    *((rule,) for rule in INVERTIBLE),
    *itertools.combinations(INVERTIBLE[:5], 2),
    ("reverse", "swap_sides", "merge"),
    ("swap_operands", "shuffle", "swap_sides"),
]


@pytest.mark.parametrize("rules", SEQUENCES)
def test_it_undoes_rules_that_lose_nothing(knowing, rules):
    defense = obfuscate.Defense(obfuscate.Settings(rules=rules), PROVIDER)
    edited = [defense.edit(one) for one in CLEAN]
    assert texts(edited) != texts(CLEAN)
    cleaned = made(reorder).clean(edited, OWN, seed=0)
    assert texts(cleaned) == texts(CLEAN) and all(one.token_ids == () for one in cleaned)


@pytest.mark.parametrize(
    "rules", [("drop_second",), ("drop_third",), ("drop_left",), ("drop_result",)]
)
def test_what_was_dropped_is_not_made_up(knowing, rules):
    defense = obfuscate.Defense(obfuscate.Settings(rules=rules), PROVIDER)
    edited = [defense.edit(one) for one in CLEAN]
    assert made(reorder).clean(edited, OWN, seed=0) == edited


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_it_undoes_reformulation_of_some_steps_or_all(knowing, share):
    defense = reformulate.Defense(reformulate.Settings(share=share), PROVIDER)
    edited = [defense.edit(one) for one in CLEAN]
    assert texts(edited) != texts(CLEAN)
    assert texts(made(reorder).clean(edited, OWN, seed=0)) == texts(CLEAN)


def test_rules_that_the_first_answers_do_not_show_are_not_tried_on_the_others(knowing):
    turn = reformulate.Defense(reformulate.Settings(), PROVIDER)
    edited = [turn.edit(one) for one in CLEAN]
    assert texts(made(reorder, probe=1).clean(edited, OWN, seed=0)) == texts(CLEAN)
    late = [*CLEAN[:2], *edited[2:]]
    assert made(reorder, probe=2).clean(late, OWN, seed=0) == late


def test_an_answer_may_be_as_it_was_sold_whatever_the_first_answers_show(knowing):
    defense = obfuscate.Defense(obfuscate.Settings(rules=("swap_sides",)), PROVIDER)
    cleaned = made(reorder, probe=1).clean([defense.edit(CLEAN[0]), *CLEAN[1:]], OWN, seed=0)
    assert texts(cleaned) == texts(CLEAN) and cleaned[1:] == CLEAN[1:]


def test_right_answers_gain_nothing(knowing):
    assert made(reorder).clean(CLEAN, OWN, seed=0) == CLEAN


def test_a_gain_below_the_margin_changes_nothing():
    forms = completions("as sold", "another")
    attacker = made(reorder, margin=0.1)
    assert (
        attacker._likeliest(forms, [1.0, 0.95]) is forms[0]
        and attacker._likeliest(forms, [1.0, 0.85]) is forms[1]
    )
    assert (
        attacker._likeliest(forms, [math.inf, 5.0]) is forms[1]
        and attacker._likeliest(forms, [math.inf] * 2) is forms[0]
    )
    assert made(reorder, margin=0)._likeliest(forms, [1.0, 1.0]) is forms[0]


def test_a_model_of_worked_solutions_alone_restores_most_and_leaves_undefended_answers():
    defense = obfuscate.Defense(obfuscate.Settings(rules=("reverse", "swap_sides")), PROVIDER)
    edited = [defense.edit(one) for one in CLEAN]
    cleaned = made(reorder, effort=0.6).clean([*edited, *CLEAN], OWN, seed=0)
    assert not {one.prompt for one in CLEAN} & {one.prompt for one in WORKED}
    restored = sum(a.text == b.text for a, b in zip(cleaned[:12], CLEAN, strict=True))
    left = sum(a is b for a, b in zip(cleaned[12:], CLEAN, strict=True))
    assert restored >= 9 and left >= 11
