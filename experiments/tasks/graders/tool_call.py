"""Calls of functions with their arguments, compared as syntax trees as the Berkeley
Function-Calling Leaderboard does (Patil et al. 2025, `ast_checker`): the function, each argument
one of the values that are allowed, none that is required left out and none that does not exist;
several calls in any order.

The reference is BFCL's own form, a JSON list of `{function: {argument: [allowed values]}}`, where
the empty text among the allowed values means that the argument may be left out. An answer looks
like `f(a=1, b="x")`, `[f(a=1), g()]`, a line a call, or objects of `name` and `arguments`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from distill.completions import BadInput
from experiments.tasks import graders
from experiments.tasks.graders.json import parse

LETTERS = 10_000
MOST = 50  # calls of one answer
IGNORED = re.compile(r"[ ,./\-_*^]")  # as BFCL's standardize_string
UNREADABLE = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError)
Possible = dict[str, dict[str, list[Any]]]


class Call(NamedTuple):
    """A function's name and its arguments; those without a name are called by their places, `0`,
    `1` and so on.
    """

    function: str
    arguments: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return {"name": self.function, "arguments": self.arguments}


class Grader(graders.Grader):
    """`ordered`: whether calls must come in the order of the reference. `strict`: whether texts
    must be equal letter by letter; else case, spaces and punctuation do not count. `extra`: whether
    more calls may be made than the reference has, where their order does not count. `tools`: all
    functions that questions define; none where that is not said.
    """

    ordered: bool = False
    strict: bool = False
    extra: bool = False
    tools: tuple[str, ...] = ()

    def read(self, final: str) -> str | None:
        """The calls as JSON, sorted unless their order counts; no call at all is unparsed."""
        calls = parse_calls_or_none(final)
        texts = [json.dumps(call.as_json(), sort_keys=True) for call in calls]
        return f"[{', '.join(texts if self.ordered else sorted(texts))}]" if texts else None

    def same(self, answer: str, reference: str) -> bool:
        """Whether each call is one of the reference's, and all of these were made."""
        calls = parse_calls(answer)
        wanted = possible_calls(reference)
        if len(calls) < len(wanted) or (len(calls) > len(wanted) and not self.extra):
            return False
        fits = [[self._fits(call, one) for call in calls] for one in wanted]
        if self.ordered:
            return all(row[place] for place, row in enumerate(fits))
        return matched(fits)

    def check(self, reference: str) -> None:
        """A reference must have BFCL's form, and call what is defined.

        Raises:
            BadInput: it has not, or calls what `tools` does not name.
        """
        functions = {function for call in possible_calls(reference) for function in call}
        if self.tools and (unknown := sorted(functions - {*self.tools})):
            raise BadInput(
                f"reference {reference[:80]!r} calls {', '.join(unknown)}, which tools does not "
                f"name (there are: {', '.join(self.tools)})"
            )

    def _fits(self, call: Call, possible: Possible) -> bool:
        ((function, allowed),) = possible.items()
        required = {name for name, values in allowed.items() if "" not in values}
        there = {*call.arguments}
        if call.function != function or required - there or there - {*allowed}:
            return False
        return all(self._is_one_of(call.arguments[name], allowed[name]) for name in there)

    def _is_one_of(self, value: Any, allowed: Sequence[Any]) -> bool:
        return any(self._equal(value, one) for one in allowed)

    def _equal(self, value: Any, wanted: Any) -> bool:
        """Equal values of one type; a whole number stands for the decimal that it equals."""
        if isinstance(value, str) and isinstance(wanted, str):
            return value == wanted or (not self.strict and _loose(value) == _loose(wanted))
        if isinstance(value, list) and isinstance(wanted, list):
            pairs = zip(value, wanted, strict=False)
            return len(value) == len(wanted) and all(self._equal(a, b) for a, b in pairs)
        if isinstance(value, dict) and isinstance(wanted, dict):
            return value.keys() == wanted.keys() and all(
                self._is_one_of(inner, _values(wanted[name])) for name, inner in value.items()
            )
        whole = type(value) is int and type(wanted) is float
        return (type(value) is type(wanted) or whole) and bool(value == wanted)


