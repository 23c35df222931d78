"""Entries of a config: a component by its file's name with settings, what exists, and every error
in one line.
"""

from __future__ import annotations

import ast
import difflib
import functools
import json
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distill.completions import BadInput
from experiments.private import check, revealed, veiled
from experiments.settings.components import FIXED, file_of
from experiments.settings.reading import read

Range = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)]
"""From low to high."""


LARGEST = 1e12  # beyond it no setting means anything
TOLD = 5  # faults in one line
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A name or a path: one line."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Component(Strict):
    """A component by its file's path below its package, with that file's own settings."""

    name: str
    settings: dict[str, Any] = {}


def config_folder() -> Path:
    """The shipped configs: beside the packages in a checkout, inside `experiments` in an installed
    wheel.
    """
    inside = Path(__file__).parents[1] / "_configs"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "configs"


def names(group: str) -> list[str]:
    """What exists in a group of configs, by name."""
    root = config_folder() / group
    return sorted(
        path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml")
    )


def near(word: str, there: Iterable[str]) -> str:
    """`; did you mean 'x'?` if some name is close to the word, else nothing."""
    found = difflib.get_close_matches(word, list(there), 1, 0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def known(group: str, name: str) -> str:
    """The name if it exists, else BadInput with the nearest and all that exist."""
    there = names(group)
    if name in there:
        return name
    raise BadInput(f"{group}: no {name!r}{near(name, there)} (there are: {', '.join(there)})")


def call(text: str) -> tuple[str, dict[str, Any]]:
    """Take `name(key=value, ...)` apart; a bare word is a string, the rest are Python or YAML
    literals.
    """
    name, bracket, _ = text.partition("(")
    if not bracket:
        return text.strip(), {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on what Python thinks of `1or` or of "\d"
            tree = ast.parse(f"f{text.strip()[len(name.lstrip()) :]}", mode="eval").body
        assert isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args
        keys = [word.arg for word in tree.keywords]
        assert all(keys) and len({*keys}) == len(keys)
        return name.strip(), {str(word.arg): _literal(word.value) for word in tree.keywords}
    except (SyntaxError, ValueError, TypeError, AssertionError, RecursionError, MemoryError):
        raise BadInput(
            f"{text[:80]!r}: an entry is a name, or name(key=value, ...) with each key once"
        ) from None


def _literal(node: ast.expr) -> Any:
    words = {"true": True, "false": False, "null": None}
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(one) for one in node.elts]
    return words.get(node.id, node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)


@functools.cache
def component(group: str, entry: str) -> tuple[Component, Any]:
    """A component's checked settings and the instance that they make, from `name` or
    `name(key=value, ...)`.
    """
    name, changes = call(entry)
    return built(group, name, changes, entry)


def built(group: str, name: str, changes: dict[str, Any], entry: str) -> tuple[Component, Any]:
    """The same, taken apart already."""
    full, settings = resolved(group, name, changes, entry)
    if group == "task":  # it reads its files at once
        check(full.settings)
    return full, getattr(file_of(group, full.name), FIXED[group])(settings)


def resolved(group: str, name: str, changes: dict[str, Any], entry: str) -> tuple[Component, Any]:
    """A component, and its checked settings."""
    chosen = written(group, name)
    told = chosen.settings | changes
    settings = checked(
        file_of(group, chosen.name).Settings, revealed(told), f"{group} {entry}: settings"
    )
    return chosen.model_copy(
        update={"settings": veiled(settings.model_dump(mode="json"), told)}
    ), settings


@functools.cache
def written(group: str, name: str) -> Component:
    """A component as its YAML file has it."""
    path = config_folder() / group / f"{known(group, name)}.yaml"
    chosen: Component = checked(Component, read(path), path.name)
    return chosen


def split(text: str, mark: str) -> list[str]:
    """A text at the marks outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if letter == quote or (letter in "'\"" and depth and not quote):
            quote = "" if quote else letter
        depth += 0 if quote else (letter in "([") - (letter in ")]")
        if letter == mark and not depth:
            parts.append("")
        else:
            parts[-1] += letter
        if depth < 0:
            break
    if depth or quote:
        raise BadInput(f"{_short(text)}: a bracket or a quote is not closed, or closed twice")
    return [part.strip() for part in parts]


def checked(model: Any, raw: Any, where: str) -> Any:
    """Values as a model has them, or BadInput with every fault in one line.

    Kinds are exact, as JSON has them: a truth value or a text is no number, half a number no whole
    one.
    """
    _plain(raw, where)
    try:
        return model.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        lines = list(dict.fromkeys(_line(model, where, one) for one in error.errors()))
        more = [f"and {len(lines) - TOLD} more"] if len(lines) > TOLD else []
        raise BadInput("; ".join([*lines[:TOLD], *more])) from None


def _plain(value: Any, where: str, place: tuple[str, ...] = ()) -> None:
    """BadInput where something is no JSON, or a number that no setting can mean."""
    if isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and not isinstance(key, str):
                raise BadInput(
                    f"{where}: {'.'.join(place) or 'settings'}: a key is a text (got {_short(key)})"
                )
            _plain(inner, where, (*place, str(key)))
    elif isinstance(value, str) and not re.search("[\ud800-\udfff]", value):
        return
    elif value is not None and not (isinstance(value, int | float) and abs(value) <= LARGEST):
        raise BadInput(
            f"{where}: {'.'.join(place) or 'settings'}: must be text, true, false, null, or a "
            "number of at "
            f"most {LARGEST:g} (got {_short(value)})"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _line(model: Any, where: str, error: Any) -> str:
    place = ".".join(map(str, error["loc"])) or "settings"
    if error["type"] == "missing":
        return f"{where}: {place}: is missing"
    if error["type"] != "extra_forbidden":
        got = "" if isinstance(error["input"], dict) else f" (got {_short(error['input'])})"
        said = " ".join(error["msg"].removeprefix("Value error, ").split())
        return f"{where}: {place}: {said}{got}"
    fields = list(_model_at(model, error["loc"][:-1]).model_fields)
    fields += ["match_utility"] * where.startswith("defense ")
    return (
        f"{where}: unknown key {place!r}{near(str(error['loc'][-1]), fields)} (known: "
        f"{', '.join(fields)})"
    )


def _model_at(model: Any, loc: tuple[Any, ...]) -> Any:
    """The pydantic model that an error's location points into; a union's member is told by its
    `kind`.
    """
    choices = [model]
    for part in loc:
        members = [one for one in choices if hasattr(one, "model_fields")]
        tagged = [
            m
            for m in members
            if part in get_args(getattr(m.model_fields.get("kind"), "annotation", None))
        ]
        fields = [m.model_fields[part].annotation for m in members if part in m.model_fields]
        choices = tagged or (_leaves(fields[0]) if fields else choices)
    return next(one for one in choices if hasattr(one, "model_fields"))


def _leaves(kind: Any) -> list[Any]:
    return [leaf for inner in get_args(kind) for leaf in _leaves(inner)] or [kind]
