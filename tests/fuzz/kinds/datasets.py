"""Data sets, whole but for one thing: a row, a column, a setting, or the file itself."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from distill.completions import BadInput
from experiments.tasks.dataset import Settings, Task
from tests.fuzz import Kind, Outcome, call

ROWS = 12
ODD = [None, "", " ", [], {}, ["q"], {"a": 1}, float("nan"), "\ud800"]
OPTIONS = ["x", "y", "z"]
IN_ROW = {  # a column, and what cannot be there
    "question": ODD,
    "answer": [*ODD, "no number", "1 or 2", "7"],
    "on": ODD,
    "for": [*ODD, "lost"],
    "text": ODD,
}
IN_OPTIONS = {
    "options": [None, 1, "xy", [], ["x"], ["x", "x"], ["x", None], {"text": ["x"]}, {}],
    "answer": [None, -1, 3, "Q", "xyz", [], 1.5],
}
SETTINGS = {
    "path": ["gone.jsonl", ".", "no/such.csv"],
    "question": ["quest", "question.0.text"],
    "answer": ["answers"],
    "solution": ["steps"],
    "reference": ["tests"],
    "cluster": ["clusters"],
    "split": ["question"],
    "behind": ["####"],
    "template": ["{nothing}"],
    "grader": ["numbers", ""],
    "grading": [{"depth": 1}, {"relative": 7}],
    "where": [{"nothing": 1}, {"for": "nobody"}],
    "test_path": ["gone.jsonl"],
}
BYTES = [b"", b"\xff", b"[", b"{", b"null\n", b"[1]", b"\x1f\x8b\x08", b"PAR1", b'"a"\n']
FILES = ("d.jsonl", "d.json", "d.csv", "d.parquet", "d.jsonl.gz")
OTHERS = ("d.json", "d.csv", "d.tsv", "d.parquet", "d.jsonl.gz", "d.csv.gz")
EMPTY = [None, "", " "]  # which every kind of file can hold
CASE = st.one_of(
    st.sampled_from([("row", name, value) for name in IN_ROW for value in IN_ROW[name]]),
    st.sampled_from([("option", name, value) for name in IN_OPTIONS for value in IN_OPTIONS[name]]),
    st.sampled_from([("setting", name, value) for name in SETTINGS for value in SETTINGS[name]]),
    st.sampled_from([("bytes", name, data) for name in FILES for data in BYTES]),
    st.sampled_from([(file, name, value) for file in OTHERS for name in IN_ROW for value in EMPTY]),
    st.sampled_from([("copy", "", ""), ("cut", "", ""), ("ragged", "", "")]),
)
WHERE = st.tuples(CASE, st.integers(1, ROWS - 1))


def good(number: int) -> dict[str, Any]:
    return {
        "question": f"What is {number}+1?",
        "answer": number + 1,
        "on": f"c{number % 3}",
        "for": "test" if number % 3 else "train",
        "text": "Sums.",
    }


def attempt(case: Any, folder: Path) -> Outcome:
    (what, name, value), number = case
    path, rows = folder / "d.jsonl", [good(place) for place in range(ROWS)]
    settings: dict[str, Any] = {"grader": "number"}
    settings |= {"cluster": "on", "split": "for", "template": "{text} {question}"}
    if what in ("row", *OTHERS):
        rows[number][name] = value
    if what == "option":
        rows = [row | {"options": OPTIONS, "answer": 1} for row in rows]
        rows[number][name] = value
        settings |= {"choices": "options", "grader": "choice"}
    if what == "copy":
        rows[number] = rows[number - 1] | {"answer": 99}
    data = written("d.jsonl", rows)
    if what == "cut":
        path, data = folder / "d.jsonl.gz", gzip.compress(data)[:-number]
    if what == "ragged":
        path, data = folder / "d.csv", _csv(rows, number)
    if what in OTHERS:
        path, data = folder / what, written(what, rows)
    if what == "bytes":
        path, data = folder / name, value
    path.write_bytes(data)
    settings["path"] = str(path)
    if what == "setting":
        settings[name] = str(folder / value) if name.endswith("path") else value
    return call(lambda: Task(_settings(settings)))


def _settings(values: dict[str, Any]) -> Settings:
    try:
        return Settings(**values)
    except ValueError as error:  # pydantic's, which the resolver makes a line of
        raise BadInput("a wrong setting") from error


def written(name: str, rows: list[dict[str, Any]]) -> bytes:
    """Rows as a file of that name holds them."""
    if name.endswith(".gz"):
        return gzip.compress(written(name.removesuffix(".gz"), rows))
    if name.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts = [{key: None if v is None else str(v) for key, v in row.items()} for row in rows]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(texts), sink)
        return bytes(sink.getvalue().to_pybytes())
    if name.endswith("sv"):
        return _csv(rows, delimiter="\t" if name.endswith(".tsv") else ",")
    if name.endswith(".json"):
        return json.dumps(rows).encode()
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _csv(rows: list[dict[str, Any]], number: int = -1, delimiter: str = ",") -> bytes:
    """Rows of a table, of which one is too short."""
    text = io.StringIO()
    table = csv.writer(text, delimiter=delimiter)
    table.writerow(rows[0])
    for place, row in enumerate(rows):
        table.writerow([*row.values()][: 3 if place == number else None])
    return text.getvalue().encode()


def fine(case: Any, folder: Path) -> str:
    return "taken in silence: one thing is wrong in each"


KIND = Kind(WHERE, attempt, fine)
