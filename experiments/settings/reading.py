"""YAML that anybody may have written: values alone, of bounded size; a fault is one line with file,
line and column.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from distill.completions import BadInput

SIZE = 256 * 1024  # bytes of a file
DEPTH = 30  # of lists in lists
VALUES = 20_000  # of a file, each alias counted as all that it stands for
DIGITS = 20  # of a whole number
NULL, BOOL, INT, FLOAT, STR = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str")
)
LIST, MAPPING = "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.2's plain words: `off`, `010` and `1:30` are no numbers and no truth values. Depth is
    bounded.
    """

    yaml_implicit_resolvers: dict[Any, Any] = {}
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEPTH:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=f"nested more than {DEPTH} deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for tag, words in (
    (NULL, r"(~|null|Null|NULL|)\Z"),
    (BOOL, r"(true|True|TRUE|false|False|FALSE)\Z"),
    (INT, r"[-+]?(0|[1-9](_?[0-9])*)\Z"),
    (
        FLOAT,
        r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z",
    ),
):
    _Loader.add_implicit_resolver(tag, re.compile(words), None)


def read(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Args:
        path: an existing file.

    Returns:
        Its keys and values: texts, finite numbers, truth values, null, lists and mappings of words.

    Raises:
        BadInput: the first fault, with file, line and column.
    """
    text = decoded(path)
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        _fault(
            path,
            error.problem_mark or error.context_mark,
            " ".join((error.problem or "no YAML").split()),
        )
    except yaml.reader.ReaderError as error:
        _fault(
            path,
            _Place(text, error.position),
            f"the character {chr(error.character)!a} is not allowed",
        )
    except (ValueError, OverflowError) as error:
        _fault(
            path,
            loader.get_mark() if loader else _Place("", 0),
            f"an escape is no character ({error})",
        )
    if not isinstance(node, yaml.MappingNode):
        _fault(
            path,
            node.start_mark if node else _Place("", 0),
            "a file of settings is a mapping of keys to values",
        )
    return dict(_Values(path).of(node))


def decoded(path: Path) -> str:
    """The text of a file of settings.

    Raises:
        BadInput: it is too large or not UTF-8.
    """
    with path.open("rb") as file:
        data = file.read(SIZE + 1)
    if len(data) > SIZE:
        raise BadInput(f"{path}: larger than {SIZE // 1024} KiB, which a file of settings may be")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        _fault(path, _Place(before, len(before)), f"not UTF-8 (byte 0x{data[error.start]:02x})")


class _Place:
    """Line and column of a position in a text, from 0 as YAML's own marks count."""

    def __init__(self, text: str, position: int) -> None:
        self.line = text.count("\n", 0, position)
        self.column = position - (text.rfind("\n", 0, position) + 1)


class _Values:
    """Values of composed nodes, counted so that aliases cannot multiply without end."""

    def __init__(self, path: Path) -> None:
        self.path, self.left = path, VALUES

    def of(self, node: Any, depth: int = 0) -> Any:
        self.left -= 1
        if self.left < 0 or depth > DEPTH:  # an alias may stand for what it is in
            what = (
                f"more than {VALUES} values" if self.left < 0 else f"nested more than {DEPTH} deep"
            )
            _fault(self.path, node.start_mark, f"{what}, aliases counted as what they stand for")
        if isinstance(node, yaml.SequenceNode) and node.tag == LIST:
            return [self.of(one, depth + 1) for one in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag == MAPPING:
            return self.mapping(node, depth)
        if isinstance(node, yaml.ScalarNode) and node.tag in (NULL, BOOL, INT, FLOAT, STR):
            return self.scalar(node)
        _fault(self.path, node.start_mark, f"unknown tag {node.tag!a}; settings are plain values")

    def mapping(self, node: Any, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != STR:
                _fault(
                    self.path,
                    key.start_mark,
                    f"a key is a word, got {str(getattr(key, 'value', ''))[:40]!a}",
                )
            word = self.scalar(key)
            if word in made:
                _fault(self.path, key.start_mark, f"the key {word[:80]!r} is there twice")
            made[word] = self.of(value, depth + 1)
        return made

    def scalar(self, node: Any) -> Any:
        text = node.value
        if node.tag == STR:
            if "${" in text:
                _fault(
                    self.path,
                    node.start_mark,
                    "${...} is not replaced in files; write the value itself",
                )
            if re.search("[\ud800-\udfff]", text):
                _fault(self.path, node.start_mark, "half a surrogate pair is no character")
            return text
        if node.tag == NULL:
            return None
        try:
            if node.tag == BOOL:
                return {"true": True, "false": False}[text.lower()]
            if node.tag == INT and len(text) <= DIGITS:
                return int(text)
            number = float(
                text.replace(".inf", "inf").replace(".nan", "nan") if node.tag == FLOAT else "inf"
            )
        except (ValueError, KeyError):  # a tag that does not fit
            _fault(self.path, node.start_mark, f"{text[:40]!a} is no {node.tag.rpartition(':')[2]}")
        if not math.isfinite(number):
            _fault(
                self.path,
                node.start_mark,
                f"a number is finite and has at most {DIGITS} digits, got {text[:40]!a}",
            )
        return number


def _fault(path: Path, place: Any, why: str) -> NoReturn:
    raise BadInput(f"{path}, line {place.line + 1}, column {place.column + 1}: {why}")
