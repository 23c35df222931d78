"""Any data set as a task: a file or a folder of rows, or a name on the hub, of which columns are
questions and answers.

Rows are read once into a file on the disk, so that memory grows by a few bytes a row. A question
belongs to the split that a hash of its text gives; where the data have parts of their own, train is
what anybody may learn from and ask, and test is what students are examined on.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
from pydantic import Field

from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Prompt
from distill.tables import Source, Value, read_rows
from experiments import tasks
from experiments.tasks.graders import tool_call
from experiments.tasks.graders.catalog import build_grader
from experiments.tasks.nouns import Draft
from experiments.tasks.pool import COUNTED, SHARES, Split, place_of
from experiments.tasks.rows import Asked, Columns, RowReader
from experiments.tasks.table import Table

SPLITS: tuple[Split, ...] = get_args(Split)
DROPPED = len(SPLITS)  # the number of a question that is in no split
LEARNED = 20_000  # questions of which a vocabulary is learned
DEV = ("validation", "valid", "val", "dev")
WORDS = ("train", "test", *DEV)
KEPT: tuple[Split, ...] = ("report", "select", "validate", "query", "train")
"""Of copies in several splits the first is kept: exams stay whole, what is learned from shrinks."""


class Settings(Columns):
    """`path`: .jsonl, .json, .csv, .tsv (also .gz), .parquet, a folder that datasets saved, or a
    name on the hub. `test_path`: another one, of the questions of the exams. `subset`, `part` and
    `test_part`: which of those that a folder or a name holds. `where`: what columns must hold for
    a row to count. `grader` with its settings, and `format`: how answers look. `duplicates`: a
    question that is in two splits, or has two answers, is refused or dropped.
    """

    path: str | None = Field(default=None, min_length=1)
    test_path: str | None = Field(default=None, min_length=1)
    subset: str = ""
    part: str = ""
    test_part: str = ""
    where: dict[str, Value] = {}
    system: str = ""
    grader: str = "exact"
    grading: dict[str, Any] = {}
    format: AnswerFormat = AnswerFormat()
    duplicates: Literal["refuse", "drop"] = "refuse"

    @property
    def sources(self) -> dict[str, Source]:
        """Where the rows are, by the part that they are of; one without a name if by hash.

        Raises:
            BadInput: no data are named.
        """
        if self.path is None:
            raise BadInput("task dataset: which data? write 'task=dataset(path=\"data.jsonl\")'")
        first = Source(self.path, self.subset, self.part, self.where)
        if not (self.test_path or self.test_part):
            return {"": first}
        other = Source(self.test_path or self.path, self.subset, self.test_part, self.where)
        return {"train": first, "test": other}


class Data(NamedTuple):
    """All that was read of a data set.

    `splits`: the number of each question's split (Q). `alphabet`: all letters. `digest`: SHA-256
    of the questions with their splits. `dropped`: how many have none.
    """

    table: Table
    splits: np.ndarray
    alphabet: str
    digest: str
    dropped: int


class Task(tasks.Task):
    """The rows of a data set, numbered in their order."""

    name: ClassVar[str] = "dataset"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.format = settings.format
        self.grader = build_grader(settings.grader, **settings.grading)
        if isinstance(self.grader, tool_call.Grader):
            self.tools = self.grader.tools
        read = _read(settings.model_dump_json(), tuple(_stamp(settings)))
        self.table, self.splits, letters, self.data, dropped = read
        self.size = self.table.size
        shown = self.solution(self.table[0])
        self.alphabet = "".join(sorted({*letters, *shown}))
        if dropped:
            self.notes = (f"dataset: {dropped} questions are copies of others and left out",)

    @property
    def different(self) -> int:
        return int((self.splits != DROPPED).sum())

    def draft(self, index: int) -> Draft | None:
        """Row number `index`, or None where it is a copy that was dropped."""
        return self.table[index] if self.splits[index] != DROPPED else None

    def split(self, index: int, canonical: str) -> Split:
        """By the hash of the question, within the part of the data that it is of."""
        split: Split = SPLITS[self.splits[index]]
        return split

    def available(self, split: Split, n: int) -> int:
        """How many questions a split has, as far as n."""
        return min(n, int((self.splits == SPLITS.index(split)).sum()))

    def prompt(self, draft: Draft) -> Prompt:
        """The question behind the system prompt."""
        bare = super().prompt(draft)
        return Prompt(bare.id, bare.text, system=self.settings.system)

    def corpus(self) -> list[str]:
        """The first training questions with their solutions."""
        places = np.flatnonzero(self.splits == SPLITS.index("train"))[:LEARNED]
        drafts = [self.table[int(place)] for place in places]
        return [text for draft in drafts for text in (draft.text, self.solution(draft))]


def _stamp(settings: Settings) -> Iterator[float]:
    """What changes where a file does, so that it is read again."""
    for source in settings.sources.values():
        path = Path(source.path)
        if path.is_file():
            yield from (path.stat().st_mtime, path.stat().st_size)


@functools.lru_cache(maxsize=2)
def _read(settings: str, stamp: tuple[float, ...]) -> Data:
    """The data of these settings, once a process."""
    return read(Settings.model_validate_json(settings))


def read(settings: Settings) -> Data:
    """Go through all rows once.

    Raises:
        BadInput: a row is no question, the grader cannot read its answer, or it is a copy of
            another split's or has another answer, and copies are refused.
    """
    reading = _Reading(settings)
    table = Table(reading.drafts())
    if not table.size:
        raise BadInput(f"task dataset: {settings.path} holds no row")
    splits = _splits(reading)
    dropped = _drop_copies(settings, table, reading.hashes, splits)
    reading.digest.update(splits.tobytes())
    letters = "".join(sorted(reading.letters))
    return Data(table, splits, letters, reading.digest.hexdigest(), dropped)


class _Reading:
    """What is kept of rows while they are walked through: 9 bytes of each."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.hashes, self.codes = array("Q"), array("B")
        self.parts: dict[str, int] = {}
        self.letters: set[str] = set()
        self.digest = hashlib.sha256()
        self.grader = build_grader(settings.grader, **settings.grading)

    def drafts(self) -> Iterator[Draft]:
        """The questions of all sources in their order."""
        reader = RowReader(self.settings)
        for part, source in self.settings.sources.items():
            for row in read_rows(source):
                question = reader(row)
                if len(self.hashes) < COUNTED:
                    self._check(row.where, question.draft)
                self._note(row.where, question, question.part or part)
                yield question.draft

    def _check(self, where: str, draft: Draft) -> None:
        """The answer must be one that its grader and format can read."""
        try:
            self.grader.check(draft.reference or draft.answer)
            final = self.settings.format.final(
                self.settings.format.solution(draft.steps, draft.answer)
            )
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error
        if final is None or self.grader.read(final) is None:
            raise BadInput(f"{where}: grader {self.settings.grader} cannot read {draft.answer!r}")

    def _note(self, where: str, question: Asked, part: str) -> None:
        code = self.parts.setdefault(part, len(self.parts))
        if code > len(WORDS) + len(SPLITS):
            raise BadInput(f"{where}: more different splits than there can be; {_rule()}")
        self.hashes.append(place_of(question.draft.canonical))
        self.codes.append(code)
        self.letters.update(question.draft.text, question.draft.steps, question.draft.answer)
        self.digest.update(json.dumps(question.draft).encode())


