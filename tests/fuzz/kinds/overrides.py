"""Overrides of a small study: any key with any value, and words that are none."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from experiments.settings import schema
from tests.fuzz import Kind, Outcome, command, corpus

SMALL = (
    "teacher.steps=4",
    "student.steps=2",
    "seeds=[0]",
    "measure.items=20",
    "measure.selection_items=10",
    "teacher.items=100",
    "budget=8",
    "task=addition",
    "defense=release/answer_only",
    "attacker=sft",
)
BAD = object()
"""What no setting can mean."""

VALUES: list[tuple[str, Any]] = [
    *((str(n), n) for n in (0, 1, -1, 2, 3, 7, 10, 64, 1000, 10**6, 10**9, 10**12, 10**24)),
    *(
        (text, float(text))
        for text in ("0.5", "-0.5", "1.5", "1e-9", "3e-3", "1e300", "1e-300", "0.0", "-0.0", "2.0")
    ),
    ("true", True),
    ("false", False),
    ("null", None),
    ("tiny", "tiny"),
    ("'a b'", "a b"),
    ("''", ""),
    ("", ""),
    ("'1'", "1"),
    ("'true'", "true"),
    ("ünïcode", "ünïcode"),
    ("'\t'", "\t"),
    ("'a\nb'", "a\nb"),
    ("'\x1b[31m'", BAD),
    ("[]", []),
    ("[0]", [0]),
    ("[0,1]", [0, 1]),
    ("[true]", [True]),
    ("[false,1]", [False, 1]),
    ("[inf]", BAD),
    ("[0.5,2]", [0.5, 2]),
    ("[2,0.5]", [2, 0.5]),
    ("[null]", [None]),
    ("[[0]]", [[0]]),
    ("[a]", ["a"]),
    ("{}", {}),
    ("{a:1}", {"a": 1}),
    ("{a:{b:[1]}}", {"a": {"b": [1]}}),
    ("[" * 25 + "]" * 25, BAD),
    ("[" * 500 + "]" * 500, BAD),
    ("{a:" * 300 + "1" + "}" * 300, BAD),
    ("inf", BAD),
    ("-inf", BAD),
    ("nan", BAD),
    ("'inf'", "inf"),
    ("9" * 5000, BAD),
    ("x" * 20_000, BAD),
    ("${oc.env:HOME}", BAD),
    ("'${oc.env:HOME}'", BAD),
    ("${name}", BAD),
    ("${", BAD),
    ("$", "$"),
    ("0,1", BAD),
    ("range(3)", BAD),
    ("sort(range(1000000000))", BAD),
    ("choice(1,2)", BAD),
    ("shuffle([0,1])", BAD),
    ("int(3.7)", BAD),
    ("a=b", BAD),
    ("a(b", BAD),
    ("[0", BAD),
    ("0]", BAD),
    ("{", BAD),
    ("\\", "\\"),
    ("'", BAD),
    ("..", ".."),
    (".", "."),
    ("../x", "../x"),
    ("store", "store"),
    ("STORE", "STORE"),
    ("reproduced", "reproduced"),
    ("???", BAD),
    ("_x", "_x"),
    ("a/b", "a/b"),
    ("0x10", "0x10"),
    ("1_000", 1000),
    ("010", BAD),
    ("1:30", "1:30"),
    ("\udce9", BAD),
    ("٣", "٣"),
    ("!!python/object:os.system", BAD),
    ("off", "off"),
    ("online", "online"),
]
ENTRIES = [
    "task={}",
    "defense={}",
    "attacker={}",
    "budget={}",
    "task=addition(digits={})",
    "task=trace(statements={})",
    "defense=release/truncate(keep={})",
    "defense=decoding/perturbed(eps={})",
    "defense=release/top_k(k={})",
    "defense=release/truncate(keep=0.5,match_utility={})",
    "attacker=ask/repeats(k={}) + clean/vote + sft",
    "attacker=best_of(k={})",
    "attacker=ask/select(pool={}) + sft",
    "defense=[none,{}]",
    "attacker=[sft,{}]",
    "defense=[[release/truncate,{}]]",
    "budget=[8,{}]",
    "defense={}(keep=1)",
    "attacker=sft + {}",
]


class Case(NamedTuple):
    """Words of a command line; `expected` is what each path should have where they are accepted."""

    words: tuple[str, ...]
    expected: tuple[tuple[str, Any], ...]


@functools.cache
def _paths() -> list[str]:
    """Every setting of the small study and of the two other kinds of teacher, by its
    dotted path.
    """
    shape = schema.load("quickstart", list(SMALL)).model_dump(mode="json")
    return [
        *_leaves(shape, ""),
        *(f"teacher.{name}" for name in ("path", "temperature", "prompt", "top_p")),
    ]


def _leaves(value: Any, path: str) -> list[str]:
    inner = (
        [leaf for key, one in value.items() for leaf in _leaves(one, f"{path}.{key}")]
        if isinstance(value, dict)
        else []
    )
    return [path[1:], *inner] if path else inner


def _setting(path: str, sign: str, value: tuple[str, Any]) -> Case:
    return Case((f"{sign}{path}={value[0]}",), ((path, value[1]),))


def _both(first: Case, second: Case) -> Case:
    remaining = [one for one in first.expected if one[0] not in dict(second.expected)]
    return Case(first.words + second.words, (*remaining, *second.expected))


VALUE = st.sampled_from(VALUES)
SETTING = st.builds(
    _setting,
    st.deferred(lambda: st.sampled_from(_paths())),
    st.sampled_from(["", "", "", "+", "++"]),
    VALUE,
)
ENTRY = st.builds(
    lambda form, value: Case((form.format(value[0]),), ()), st.sampled_from(ENTRIES), VALUE
)
TYPED = st.builds(
    lambda path, text: Case((f"{path}={text}",), ()),
    st.deferred(lambda: st.sampled_from(_paths())),
    st.text(st.characters(exclude_characters="\x00"), max_size=30),
)
WORD = st.sampled_from(corpus("words")).map(lambda word: Case((word,), ()))
ONE = st.one_of(SETTING, SETTING, SETTING, ENTRY, ENTRY, WORD, TYPED)


def attempt(case: Case, folder: Path) -> Outcome:
    return command(
        "plan", "quickstart", "--runs", str(folder / "runs"), *_others(case), *case.words
    )


def _others(case: Case) -> list[str]:
    """Settings of the small study that a case leaves as they are; no key may be set twice."""
    keys = {word.partition("=")[0].lstrip("+") for word in case.words}
    return [word for word in SMALL if word.partition("=")[0] not in keys]


def fine(case: Case, folder: Path) -> str:
    """Whatever is accepted must be what was written, of the same kind."""
    study = schema.load("quickstart", [*SMALL, *case.words]).model_dump(mode="json")
    for path, value in case.expected:
        at: Any = study
        for part in path.split("."):
            at = at[part]
        if value is BAD or not alike(at, value):
            return f"silence: {case.words} accepted as {at!r}"
    return ""


def alike(at: Any, value: Any) -> bool:
    """Equal and of one kind; a whole number may be a real one, and what is set in a mapping may
    leave the rest.
    """
    if isinstance(at, list) and isinstance(value, list):
        return len(at) == len(value) and all(map(alike, at, value))
    if isinstance(at, dict) and isinstance(value, dict):
        return all(key in at and alike(at[key], one) for key, one in value.items())
    number = (
        isinstance(at, float) and isinstance(value, int | float) and not isinstance(value, bool)
    )
    return (
        at == value
        and (type(at) is type(value) or number)
        and not (number and not math.isfinite(at))
    )


KIND = Kind(st.one_of(ONE, ONE, st.builds(_both, ONE, ONE)), attempt, fine)
