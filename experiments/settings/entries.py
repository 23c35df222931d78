"""What an entry of a config names: the one resolver of components, what exists, and every error in
one line.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distill.completions import BadInput
from experiments.private import check, revealed, veiled
from experiments.settings.catalog import PACKAGES, SYMBOLS, cached, config_file, names, plugins
from experiments.settings.components import Component, ComponentSpec, load_module
from experiments.settings.faults import words
from experiments.settings.grammar import Entry, parse_entry, short
from experiments.settings.reading import read
from experiments.settings.renamed import renamed
from experiments.tasks import Task
from experiments.tasks.graders import Grader

Range = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)]
"""From low to high."""


LARGEST = 1e12  # beyond it no setting means anything
TOLD = 5  # faults in one line
UNSAID = "tiny"  # the kind of a model whose settings may leave its kind out
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A name or a path: one line."""
StudyName = Annotated[str, Field(pattern=r"^[^\W_][\w.-]*$", max_length=100)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def near(word: str, there: Iterable[str], place: str = "") -> str:
    """`; it is 'x' now` of a name that was changed, `; did you mean 'x'?` if some name is close to
    the word, else nothing.

    Args:
        word: that was written.
        there: names that exist.
        place: where it was written, as `renamed.RENAMED` has it.
    """
    if now := renamed(place, word):
        return f"; {now}"
    matches = difflib.get_close_matches(word, list(there), 1, 0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def existing(group: str, name: str) -> str:
    """The name, if it exists.

    Args:
        group: of components.
        name: of one.

    Raises:
        BadInput: it does not; with the nearest and all that exist.
    """
    there = names(group)
    if name in there:
        return name
    every = ", ".join(there) + _more(group)
    raise BadInput(f"{group}: no {name!r}{near(name, there, group)} (there are: {every})")


def _more(group: str) -> str:
    """That a name may be a plugin's, where none is in use and the group can have some."""
    return "; a plugin's: --plugins FOLDER" if group in SYMBOLS and not plugins() else ""


@cached
def resolve(group: str, entry: str) -> Component:
    """The component that an entry of a config names, with checked settings.

    Args:
        group: `task`, `defense`, `attacker`, `detector` or `access`.
        entry: `name` or `name(key=value, ...)`; the config's own settings stand for the rest.

    Raises:
        BadInput: there is no such component, or a setting is wrong.
    """
    return resolve_parsed(group, parse_entry(entry), entry)


def resolve_parsed(group: str, parsed: Entry, entry: str) -> Component:
    """A component of an entry that was taken apart already, with checked settings.

    Args:
        group: of configs.
        parsed: its name and changes.
        entry: what errors call it.

    Raises:
        BadInput: there is no such component, or a setting is out of its range.
    """
    config = read_config(group, parsed.name)
    values = config.settings | parsed.changes
    settings = checked(
        load_module(group, config.name).Settings, revealed(values), f"{group} {entry}: settings"
    )
    plain = veiled(settings.model_dump(mode="json"), values)
    return Component(group, config.name, settings, ComponentSpec(name=config.name, settings=plain))


@cached
def build_task(entry: str) -> Task:
    """The task of an entry; one that reads files reads them here, once.

    Args:
        entry: as `trace(statements=4)`.

    Raises:
        BadInput: it is no task, or has no grader.
    """
    task = resolve("task", entry)
    check(task.spec.settings)
    built: Task = task.build()
    if not isinstance(getattr(built, "grader", None), Grader):
        raise BadInput(
            f"task {entry}: has no grader; a task's file sets one, such as "
            "grader = number.Grader() (distill-resist list graders)"
        )
    return built


@cached
def read_config(group: str, name: str) -> ComponentSpec:
    """A component as its YAML file has it.

    Args:
        group: of configs.
        name: in the group.

    Raises:
        BadInput: there is no such component, or its file is damaged.
    """
    path = config_file(group, existing(group, name))
    config: ComponentSpec = checked(ComponentSpec, read(path), path.name)
    return config


def checked(model: Any, raw: Any, where: str) -> Any:
    """Values as a model has them.

    Kinds are exact, as JSON has them: a truth value or a text is no number, half a number no whole
    one.

    Args:
        model: pydantic's.
        raw: plain values, as YAML and JSON have them.
        where: what a message begins with.

    Raises:
        BadInput: the first faults, in one line.
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
                    f"{where}: {'.'.join(place) or 'settings'}: a key is a text (got {short(key)})"
                )
            _plain(inner, where, (*place, str(key)))
    elif isinstance(value, str) and not re.search("[\ud800-\udfff]", value):
        return
    elif value is not None and not (isinstance(value, int | float) and abs(value) <= LARGEST):
        raise BadInput(
            f"{where}: {'.'.join(place) or 'settings'}: must be text, true, false, null, or a "
            "number of at "
            f"most {LARGEST:g} (got {short(value)})"
        )


def _line(model: Any, where: str, error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"] if part != UNSAID)
    if error["type"] != "extra_forbidden":
        unsaid = error["type"] == "missing" or isinstance(error["input"], dict)
        got = "" if unsaid else f" (got {short(error['input'])})"
        return f"{where}: {place + ': ' * bool(place)}{words(error)}{got}"
    fields = list(_model_at(model, error["loc"][:-1]).model_fields)
    fields += ["match_utility"] * where.startswith("defense ")
    hint = near(str(error["loc"][-1]), fields, _schema(model, where))
    return f"{where}: unknown key {place!r}{hint} (known: {', '.join(fields)})"


def _schema(model: Any, where: str) -> str:
    """Whose settings these are, as `renamed.RENAMED` has it."""
    component = where.partition("(")[0].removesuffix(": settings")
    is_component = component.partition(" ")[0] in PACKAGES
    return component if is_component else getattr(model, "__name__", "").lower()


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
