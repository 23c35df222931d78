"""Graders by name."""

from __future__ import annotations

import difflib
from types import ModuleType
from typing import Any, cast

from pydantic import ValidationError

from distill.completions import BadInput
from experiments.tasks.graders import (
    Grader,
    choice,
    code,
    exact,
    gsm8k,
    json,
    math,
    number,
    regex,
    tool_call,
)

GRADERS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (choice, code, exact, gsm8k, json, math, number, regex, tool_call)
}
"""Every grader's file by its name; imported here, so that its code is part of what made a grade."""


def build_grader(name: str, **settings: Any) -> Grader:
    """The grader of that name.

    Args:
        name: of its file.
        settings: its fields; what is not named has its default.

    Raises:
        BadInput: there is no such grader, or a setting is wrong.
    """
    if name not in GRADERS:
        near = difflib.get_close_matches(name, GRADERS, 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BadInput(f"grader: no {name!r}{hint} (there are: {', '.join(sorted(GRADERS))})")
    kind = GRADERS[name].Grader
    try:
        return cast(Grader, kind(**settings))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        settable = ", ".join(kind.model_fields) or "none"
        raise BadInput(f"grader {name}: {place}: {first['msg']} (settings: {settable})") from None


def summary(name: str) -> str:
    """The first sentence of a grader's file, on one line.

    Args:
        name: of a grader.
    """
    return " ".join((GRADERS[name].__doc__ or "").partition("\n\n")[0].split())
