"""Tables in the containers that people have: the same rows from each, and one line for what is
damaged.
"""

import csv
import gzip
import io
import json

import pytest

from distill.completions import BadInput
from distill.tables import Source, read_rows, value_at

ROWS = [
    {"question": "line\u2028separator", "answer": "a"},
    {"question": 'two\nlines, a comma and a "quote"', "answer": "\u00fc"},
]


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def separated(rows, delimiter=","):
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode("utf-8-sig")


def parquet(rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


WRITTEN = {
    "r.jsonl": jsonl(ROWS),
    "bom.jsonl": b"\xef\xbb\xbf" + jsonl(ROWS),
    "windows.jsonl": jsonl(ROWS).replace(b"\n", b"\r\n"),
    "r.json": json.dumps(ROWS, indent=1).encode(),
    "lines.json": jsonl(ROWS),
    "r.csv": separated(ROWS),
    "r.tsv": separated(ROWS, "\t"),
    "r.parquet": parquet(ROWS),
    "r.jsonl.gz": gzip.compress(jsonl(ROWS)),
    "r.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "r.csv.gz": gzip.compress(separated(ROWS)),
    "no_suffix": jsonl(ROWS),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_every_container_gives_the_same_rows(name, tmp_path):
    (tmp_path / name).write_bytes(WRITTEN[name])
    assert [row.values for row in read_rows(Source(str(tmp_path / name)))] == ROWS


def test_a_folder_that_datasets_saved(tmp_path):
    import datasets

    made = datasets.Dataset.from_list(ROWS)
    made.save_to_disk(str(tmp_path / "one"))
    assert [row.values for row in read_rows(Source(str(tmp_path / "one")))] == ROWS
    datasets.DatasetDict(train=made, test=made.select([1])).save_to_disk(str(tmp_path / "two"))
    source = Source(str(tmp_path / "two"), split="test")
    assert [row.values for row in read_rows(source)] == ROWS[1:]
    with pytest.raises(BadInput, match=r"two: which split\? got '' \(there are: train, test\)"):
        list(read_rows(Source(str(tmp_path / "two"))))


DAMAGED = {
    "cut.jsonl.gz": (gzip.compress(jsonl(ROWS * 99))[:-9], "not a whole .gz file"),
    "no.json.gz": (b"[]", "not a whole .gz file"),
    "cut.parquet": (parquet(ROWS)[:-5], "cannot be read (ArrowInvalid"),
    "twice.csv": (b"a,a\n1,2\n", "line 1: the column 'a' is there twice"),
    "ragged.csv": (b"a,b\n1,2\n3\n", "line 3: 1 fields, the head has 2"),
    "open.csv": (b'a,b\n1,"2\n', "unexpected end of data"),
    "latin.csv": ("a\n\u00fc\n".encode("latin-1"), "can't decode byte 0xfc"),
    "latin.jsonl": ('{"a": "\u00fc"}\n'.encode("latin-1"), "line 1: is not UTF-8"),
    "words.json": (b'["a"]', "item 1: must be an object, got 'a'"),
    "cut.json": (b'[{"a": 1}', "not JSON"),
    "twice.json": (b'[{"a": 1, "a": 2}]', "the key 'a' is there twice"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_one_line(name, tmp_path):
    data, message = DAMAGED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput) as caught:
        list(read_rows(Source(str(tmp_path / name))))
    line = str(caught.value)
    assert line.startswith(str(tmp_path / name)) and message in line and "\n" not in line


@pytest.mark.parametrize("path", ["gone.jsonl", "data/gone.jsonl", "folder"])
def test_what_is_not_there_is_named_with_what_is_read(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match="what is read: .jsonl, .json, .csv"):
        list(read_rows(Source(path)))


def test_a_name_on_the_hub_without_a_network_is_one_line(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match="data set 'nobody/nothing': cannot be read") as caught:
        list(read_rows(Source("nobody/nothing")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a", {"b": [{"c": 1}]}),
        ("a.b.0.c", 1),
        ("a.b.1.c", None),
        ("a.b.-1.c", None),
        ("a.b.x", None),
        ("a.b.0.c.d", None),
        ("x.y", 2),
    ],
)
def test_a_dotted_path_goes_down_into_objects_and_lists(path, value):
    assert value_at({"a": {"b": [{"c": 1}]}, "x.y": 2, "x": {"y": 3}}, path) == value
