"""Python code that passes unit tests, run apart from all that could tell it how it is judged.

Answer and tests run in two processes (`sandbox.py`). The tests see the answer's functions as names
whose calls are handed over, plain values alone; the answer sees arguments, and neither the tests
nor the verdict, so that it can print, return or overwrite whatever it likes. The reference is
Python source with `assert`s, or a JSON object of `inputs` and `outputs` for programs that read and
print. What takes too long, too much memory, forks, opens files or sockets is wrong.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from distill.completions import BadInput
from experiments.tasks import graders
from experiments.tasks.graders.json import parse
from experiments.tasks.graders.sandbox import Limits, Sandbox, TooMuch, isolation

LETTERS = 50_000
BROKEN = (SyntaxError, ValueError, RecursionError, MemoryError)


class Grader(graders.Grader):
    """`seconds` of the processor and `megabytes` that answer and tests may each take; `patience` is
    how many seconds of the clock a verdict may take, which ends what waits. A slow machine changes
    no grade as long as it is long.
    """

    tried: ClassVar[int] = 4
    executes: ClassVar[bool] = True

    seconds: int = Field(default=5, ge=1, le=600)
    patience: float = Field(default=60.0, ge=1, le=3600)
    megabytes: int = Field(default=512, ge=128, le=16_384)

    def read(self, final: str) -> str | None:
        """The code itself where it is Python, and does anything."""
        try:
            return final.strip("\n") if len(final) < LETTERS and ast.parse(final).body else None
        except BROKEN:
            return None

    def same(self, answer: str, reference: str) -> bool:
        """Whether the code passes all tests."""
        programs = _programs(reference)
        try:
            if programs:
                return all(self._prints(answer, stdin, wanted) for stdin, wanted in programs)
            return self._passes(answer, reference)
        except TooMuch:
            return False

    def check(self, reference: str) -> None:
        """A reference must be Python that asserts something, or programs with their output.

        Raises:
            BadInput: it is not.
        """
        if _programs(reference):
            return
        try:
            nodes = list(ast.walk(ast.parse(reference)))
        except BROKEN as error:
            raise BadInput(f"reference {reference[:80]!r} is no Python ({error})") from None
        if not any(isinstance(node, ast.Assert | ast.Raise) for node in nodes):
            raise BadInput(f"reference {reference[:80]!r} asserts nothing, so all code would pass")

    def note(self) -> str:
        """That nothing but limits and a hook stands around the code, where that is so."""
        if isolation() != "limits":
            return ""
        return (
            "grader code: neither bwrap nor unshare works here, so answers run behind limits and "
            "an audit hook alone, with this machine's network and files around them"
        )

    def _limits(self) -> Limits:
        return Limits(self.seconds, self.patience, self.megabytes)

    def _passes(self, code: str, tests: str) -> bool:
        limits = self._limits()
        with (
            Sandbox(code, limits, mode="calls") as answer,
            Sandbox(tests, limits, mode="tests", names=defined(code)) as judge,
        ):
            while (line := judge.hear()) not in ("passed", "failed"):
                answer.say(line)
                judge.say(answer.hear())
            return line == "passed"

    def _prints(self, code: str, stdin: str, wanted: str) -> bool:
        with Sandbox(code, self._limits(), mode="program") as answer:
            answer.say(stdin)
            answer.end_input()
            return _lines(answer.hear_all()) == _lines(wanted)


def defined(code: str) -> list[str]:
    """The names that code gives to functions, classes and values at its top."""
    names = []
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names


def _programs(reference: str) -> Sequence[tuple[str, str]]:
    """Pairs of input and output; none where the reference is something else.

    Raises:
        BadInput: it is an object of these, but not as many outputs as inputs, or no texts.
    """
    try:
        value: Any = parse(reference)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(value, dict):
        return ()
    sides = [value.get(name) for name in ("inputs", "outputs")]
    lists = [side for side in sides if isinstance(side, list) and side]
    if (
        len(lists) < 2
        or len({*map(len, lists)}) > 1
        or not all(isinstance(text, str) for side in lists for text in side)
    ):
        raise BadInput(
            f"reference {reference[:80]!r} must have as many `outputs` as `inputs`, lists of texts"
        )
    return list(zip(*lists, strict=True))


def _lines(text: str) -> list[str]:
    """Lines without white space behind them, nor empty ones at the end."""
    return [line.rstrip() for line in text.rstrip().split("\n")]
