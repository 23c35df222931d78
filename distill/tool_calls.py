"""Where the calls of functions stand in an answer: whoever sends requests knows which functions it
defined, and runs no others.

A program that gets a call of a function that it never defined has nothing to run. It drops the call
and runs the others, whether it is an honest user's or belongs to whoever collects answers.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from distill.answer_format import CALL_CLOSE, CALL_OPEN, AnswerFormat, final_spans

LETTERS = 10_000  # of an answer whose calls are looked for
BETWEEN = re.compile(r"[\s,;]+")
MARKED = re.compile(rf"({CALL_OPEN}\s*)?(.*?)(\s*{CALL_CLOSE})?", re.DOTALL)


class Call(NamedTuple):
    """A call in a text: the function, and from where to where the call is written, with markup of
    its own.
    """

    function: str
    start: int
    end: int


class Row(NamedTuple):
    """The calls of an answer, which stand beside one another, and what separates two of them."""

    text: str
    calls: tuple[Call, ...]
    between: str

    def source(self, call: Call) -> str:
        """A call as it is written.

        Args:
            call: of the row.
        """
        return self.text[call.start : call.end]

    def with_call(self, place: int, source: str) -> str:
        """The text with one more call in it.

        Args:
            place: how many calls stand before it, 0 to all.
            source: the call as it is written.
        """
        if place < len(self.calls):
            at, new = self.calls[place].start, source + self.between
        else:
            at, new = self.calls[-1].end, self.between + source
        return self.text[:at] + new + self.text[at:]

    def only(self, functions: Collection[str]) -> str:
        """The text without calls of other functions; as it is where no call would be left.

        Args:
            functions: whose calls stay.
        """
        staying = [call for call in self.calls if call.function in functions]
        if len(staying) in (0, len(self.calls)):
            return self.text
        new = self.text[: self.calls[0].start]
        for call, behind in zip(self.calls, [*self.calls[1:], None], strict=True):
            if call.function in functions:
                new += self.source(call)
                # What separated it from the next one, which may be gone, separates it now as well.
                new += self.text[call.end : behind.start] if behind and call != staying[-1] else ""
        return new + self.text[self.calls[-1].end :]


def only_defined(
    text: str, form: AnswerFormat, functions: Collection[str], finished: bool = True
) -> str:
    """An answer without calls of functions that nobody defined.

    One none of whose calls is of a defined function stays as it is, as a mistake that is seen.

    Args:
        text: of an answer.
        form: where its final answer is.
        functions: that were defined; none where requests define none, or it is not known.
        finished: whether the answer came to its own end.
    """
    row = row_of(text, form, finished) if functions else None
    return row.only(functions) if row else text


def row_of(text: str, form: AnswerFormat, finished: bool = True) -> Row | None:
    """The calls of a final answer; None where it is anything else, or they stand in several lists.

    Calls look like `f(1, a="x")`, alone, in statements or in a list, or are JSON objects of `name`
    and `arguments`; a `tool_call` holds one each.

    Args:
        text: of an answer.
        form: where its final answer is.
        finished: whether it came to its own end.
    """
    spans = final_spans(form, text, finished)
    if form.kind == "tool_call":
        marked = [_in_markup(text, start, end) for start, end in spans]
        calls, between = [call for call in marked if call], "\n"
        if len(calls) < len(spans):
            return None
    else:
        calls, between = _in_span(text, *spans[0]) if spans else ([], "")
    gaps = [text[a.end : b.start] for a, b in zip(calls, calls[1:], strict=False)]
    if not calls or not all(map(BETWEEN.fullmatch, gaps)):
        return None
    return Row(text, tuple(calls), gaps[0] if gaps else between)


def renamed(source: str, function: str) -> str:
    """A call of another function with the same arguments.

    Args:
        source: a call as it is written, with markup or without.
        function: that is called instead.
    """
    parts = MARKED.fullmatch(source)
    assert parts is not None  # everything matches
    opened, call, closed = (part or "" for part in parts.groups())
    if call.startswith("{"):
        value = json.loads(call)
        value.get("function", value)["name"] = function
        return opened + json.dumps(value, ensure_ascii=False) + closed
    return opened + function + call[call.index("(") :] + closed


def _in_markup(text: str, start: int, end: int) -> Call | None:
    """The one call of a span, with its markup."""
    calls, _ = _in_span(text, start, end)
    if len(calls) != 1:
        return None
    return Call(calls[0].function, text.rindex(CALL_OPEN, 0, start), text.index(">", end) + 1)


def _in_span(text: str, start: int, end: int) -> tuple[list[Call], str]:
    """The calls of a span, and what separates two where only one is there."""
    inside = text[start:end]
    bare = inside.strip()
    start += inside.find(bare)
    if len(bare) > LETTERS:
        return [], ""
    try:
        if bare.startswith(("{", "[{")):
            places = list(_json_calls(bare))
        else:
            places = list(_python_calls(bare))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return [], ""
    calls = [Call(function, start + a, start + b) for function, a, b in places]
    return calls, ", " if bare.startswith(("[", "(")) else "; "


def _json_calls(text: str) -> Iterator[Call]:
    """Objects that stand behind one another, or in a list."""
    decoder, place = json.JSONDecoder(), text.index("{")
    while text.startswith("{", place):
        value, end = decoder.raw_decode(text, place)
        call = value.get("function", value)
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise ValueError("no call")
        yield Call(call["name"], place, end)
        gap = BETWEEN.match(text, end)
        place = gap.end() if gap else end
    if text[place:] not in ("", "]"):
        raise ValueError("no call")


def _python_calls(text: str) -> Iterator[Call]:
    """Calls that are statements, or stand in a list or a tuple."""
    if "\r" in text:
        raise ValueError("lines that Python counts otherwise")
    lines = [0]
    for line in text.encode().split(b"\n"):
        lines.append(lines[-1] + len(line) + 1)

    def place(line: int, column: int) -> int:
        return len(text.encode()[: lines[line - 1] + column].decode())

    for statement in ast.parse(text).body:
        value = statement.value if isinstance(statement, ast.Expr) else None
        for node in value.elts if isinstance(value, ast.List | ast.Tuple) else [value]:
            if not isinstance(node, ast.Call):
                raise ValueError("no call")
            name = ast.unparse(node.func)
            start = place(node.lineno, node.col_offset)
            if not re.fullmatch(r"\w+(\.\w+)*", name) or not text.startswith(f"{name}(", start):
                raise ValueError("no function's name")
            assert node.end_lineno is not None and node.end_col_offset is not None
            yield Call(name, start, place(node.end_lineno, node.end_col_offset))
