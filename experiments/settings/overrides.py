"""Overrides on a command line: their form, and what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hydra._internal.grammar.functions import Functions
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from distill.completions import BadInput
from experiments.settings.entries import near

PLURAL = {"task": "tasks", "defense": "defenses", "attacker": "attackers", "budget": "budgets"}
SIMULATED = {
    "preset": "presets",
    "access": "access",
    "detector": "detectors",
}  # the same of campaigns
LONGEST, DEEPEST = 10_000, 20  # characters of an override, and brackets in brackets
ENVIRONMENT = re.compile(r"\$\{oc\.env:\w+(,[^${}]*)?\}")
# Hydra's own errors, and what it lets through where a value is of a kind that it does not expect.
WRONG = (
    HydraException,
    OmegaConfBaseException,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    RecursionError,
)


def check_word(word: str, environment: bool) -> None:
    """Refuse an override that is wrong whatever the study is.

    Args:
        word: `key=value`.
        environment: whether `${oc.env:NAME}` is replaced.

    Raises:
        BadInput: it has no such form, or is of what no override may change.
    """
    key, equals, value = word.partition("=")
    where = f"override {shortened(word)}"
    if not equals:
        raise BadInput(f"{where}: an override is key=value")
    if len(word) > LONGEST:
        raise BadInput(
            f"{where}: {len(word)} characters; {LONGEST} are the most, and a YAML file holds more"
        )
    if _depth(value) > DEEPEST:
        raise BadInput(f"{where}: brackets are more than {DEEPEST} deep")
    if re.search("[\ud800-\udfff]", word):
        raise BadInput(f"{where}: is not UTF-8")
    if "${" in (ENVIRONMENT.sub("", word) if environment else word):
        raise BadInput(
            f"{where}: ${{...}} is not replaced; with --env ${{oc.env:NAME}} is an environment "
            "variable"
        )
    if key.startswith("~"):
        raise BadInput(f"{where}: a setting cannot be taken away; write what it should be, or null")
    if "hydra" in re.split(r"\W+", key):
        raise BadInput(f"{where}: hydra's own settings are no part of a study")
    if key in PLURAL | SIMULATED:
        return  # entries have a grammar of their own
    if not key.isascii():
        raise BadInput(
            f"{where}: unknown key {shortened(key)}; keys have no other letters than a-z"
        )
    try:
        parsed = OverridesParser(Functions()).parse_override(word)
    except WRONG:
        raise BadInput(
            f"{where}: {shortened(value)} is no plain value; a text with other signs than letters, "
            "digits "
            f"and -_./ is quoted twice: \"{key}='...'\""
        ) from None
    if parsed.is_sweep_override():
        raise BadInput(f"{where}: one value a key; a list is in brackets: '{key}=[{value[:40]}]'")


def check_once(overrides: Sequence[str]) -> None:
    """Refuse a command line that sets a key twice, whatever sign is before it.

    Args:
        overrides: words of a command line, as `key=value`.

    Raises:
        BadInput: one is.
    """
    seen = dict[str, str]()
    for word in overrides:
        key = word.partition("=")[0].lstrip("+")
        if key in seen:
            raise BadInput(
                f"override {shortened(word)}: {key} is set already, by {shortened(seen[key])}"
            )
        seen[key] = word


def _depth(text: str) -> int:
    depth = deepest = 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        deepest = max(deepest, depth)
    return deepest


def unknown_key(word: str, composed: dict[str, Any]) -> str | None:
    """What is wrong with an override's key, if it is none of a study's.

    Args:
        word: an override, as `key=value`.
        composed: the study without it.
    """
    path = word.lstrip("+~").partition("=")[0]
    at: Any = composed
    for part in path.split("."):
        if not isinstance(at, dict) or part not in at:
            keys = (
                [*at, *({**PLURAL, **SIMULATED} if at is composed else ())]
                if isinstance(at, dict)
                else []
            )
            hint = near(part, keys, "study" if at is composed else "")
            return f"override {word!r}: unknown key {path!r}{hint} (known: {', '.join(keys)})"
        at = at[part]
    return None


def reason(error: Exception) -> str:
    """An error of Hydra's in one line.

    Args:
        error: of Hydra or OmegaConf.
    """
    if isinstance(error, RecursionError):
        return "its defaults lead back to itself"
    return " ".join(str(error).split()) or type(error).__name__


def shortened(text: str) -> str:
    """A text in quotes, cut after 100 characters."""
    return repr(text if len(text) <= 100 else f"{text[:100]}...")
