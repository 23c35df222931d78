"""Tables that anybody may have written, one row at a time: JSONL, a JSON list, CSV, Parquet (text
also as .gz), a folder that `datasets` saved, or a name on the hub.

A row is an object with the place that errors name. Files are read as they are walked through and
never whole, but for a JSON list, which cannot be.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import re
import reprlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any, NamedTuple

from pydantic import Field

from distill.completions import BadInput

LONGEST = 2**27  # bytes of a line
LARGEST = 2**29  # bytes of a JSON list
BATCH = 512  # rows of a Parquet file or a folder that are in memory at once
HALF = re.compile("[\ud800-\udfff]")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
READ = (
    ".jsonl, .json, .csv, .tsv (each also .gz), .parquet, a folder that datasets saved, owner/name"
)


Value = str | Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""What a column may be asked to hold, as a setting."""


class Row(NamedTuple):
    """A row and its place, as errors begin with it."""

    where: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where rows are: a file, a folder, or a name on the hub.

    `subset` and `split`: which of those that a folder or a name holds. `where`: what columns must
    hold for a row to count, all others are passed over.
    """

    path: str
    subset: str = ""
    split: str = ""
    where: Mapping[str, str | int] = field(default_factory=dict)


def read_rows(source: Source) -> Iterator[Row]:
    """The rows of a source in their order.

    Raises:
        BadInput: it is not there, is damaged, or holds what is no row, in one line with the place;
            or a column of `where` is in no row.
    """
    for row in _all_rows(source):
        if missing := [name for name in source.where if name not in row.values]:
            raise BadInput(f"{row.where}: has no column {missing[0]!r} ({columns(row.values)})")
        if all(str(row.values[name]) == str(wanted) for name, wanted in source.where.items()):
            yield row


def columns(row: Mapping[str, Any]) -> str:
    """The columns that a row has, as errors name them.

    Args:
        row: of a file.
    """
    return f"there are: {', '.join(row)}"[:300] if row else "it has none"


def _all_rows(source: Source) -> Iterator[Row]:
    path = Path(source.path)
    if path.is_file():
        kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
        reader = {".csv": _csv, ".tsv": _csv, ".json": _json, ".parquet": _parquet}.get(
            kind, _lines
        )
        return reader(path)
    if path.is_dir():
        return _saved(source)
    if HUB_NAME.fullmatch(source.path) and path.suffix.lower() not in (".jsonl", ".json", ".csv"):
        return _hub(source)
    raise BadInput(f"{source.path}: no such file or folder; what is read: {READ}")


# Files of JSON


def lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""The lines of a UTF-8 file by their numbers from 1.

    Only "\n" ends a line: U+2028 and its like are text. A byte-order mark at the head is left out.

    Args:
        path: of a text file, or one compressed by gzip (`.gz`).

    Raises:
        BadInput: a line is not UTF-8, or too long.
    """
    with _opened(path) as file:
        number = 0
        while line := file.readline(LONGEST + 1):
            number += 1
            where = f"{path}: line {number}"
            if len(line) > LONGEST:
                raise BadInput(f"{where}: is longer than {LONGEST // 2**20} MiB")
            yield number, _decoded(where, line, number == 1)


def _decoded(where: str, data: bytes, first: bool) -> str:
    try:
        return data.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{where}: is not UTF-8 ({error.reason} at byte {error.start})") from None


def _lines(path: Path) -> Iterator[Row]:
    for number, line in lines(path):
        if line.strip():
            where = f"{path}: line {number}"
            yield Row(where, parse_object(where, line))


def _json(path: Path) -> Iterator[Row]:
    """A list of objects; a file that does not begin as one is read by its lines."""
    with _opened(path) as file:
        if not file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            yield from _lines(path)
            return
    with _opened(path) as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise BadInput(f"{path}: a list of more than {LARGEST // 2**20} MiB; write it as JSONL")
    for number, value in enumerate(parse_json(str(path), _decoded(str(path), data, True)), 1):
        yield Row(f"{path}: item {number}", _object(f"{path}: item {number}", value))


def parse_object(where: str, line: str) -> dict[str, Any]:
    """The JSON object in a line.

    Args:
        where: the place that an error begins with.
        line: of a file.

    Raises:
        BadInput: it holds anything else.
    """
    return _object(where, parse_json(where, line))


