"""Studies in YAML with a slip in them, of a hand, of an editor, or of somebody who means harm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hypothesis import strategies as st

from experiments.settings import schema
from tests.fuzz import Kind, Outcome, command, corpus
from tests.fuzz.kinds.overrides import alike

BASE = """\
# @package _global_
defaults:
  - /teacher: quick
  - /provider: embedded
  - /own: answers
  - /student: quick
  - /measure: default
  - /search: "off"
  - /tracking: "off"
  - _self_
name: mine
question: How much?
seeds: [0]
baseline_seeds: 1
selection_seeds: [900]
teacher:
  steps: 4
  items: 100
student:
  steps: 2
measure:
  items: 20
  selection_items: 10
  looks: [6]
  plateau: false
blocks:
  - tasks: [addition]
    defenses: [none, release/answer_only]
    attackers: [sft]
    budgets: [8]
"""
BOMB = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}' if n else 'a'] * 9)}]\n" for n in range(9))
LINES = [
    *corpus("lines_of_yaml"),
    BOMB,
    "seeds: [" + "9" * 5000 + "]",
    "teacher: {clip: " + "9" * 400 + ".0}",
    "x: " + "[" * 2000 + "]" * 2000,
    "x: " + "{a: " * 500 + "1" + "}" * 500,
    "- " * 300 + "x",
]


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


CODES = (
    [_utf8] * 12
    + [lambda t, c=c: t.encode(c, "replace") for c in ("utf-16", "utf-32", "latin-1", "utf-8-sig")]
    + [
        lambda t: _utf8(t.replace("\n", "\r\n")),
        lambda t: _utf8(t) + b"\xff",
        lambda t: _utf8(t)[: len(t) // 2],
        lambda t: b"",
        lambda t: b"5\n",
        lambda t: b"\x00" * 100,
        lambda t: _utf8(t) + b"# " + b"x" * 300_000,
        lambda t: b"x: " + b"[" * 100_000,
    ]
)


class Case(NamedTuple):
    """The bytes of a study's file, and overrides beside it."""

    data: bytes
    words: tuple[str, ...]


def _slipped(place: float, line: str, cut: int, code: Any, words: list[str]) -> Case:
    """The base with `cut` lines replaced by another at some place (0 to 1), and that twice as
    likely at the end.
    """
    lines = BASE.split("\n")
    at = min(int(place * 1.5 * len(lines)), len(lines) - 1)
    return Case(code("\n".join([*lines[:at], line, *lines[at + cut :]])), tuple(words))


CASES = st.builds(
    _slipped,
    st.floats(0, 1),
    st.one_of(st.sampled_from(LINES), st.sampled_from(LINES), st.text(max_size=20)),
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from(CODES),
    st.lists(
        st.sampled_from(["student.steps=3", "budget=8", "studnet.steps=3", "teacher=tiny"]),
        max_size=2,
    ),
)


def attempt(case: Case, folder: Path) -> Outcome:
    path = folder / "mine.yaml"
    path.write_bytes(case.data)
    outcome = command("plan", str(path), "--runs", str(folder / "runs"), *case.words)
    silent = (
        outcome.code == 2
        and str(path) not in outcome.error
        and not case.words
        and "mine" not in outcome.error
    )
    return replace(outcome, fault=outcome.fault or f"silence: {outcome.error}" * silent)


def fine(case: Case, folder: Path) -> str:
    """Whatever is accepted must be what another reader of YAML finds in the file, of
    the same kind.
    """
    try:
        wanted = yaml.safe_load(case.data.decode("utf-8-sig"))
    except (yaml.YAMLError, ValueError) as error:
        return f"silence: accepted, and yaml says {' '.join(str(error).split())}"
    study = schema.load(str(folder / "mine.yaml"), list(case.words)).model_dump(mode="json")
    overridden = {word.partition("=")[0].partition(".")[0] for word in case.words} | {
        "defaults",
        "budget",
    }
    lost = [key for key in wanted if key not in overridden and key not in study]
    unlike = [
        key
        for key, value in wanted.items()
        if key in study and key not in overridden | {"blocks"} and not alike(study[key], value)
    ]
    return f"silence: {lost + unlike} of {case.data[:2000]!r}" if lost + unlike else ""


KIND = Kind(CASES, attempt, fine)
