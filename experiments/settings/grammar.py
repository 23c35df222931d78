"""The grammar of an entry: `name`, `name(key=value, ...)`, and several of them joined by `+`."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any, NamedTuple

from distill.completions import BadInput

WORDS = {"true": True, "false": False, "null": None}
QUOTED = r"'[^']*'|\"[^\"]*\""
BARE = r"[^\s,()\[\]{}'\"]"  # what a value without quotes and brackets is made of
NUMBER = rf"[-+]?[0-9.]+([eE][-+]?[0-9]+)?(?!{BARE})"


class Entry(NamedTuple):
    """An entry taken apart: a component's name, and the settings that differ from its config."""

    name: str
    changes: dict[str, Any]


def parse_entry(text: str) -> Entry:
    """Take `name(key=value, ...)` apart.

    Args:
        text: one entry; a bare word is a string, other values are Python or YAML literals.

    Returns:
        The name, and a new dictionary of the settings in brackets.

    Raises:
        BadInput: the text is no such entry, or a key is there twice.
    """
    name, bracket, _ = text.partition("(")
    if not bracket:
        return Entry(text.strip(), {})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on what Python thinks of `1or` or of "\d"
            tree = ast.parse(f"f{text.strip()[len(name.lstrip()) :]}", mode="eval").body
        return Entry(name.strip(), _keywords(tree))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise BadInput(
            f"{text[:80]!r}: an entry is a name, or name(key=value, ...) with each key once"
            f"{_unquoted(text)}"
        ) from None


def _unquoted(text: str) -> str:
    """What to do about a value that is a path, or other text that is no word, without quotes."""
    bare = re.search(rf"(\w+) *= *(?!{NUMBER}){BARE}*[/\\~:.@-]", re.sub(QUOTED, "''", text))
    return f"; a path, or text with other signs, is in quotes: {bare[1]}='...'" if bare else ""


def _keywords(tree: ast.expr) -> dict[str, Any]:
    """The keywords of a call without other arguments; ValueError for any other expression."""
    if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args):
        raise ValueError("not a call with keywords alone")
    values = {word.arg: _literal(word.value) for word in tree.keywords if word.arg}
    if len(values) < len(tree.keywords):
        raise ValueError("a key is there twice, or has no name")
    return values


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    return WORDS.get(node.id, node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)


def format_entry(entry: Entry) -> str:
    """An entry as text, which `parse_entry` takes apart again."""
    if not entry.changes:
        return entry.name
    return f"{entry.name}({', '.join(f'{key}={value!r}' for key, value in entry.changes.items())})"


def split(text: str, mark: str) -> list[str]:
    """A text at the marks outside brackets and quotes.

    Args:
        text: of an entry.
        mark: one character.

    Raises:
        BadInput: a bracket or a quote is left open, or closed twice.
    """
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
        raise BadInput(f"{short(text)}: a bracket or a quote is not closed, or closed twice")
    return [part.strip() for part in parts]


def short(value: object) -> str:
    """A value as Python writes it, cut after 200 characters."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def joined(entry: Any) -> Any:
    """A list of names as one entry, its parts joined by `+`; anything else as it is.

    Args:
        entry: what a YAML file says.
    """
    names = isinstance(entry, list) and all(isinstance(part, str) for part in entry)
    return " + ".join(entry) if names else entry
