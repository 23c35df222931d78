"""From a row of somebody's table to a question: which columns it is made of, and one line for a row
that is none.
"""

from __future__ import annotations

import math
import re
import reprlib
import string
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from distill.completions import BadInput
from distill.tables import Row, columns, value_at, whole_text
from experiments.tasks.nouns import Draft

COLUMN = re.compile(r"\{([\w.]+)\}")
LETTERS = string.ascii_uppercase
KINDS = {str: "a text", bool: "a truth value", int: "a number", float: "a number"}


class Columns(BaseModel):
    """What of a row is what; dots go down into objects, numbers into lists.

    `answer`: the final answer, or a text whose last `behind` it follows, with the worked solution
    before that. `solution`: the worked steps. `reference`: what grades, where that is not the
    answer. `choices`: a list of options, or {"text", "label"}; the answer is then a letter, the
    number of an option from 0, or its text. `cluster`: rows of one name belong together. `split`:
    what a row is for. `template`: the prompt, in which {column} stands for a column's value and
    {choices} for the lettered options.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    question: str = Field(default="question", min_length=1)
    answer: str = Field(default="answer", min_length=1)
    behind: str = ""
    solution: str | None = Field(default=None, min_length=1)
    reference: str | None = Field(default=None, min_length=1)
    choices: str | None = Field(default=None, min_length=1)
    cluster: str | None = Field(default=None, min_length=1)
    split: str | None = Field(default=None, min_length=1)
    template: str | None = Field(default=None, min_length=1)


class Asked(NamedTuple):
    """A row as a question, and what its split column says of it."""

    draft: Draft
    part: str


class RowReader:
    """Rows as questions; answers of one data set are of one kind.

    Args:
        layout: which column holds what.
    """

    def __init__(self, layout: Columns) -> None:
        self.layout = layout
        self.kind = ""
        plain = f"{{{layout.question}}}"
        self.template = layout.template or (f"{plain}\n{{choices}}" if layout.choices else plain)

    def __call__(self, row: Row) -> Asked:
        """The question of a row.

        Args:
            row: with its place.

        Raises:
            BadInput: it holds none; the line begins with its place.
        """
        layout = self.layout
        self._text(row, layout.question)
        options = _options(row, layout.choices) if layout.choices else {}
        text = self._prompt(row, options)
        steps, answer = self._answer(row, options)
        if layout.solution:
            steps = self._text(row, layout.solution)
        reference = self._text(row, layout.reference) if layout.reference else ""
        cluster = self._text(row, layout.cluster) if layout.cluster else ""
        part = self._text(row, layout.split) if layout.split else ""
        canonical = " ".join(text.split())
        return Asked(Draft(canonical, text, steps, answer, reference, cluster), part)

    def _text(self, row: Row, name: str) -> str:
        """A column's value as text; BadInput where there is none."""
        value = value_at(row.values, name)
        if value is None and name.partition(".")[0] not in row.values:
            raise BadInput(f"{row.where}: has no column {name!r} ({columns(row.values)})")
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        if not isinstance(value, str | int | float) or not str(value).strip():
            got = "is empty" if value in (None, "") or isinstance(value, str) else "is no text"
            raise BadInput(f"{row.where}: {name} {got} (got {reprlib.repr(value)})")
        return whole_text(row.where, name, _spelled(value))

    def _prompt(self, row: Row, options: Mapping[str, str]) -> str:
        lettered = "\n".join(f"{letter}. {text}" for letter, text in options.items())
        return COLUMN.sub(
            lambda found: (
                lettered if options and found[1] == "choices" else self._text(row, found[1])
            ),
            self.template,
        )

    def _answer(self, row: Row, options: Mapping[str, str]) -> tuple[str, str]:
        """The worked steps in the column of answers, if any, and the final answer."""
        layout, value = self.layout, value_at(row.values, self.layout.answer)
        text = self._text(row, layout.answer)
        kind = KINDS[type(value)]
        self.kind = self.kind or kind
        if kind != self.kind:
            raise BadInput(
                f"{row.where}: {layout.answer} is {kind}, in the rows before it {self.kind}"
            )
        if options:
            return "", _chosen(row, layout.answer, value, options)
        if not layout.behind:
            return "", text.strip()
        steps, mark, final = text.rpartition(layout.behind)
        if not mark or not final.strip():
            raise BadInput(
                f"{row.where}: {layout.answer} has nothing behind {layout.behind!r}, got "
                f"{reprlib.repr(text)}"
            )
        return steps.rstrip(), final.strip()


def _spelled(value: str | int | float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _options(row: Row, name: str) -> dict[str, str]:
    """The options of a row by their letters."""
    value: Any = value_at(row.values, name)
    labels = None
    if isinstance(value, Mapping):
        labels, value = value.get("label"), value.get("text")
    if not isinstance(value, list) or not 2 <= len(value) <= len(LETTERS):
        raise BadInput(
            f"{row.where}: {name} must be a list of 2 to {len(LETTERS)} options, got "
            f"{reprlib.repr(value)}"
        )
    texts = [_spelled(option) for option in value if isinstance(option, str | int | float)]
    if len({*texts}) != len(value) or not all(text.strip() for text in texts):
        raise BadInput(f"{row.where}: {name} has an option that is empty, twice there, or no text")
    if labels is not None and labels not in ([*LETTERS[: len(texts)]], _numbers(len(texts))):
        raise BadInput(f"{row.where}: {name} has labels {reprlib.repr(labels)}; A, B, ... or 1, 2")
    texts = [whole_text(row.where, name, text) for text in texts]
    return dict(zip(LETTERS, texts, strict=False))


def _numbers(n: int) -> list[str]:
    return [str(place + 1) for place in range(n)]


def _chosen(row: Row, name: str, value: Any, options: Mapping[str, str]) -> str:
    """The letter of the right option."""
    letters = [*options]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(letters):
        return letters[value]
    answer = str(value).strip()
    if answer.upper() in options:
        return answer.upper()
    meant = [letter for letter, text in options.items() if text.strip() == answer]
    if not meant:
        raise BadInput(
            f"{row.where}: {name} is none of the options {', '.join(letters)}, got "
            f"{reprlib.repr(value)}"
        )
    return meant[0]