def parse_json(where: str, text: str) -> Any:
    """The JSON value in a text.

    Args:
        where: what a message begins with.
        text: JSON without a key that is there twice.

    Raises:
        BadInput: it holds none.
    """
    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: not JSON ({error})") from None


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: must be an object, got {reprlib.repr(value)}")
    return value


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object of its pairs.

    Args:
        pairs: keys with values, in the order of the file.

    Raises:
        ValueError: a key is there twice.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in made if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return made


# Other files and folders


def _csv(path: Path) -> Iterator[Row]:
    """A table with a head; every row has as many fields as it, and each is a text."""
    csv.field_size_limit(LONGEST)
    tabs = ".tsv" in path.suffixes[-2:]
    with _opened(path) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as text:
        table = csv.reader(text, strict=True, delimiter="\t" if tabs else ",")
        try:
            head = next(table, [])
            if twice := [name for name in head if head.count(name) > 1]:
                raise BadInput(f"{path}: line 1: the column {twice[0]!r} is there twice")
            for fields in table:
                where = f"{path}: line {table.line_num}"
                if fields and len(fields) != len(head):
                    raise BadInput(f"{where}: {len(fields)} fields, the head has {len(head)}")
                if fields:
                    yield Row(where, dict(zip(head, fields, strict=True)))
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: behind line {table.line_num}: {error}") from None


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with _one_line(str(path)):
        number = 0
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}: row {number}", row)


def _saved(source: Source) -> Iterator[Row]:
    """A folder of `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    folder = Path(source.path)
    marks = ("state.json", "dataset_dict.json")
    if not any((folder / name).is_file() for name in marks):
        raise BadInput(f"{folder}: a folder without {' and '.join(marks)}; what is read: {READ}")
    from datasets import load_from_disk

    with _one_line(str(folder)):
        yield from _dataset_rows(source, load_from_disk(str(folder)))


def _hub(source: Source) -> Iterator[Row]:
    """A data set by its name on the hub, from the cache of `datasets` where it is there."""
    from datasets import load_dataset

    with _one_line(f"data set {source.path!r}"):
        yield from _dataset_rows(source, load_dataset(source.path, source.subset or None))


def _dataset_rows(source: Source, dataset: Any) -> Iterator[Row]:
    if hasattr(dataset, "keys"):
        splits = [*dataset.keys()]
        if not source.split and len(splits) > 1 or source.split and source.split not in splits:
            raise BadInput(
                f"{source.path}: which split? got {source.split!r} (there are: {', '.join(splits)})"
            )
        dataset = dataset[source.split or splits[0]]
    number = 0
    for batch in dataset.iter(BATCH):
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield Row(f"{source.path}: row {number}", dict(zip(batch, values, strict=True)))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked where it is .gz; BadInput where that breaks off."""
    opened: IO[bytes] = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[assignment]
    try:
        with opened as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{path}: not a whole .gz file ({error})") from None


@contextlib.contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Whatever a library raises at somebody's file is a BadInput of one line."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        raise BadInput(f"{where}: cannot be read ({type(error).__name__}: {line})") from error


# Values in a row


def value_at(row: Any, path: str) -> Any:
    """What is at a dotted path: names go down into objects and numbers into lists; None where
    there is nothing. A column that has the whole path for its name comes first.

    Args:
        row: a table's row, or anything that JSON holds.
        path: names and places in lists, as `choices.0.text`.
    """
    if isinstance(row, Mapping) and path in row:
        return row[path]
    for name in path.split("."):
        if isinstance(row, Mapping):
            row = row.get(name)
        elif isinstance(row, list) and re.fullmatch("[0-9]{1,9}", name) and int(name) < len(row):
            row = row[int(name)]
        else:
            return None
    return row


def text_of(where: str, row: Mapping[str, Any], path: str) -> str:
    """The string at a dotted path of a row.

    Args:
        where: file and row, for messages.
        row: as a reader gave it.
        path: `a.b.c`.

    Raises:
        BadInput: there is none, or one that no file can hold.
    """
    value = value_at(row, path)
    if not isinstance(value, str):
        there = f" ({columns(row)})" if value is None else ""
        raise BadInput(f"{where}: {path} must be a string, got {reprlib.repr(value)}{there}")
    return whole_text(where, path, value)


def whole_text(where: str, name: str, text: str) -> str:
    """The text, if a file can hold it.

    Args:
        where: file and row, for messages.
        name: of the field.
        text: any string.

    Raises:
        BadInput: it holds half a character (a surrogate without its other half).
    """
    if HALF.search(text):
        raise BadInput(
            f"{where}: {name} holds half a character (a surrogate without its other half)"
        )
    return text
