"""What made a result: the version of its kind, the code that it ran, libraries and threads; and
whether that is past.

The code of a stage is every module of this project that its kind and its components import, however
deep, each with the digest that `source_code` gives.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from distill.completions import digest
from experiments.settings.catalog import find_plugin, module_of
from experiments.source_code import closure, file_of
from experiments.stages.stage import Stage, canonical
from experiments.store import Origin, Record, Store

LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")  # those that can change bytes
# Settings whose values are components, or lists of them, and the group that these are of.
GROUPS = {
    "task": "task",
    "attacker": "attacker",
    "clean": "attacker",
    "ask": "attacker",
    "follow": "attacker",
    "defense": "defense",
    "reduced": "defense",
    "detectors": "detector",
}


# The code of a stage


def modules(stage: Stage) -> dict[str, str]:
    """Every module of this project that the stage runs, with its digest."""
    return closure(frozenset(roots(stage)))


def roots(stage: Stage) -> Iterator[str]:
    """The module of the stage's kind, and those of the components that its settings name."""
    yield f"experiments.stages.{stage.kind}"
    for group, name in _components(stage.settings, None):
        yield module_of(group, name)


def plugins(stages: Iterable[Stage]) -> dict[str, str]:
    """The plugins that stages run, `group/name`, each with the SHA-256 of its Python file."""
    parts = {part for stage in stages for part in _components(stage.settings, None)}
    in_use = (find_plugin(group, name) for group, name in sorted(parts))
    return {
        f"{plugin.group}/{plugin.name}": hashlib.sha256(plugin.file.read_bytes()).hexdigest()
        for plugin in in_use
        if plugin
    }


def _components(settings: Any, group: str | None) -> Iterator[tuple[str, str]]:
    """The group and name of every component that settings name."""
    if isinstance(settings, Mapping):
        if {"name", "settings"} <= settings.keys():
            assert group, f"{settings['name']}: a component under a setting of no group"
            yield group, settings["name"]
        for name, value in settings.items():
            yield from _components(value, GROUPS.get(name, group))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _components(value, group)


# What makes a result now, and what made one that is there


MAKER = {"version", "code", "libraries", "threads"}
"""What of a result's origin may be the same for many results."""


def now(stage: Stage, threads: int) -> Origin:
    """What would make the stage's result if it were made now; inputs are left out.

    Args:
        stage: of a plan.
        threads: of the process that makes it.
    """
    return Origin(
        version=_version(stage.kind), code=modules(stage), libraries=libraries(), threads=threads
    )


@functools.cache
def _version(kind: str) -> int:
    """The `VERSION` in the file of a kind, read and not imported."""
    path = file_of(f"experiments.stages.{kind}")
    assert path, kind
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VERSION":
            return int(ast.literal_eval(node.value))
    raise AssertionError(f"{kind}: no VERSION")


@functools.cache
def libraries() -> dict[str, str]:
    """Versions of the libraries that can change bytes."""
    return {name: version(name) for name in LIBRARIES}


def inputs(stage: Stage, store: Store) -> dict[str, str]:
    """The results that the stage is made of, by key, each with a digest over its files.

    Args:
        stage: whose inputs are all there.
        store: of results.
    """
    return {
        needed.key: contents(store.done(needed.kind, needed.key).files) for needed in stage.inputs
    }


def contents(files: Mapping[str, str]) -> str:
    """One digest over the files of a result, from their hashes.

    Args:
        files: SHA-256 by the file's name.
    """
    return digest(canonical(files))[:16]


class State(NamedTuple):
    """Whether a result is there and may be used, and in words why not."""

    # current, old, missing, or waiting: it is as it was, and an input must be made before that is
    # known
    word: str
    why: tuple[str, ...] = ()  # of its own
    above: tuple[str, ...] = ()  # of what it is made of


def states(stages: Sequence[Stage], store: Store, threads: int | None = None) -> dict[str, State]:
    """The state of each stage by key; they come inputs first.

    Args:
        stages: inputs before what is made of them.
        store: of results.
        threads: a worker; None where any number will do.
    """
    states: dict[str, State] = {}
    for stage in stages:
        states[stage.key] = State("missing")
        if store.has(stage.kind, stage.key):
            states[stage.key] = _state(stage, store, states, threads)
    return states


def _state(stage: Stage, store: Store, states: Mapping[str, State], threads: int | None) -> State:
    """The state of a result that is there, after those of its inputs."""
    due = [needed for needed in stage.inputs if states[needed.key].word != "current"]
    record = store.done(stage.kind, stage.key)
    why = _why(record, now(stage, threads or record.threads or 1))
    above = [f"its input {needed.kind}/{needed.key} is to be made" for needed in due]
    if not due and not why:
        above = [
            f"its input {needed.kind}/{needed.key} was made again"
            for needed in _remade(stage, store, record)
        ]
    unknown = all(states[needed.key].word in ("missing", "waiting") for needed in due)
    if due and not why and unknown:
        return State("waiting", above=tuple(above))
    return State("old" if why or above else "current", tuple(why), tuple(above))


def current(stage: Stage, store: Store, threads: int) -> bool:
    """Whether a result may be used whose inputs are all there and current.

    Args:
        stage: whose result is there.
        store: of results.
        threads: a worker.
    """
    record = store.done(stage.kind, stage.key)
    return not _why(record, now(stage, threads)) and not _remade(stage, store, record)


def _why(record: Record, made: Origin) -> list[str]:
    """In words, how what made a result differs from what would make it now."""
    if not record.is_recorded:
        return ["written before code was recorded"]
    why = []
    if record.version != made.version:
        why.append(f"made by version {record.version} of its kind, which is {made.version} now")
    if changed := differing(record.code or {}, made.code or {}):
        why.append(f"made by other code: {listed(changed)} changed")
    before, after = record.libraries or {}, made.libraries or {}
    why += [f"{name} {before.get(name)} -> {after.get(name)}" for name in differing(before, after)]
    if record.threads != made.threads:
        why.append(f"made with {record.threads} thread(s), not {made.threads}")
    return why


def maker(record: Record) -> dict[str, Any]:
    """What made a result, beside its inputs; nothing if it was written before that was recorded."""
    return record.model_dump(include=MAKER) if record.is_recorded else {}


def _remade(stage: Stage, store: Store, record: Record) -> list[Stage]:
    """The inputs that are no longer what the result was made of."""
    there, before = inputs(stage, store), record.inputs or {}
    return [needed for needed in stage.inputs if before.get(needed.key) != there[needed.key]]


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names that only one has, or that have other values.

    Args:
        before: by name.
        after: by name.
    """
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def listed(names: Sequence[str], most: int = 3) -> str:
    """Names in a line; of many, the first.

    Args:
        names: in their order.
        most: how many of them are written out.
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def reasons(stages: Iterable[Stage], states: Mapping[str, State]) -> list[str]:
    """A line for each reason why results are old, with how many of what kinds; what only follows
    comes last.

    Args:
        stages: of a plan.
        states: of those stages, by key.
    """
    groups: dict[str, dict[str, int]] = {}
    for stage in stages:
        state = states[stage.key]
        if state.word == "old":
            why = "; ".join(state.why) or "made of a result that was made again, or is to be"
            kinds = groups.setdefault(why, {})
            kinds[stage.kind] = kinds.get(stage.kind, 0) + 1
    lines = sorted(groups.items(), key=lambda one: one[0].startswith("made of a result"))
    return [
        f"{why} ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})" for why, kinds in lines
    ]