def _rule() -> str:
    return f"a part is one of {', '.join(dict.fromkeys([*WORDS, *SPLITS]))}"


def _splits(reading: _Reading) -> np.ndarray:
    """The number of each question's split."""
    hashes = np.frombuffer(reading.hashes, np.uint64)
    codes = np.frombuffer(reading.codes, np.uint8)
    splits = np.empty(len(hashes), np.uint8)
    for part, code in reading.parts.items():
        of_part = codes == code
        splits[of_part] = _within(hashes[of_part], _splits_of(part, {*reading.parts}))
    return splits


def _within(hashes: np.ndarray, among: tuple[Split, ...]) -> np.ndarray:
    """Questions divided among splits in the proportions of their shares."""
    ends = np.cumsum([SHARES[split] for split in among])
    place = np.searchsorted(ends / ends[-1], hashes / 2.0**64, side="right")
    numbers = np.array([SPLITS.index(split) for split in among], np.uint8)
    return np.asarray(numbers[np.minimum(place, len(among) - 1)])


def _splits_of(part: str, parts: set[str]) -> tuple[Split, ...]:
    """Which of our splits a part of the data is for, beside the other parts that there are."""
    if not part:
        return SPLITS
    if unknown := parts - {*WORDS, *SPLITS}:
        raise BadInput(f"task dataset: the part {min(unknown)[:80]!r} is unknown; {_rule()}")
    if parts & {"query", "report"}:
        same_name = [split for split in SPLITS if split == part]
        if not same_name:
            raise BadInput(f"task dataset: parts {', '.join(sorted(parts))} mix two namings")
        return tuple(same_name)
    held_out = bool(parts & {*DEV, "validate"})
    if part == "train":
        return ("train", "query") if held_out else ("train", "query", "validate")
    if part == "test":
        return ("report",) if held_out else ("select", "report")
    return ("validate", "select")


def _drop_copies(settings: Settings, table: Table, hashes: array[int], splits: np.ndarray) -> int:
    """Leave every question in one split, once; BadInput where that needs a rule and none is set.

    Returns how many were dropped.
    """
    keys = np.frombuffer(hashes, np.uint64)
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    groups = itertools.groupby(again, key=lambda place: keys[order[place]])
    dropped, crossing, contradicting = 0, 0, 0
    first = ""
    for _, run in groups:
        places = list(run)
        rows = order[places[0] : places[-1] + 2]
        drafts = [table[int(row)] for row in rows]
        apart = len({*splits[rows].tolist()}) > 1
        differ = len({(draft.answer, draft.reference) for draft in drafts}) > 1
        first = first or (drafts[0].text if apart or differ else "")
        crossing, contradicting = crossing + apart, contradicting + differ
        best = min(rows, key=lambda row: (KEPT.index(SPLITS[splits[row]]), row))
        splits[[row for row in rows if row != best]] = DROPPED
        dropped += len(rows) - 1
    if (crossing or contradicting) and settings.duplicates == "refuse":
        raise BadInput(
            f"task dataset: {crossing} questions are in several splits and {contradicting} have "
            f"several answers, first {first[:80]!r}; write duplicates=drop to leave copies out"
        )
    return dropped
