"""What made a result: the version of its kind, the code that it ran, libraries and threads; and
whether that is past.

The code of a stage is every module of this project that its kind and its components import, however
deep, each with a digest that comments, docstrings and line breaks do not change.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from distill.completions import BadInput, digest
from experiments.settings.catalog import cached, find_plugin, module_file, module_of, plugin_file
from experiments.stages.stage import Stage, canonical
from experiments.store import Origin, Record, Store

ROOT = Path(__file__).parents[1]
PROJECT = ("distill", "defenses", "experiments")
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
    return _closure(frozenset(roots(stage)))


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


def remember(code: Iterable[str]) -> None:
    """Import modules and note their digests, so that both stay what they are now in
    this process.

    Args:
        code: names of modules.
    """
    for name in code:
        _read(name)
        importlib.import_module(name)


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


@cached
def _closure(roots: frozenset[str]) -> dict[str, str]:
    names = frozenset[str]().union(*map(_reached, roots))
    return {name: _read(name)[0] for name in sorted(names)}


@cached
def _reached(root: str) -> frozenset[str]:
    """A module and all that it imports, however deep, with the packages on the way."""
    waiting, reached = [root], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [*_packages(name), *_read(name)[1]]
    return frozenset(reached)


def _packages(name: str) -> list[str]:
    """The packages that a module lies in; one that is only a folder has no code."""
    above = [name[:at] for at, letter in enumerate(name) if letter == "."]
    return [package for package in above if _file(package)]


def installed(name: str) -> str | None:
    """The digest of a module as it is here, if it is.

    Args:
        name: of a module, which may come from somebody else's manifest.

    Returns:
        None where it is not here.
    """
    return _read(name)[0] if _file(name) else None


@cached
def _read(name: str) -> tuple[str, frozenset[str]]:
    """A module's digest, and the modules of this project that it imports, also those inside
    functions.
    """
    path = _file(name)
    if path is None:
        raise BadInput(f"{name}: no such module; its code cannot be recorded")
    tree = ast.parse(path.read_bytes(), path.name)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return code_digest(tree), frozenset(_imported(tree, package))


def code_digest(tree: ast.AST) -> str:
    """What code does as 16 hexadecimal digits: comments, docstrings and places do not count."""
    return digest("".join(_spelled(tree)))[:16]


def _file(name: str) -> Path | None:
    """The file of a module of this project or of a plugin in use; names may come from a manifest
    that somebody else wrote.
    """
    top = name.partition(".")[0]
    return module_file(name, [ROOT / top]) if top in PROJECT else plugin_file(name)


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    for child in _children(node):
        names = []
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            above = package.rsplit(".", child.level - 1)[0] if child.level else ""
            base = ".".join(filter(None, (above, child.module)))
            names = [base, *(f"{base}.{alias.name}" for alias in child.names)]
        yield from filter(_file, names)
        yield from _imported(child, package)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """What is below a node; not what only a type checker imports, which never runs."""
    for child in ast.iter_child_nodes(node):
        if not (
            isinstance(child, ast.If)
            and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        ):
            yield child
        else:
            yield from child.orelse


def _spelled(node: Any) -> Iterator[str]:
    """A tree as text without docstrings and places; empty fields are left out, as Python versions
    differ in them.
    """
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                value = [part for part in value if not _is_text(part)]
            if value is not None and value != []:
                yield f" {name}="
                yield from _spelled(value)
        yield ")"
    elif isinstance(node, list):
        for part in node:
            yield from _spelled(part)
            yield ","
    else:
        yield repr(node)


def _is_text(node: Any) -> bool:
    """Whether a statement is a string alone, as docstrings are."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


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
    path = _file(f"experiments.stages.{kind}")
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