def _values(allowed: Any) -> list[Any]:
    """What a key of an object may be: BFCL lists the values, as it does of arguments."""
    return allowed if isinstance(allowed, list) else [allowed]


def _loose(text: str) -> str:
    return IGNORED.sub("", text).lower().replace("'", '"')


def matched(fits: Sequence[Sequence[bool]]) -> bool:
    """Whether every row can have a column of its own that fits (augmenting paths).

    Args:
        fits: whether a row and a column fit, rows of one length.
    """
    row_of: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column, fit in enumerate(fits[row]):
            if fit and column not in tried:
                tried.add(column)
                if column not in row_of or place(row_of[column], tried):
                    row_of[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(fits)))


def parse_calls(text: str) -> list[Call]:
    """The calls of a text, in their order.

    Args:
        text: of any length.

    Raises:
        ValueError: it is anything else, or too long.
        SyntaxError: it is anything else.
    """
    text = text.strip()
    if len(text) > LETTERS:
        raise ValueError("too long")
    calls = list(_json_calls(text) if text.startswith(("{", "[{")) else _python_calls(text))
    if len(calls) > MOST:
        raise ValueError("too many")
    return calls


def parse_calls_or_none(text: str) -> list[Call]:
    """The calls of a text; none where it is anything else."""
    try:
        return parse_calls(text)
    except UNREADABLE:
        return []


def _json_calls(text: str) -> Iterator[Call]:
    values = parse(text) if text.startswith("[") else [parse(line) for line in _objects(text)]
    for value in values:
        call = value.get("function", value) if isinstance(value, dict) else value
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise ValueError("no call")
        arguments = call.get("arguments", call.get("parameters", {}))
        if isinstance(arguments, str):  # as OpenAI sends them
            arguments = parse(arguments)
        if not isinstance(arguments, dict):
            raise ValueError("no arguments")
        yield Call(call["name"], arguments)


def _objects(text: str) -> Iterator[str]:
    """JSON objects that stand behind one another."""
    decoder, start = json.JSONDecoder(), 0
    while start < len(text):
        _, end = decoder.raw_decode(text, start)
        yield text[start:end]
        start = end + len(text[end:]) - len(text[end:].lstrip(" \t\r\n,;"))


def _python_calls(text: str) -> Iterator[Call]:
    for statement in ast.parse(text).body:
        value = statement.value if isinstance(statement, ast.Expr) else None
        nodes = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
        yield from map(_python_call, nodes)


def _python_call(node: ast.expr | None) -> Call:
    if not isinstance(node, ast.Call):
        raise ValueError("no call")
    name = ast.unparse(node.func)
    if not re.fullmatch(r"\w+(\.\w+)*", name):
        raise ValueError("no function's name")
    arguments = {str(place): _plain(one) for place, one in enumerate(node.args)}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in arguments:
            raise ValueError("an argument without a name, or twice")
        arguments[keyword.arg] = _plain(keyword.value)
    return Call(name, arguments)


def _plain(node: ast.expr) -> Any:
    """The value of a literal, as JSON has it: tuples are lists."""
    return json.loads(json.dumps(ast.literal_eval(node), allow_nan=False))


def possible_calls(reference: str) -> list[Possible]:
    """The calls that a reference asks for.

    Args:
        reference: JSON.

    Raises:
        BadInput: it has not BFCL's form.
    """
    try:
        calls = parse(reference)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"reference {reference[:80]!r} is no JSON ({error})") from None
    if not isinstance(calls, list) or not calls or not all(map(_is_possible, calls)):
        raise BadInput(
            f"reference {reference[:80]!r} must be a list of objects such as "
            '{"function": {"argument": [allowed values]}}'
        )
    return calls


def _is_possible(call: Any) -> bool:
    return (
        isinstance(call, dict)
        and len(call) == 1
        and all(isinstance(arguments, dict) for arguments in call.values())
        and all(isinstance(one, list) and one for inner in call.values() for one in inner.values())
    )
