"""The code of this project as it is on disk: each module's digest, which comments, docstrings and
line breaks do not change, and what it imports.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from distill.completions import BadInput, digest
from experiments.settings.catalog import cached, module_file, plugin_file

ROOT = Path(__file__).parents[1]
PROJECT = ("distill", "defenses", "experiments")


class Source(NamedTuple):
    """A module's file: its hash, the digest of what its code does, and the modules of this project
    that it imports, also those inside functions.
    """

    module: str
    sha256: str
    digest: str
    imports: frozenset[str]


@cached
def closure(roots: frozenset[str]) -> dict[str, str]:
    """The digests of modules and all that they import, however deep, by name.

    Args:
        roots: names of modules.

    Raises:
        BadInput: a module has no file.
    """
    names = frozenset[str]().union(*map(_reached, roots))
    return {name: read(name).digest for name in sorted(names)}


@cached
def _reached(root: str) -> frozenset[str]:
    """A module and all that it imports, however deep, with the packages on the way."""
    waiting, reached = [root], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [*_packages(name), *read(name).imports]
    return frozenset(reached)


def _packages(name: str) -> list[str]:
    """The packages that a module lies in; one that is only a folder has no code."""
    above = [name[:at] for at, letter in enumerate(name) if letter == "."]
    return [package for package in above if file_of(package)]


def installed(name: str) -> str | None:
    """The digest of a module as it is here, if it is.

    Args:
        name: of a module, which may come from somebody else's manifest.

    Returns:
        None where it is not here.
    """
    return read(name).digest if file_of(name) else None


def sources(code: Iterable[str]) -> list[Source]:
    """What was read of modules.

    Args:
        code: their names.
    """
    return [read(name) for name in code]


def remember(code: Iterable[Source]) -> None:
    """Import modules and note their digests, so that both stay what they are now in
    this process. What another process has read is not parsed again, unless the file has changed.

    Args:
        code: as that process read it.
    """
    by_module = {source.module: source for source in code}
    _parsed.update({(source.module, source.sha256): source for source in by_module.values()})
    for module in by_module:
        read(module)
        importlib.import_module(module)


_parsed: dict[tuple[str, str], Source] = {}
"""What other processes have read, by module and the SHA-256 of its file."""


@cached
def read(name: str) -> Source:
    """A module as its file is when it is first asked for.

    Args:
        name: of the module.

    Raises:
        BadInput: it has no file.
    """
    path = file_of(name)
    if path is None:
        raise BadInput(f"{name}: no such module; its code cannot be recorded")
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if (name, sha256) in _parsed:
        return _parsed[name, sha256]
    tree = ast.parse(content, path.name)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return Source(name, sha256, code_digest(tree), frozenset(_imported(tree, package)))


def code_digest(tree: ast.AST) -> str:
    """What code does as 16 hexadecimal digits: comments, docstrings and places do not count."""
    words: list[str] = []
    _spell(tree, words)
    return digest("".join(words))[:16]


def file_of(name: str) -> Path | None:
    """The file of a module of this project or of a plugin in use; names may come from a manifest
    that somebody else wrote.

    Args:
        name: of a module.
    """
    top = name.partition(".")[0]
    return module_file(name, [ROOT / top]) if top in PROJECT else plugin_file(name)


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    for child in _statements(node):
        names = []
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            above = package.rsplit(".", child.level - 1)[0] if child.level else ""
            base = ".".join(filter(None, (above, child.module)))
            names = [base, *(f"{base}.{alias.name}" for alias in child.names)]
        yield from filter(file_of, names)
        yield from _imported(child, package)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """What is below a node and may hold an import, as no expression does; not what only a type
    checker imports, which never runs.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) in (
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
        ):
            yield from child.orelse
        else:
            yield child


def _spell(node: Any, into: list[str]) -> None:
    """Append a tree as text without docstrings and places; empty fields are left out, as Python
    versions differ in them.
    """
    if isinstance(node, ast.AST):
        into.append(f"({type(node).__name__}")
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                value = [part for part in value if not _is_text(part)]
            if value is not None and value != []:
                into.append(f" {name}=")
                _spell(value, into)
        into.append(")")
    elif isinstance(node, list):
        for part in node:
            _spell(part, into)
            into.append(",")
    else:
        into.append(repr(node))


def _is_text(node: Any) -> bool:
    """Whether a statement is a string alone, as docstrings are."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
