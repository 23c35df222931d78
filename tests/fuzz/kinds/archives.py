"""Exports with one thing wrong: names, kinds, sizes, flags and packings in either header, contents,
places, the directory and its end, or any bytes; `verify` and `diff`.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from hypothesis import strategies as st

from experiments.results import archive
from tests.fuzz import Kind, Outcome, command
from tests.fuzz.kinds.runs import run

NAMES = [
    *("", ".", "..", "../x", "/tmp/x", "a/b", "..\\x", "C:x", ".bashrc", "setup.py", "wandb/"),
    *(
        "CARD.MD",
        "card.md ",
        "card.md\0.exe",
        "card\n.md",
        "[b]card.md",
        "\u202ecard.md",
        "x" * 300,
    ),
    *("card.md", "outcomes.json", "manifest.json.sig", "tracking.json", "store/x", "x" * 300),
]
MODES = [0, 0o010000, 0o020000, 0o040000, 0o060000, 0o100644, 0o104777, 0o120777, 0o140000]
CONTENTS = [b"", b"x", b"{}", b"[" * 100_000, b"PAR1", b"\0" * 2**25, b"PK\x05\x06" + bytes(18)]
PACKINGS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
NUMBERS = [0, 1, 2, 8, 9, 12, 14, 99, 255, 2**15, 2**16 - 1, 2**31, 2**32 - 1]
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
FIELDS = {  # offset and bytes of each field of a header
    LOCAL: [(4, 2), (6, 2), (8, 2), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)],
    CENTRAL: [
        *((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2)),
        *((32, 2), (34, 2), (36, 2), (38, 4), (42, 4)),
    ],
    END: [(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)],
}
HOW = ("name", "mode", "content", "packing", "twice", "more", "less", "remark", "extra", "order")


class Case(NamedTuple):
    """What is done: to the file `which` of an export before it is packed (a word of `HOW`), to a
    field of a header (its mark), or to bytes of the whole (`flip`, `cut`, `drop`, `put`, `add`).
    `value` says which of what is listed for that; `place` is from 0 to 1.
    """

    how: str | bytes
    which: int
    value: int
    place: float
    put: bytes


@functools.cache
def files() -> dict[str, bytes]:
    """The files of an honest export, by name."""
    with tempfile.TemporaryDirectory() as folder:
        archive.pack(run() / "quickstart", Path(folder) / "run.zip")
        with zipfile.ZipFile(Path(folder) / "run.zip") as export:
            return {name: export.read(name) for name in export.namelist()}


def _pick(values: list[Any], number: int) -> Any:
    return values[number % len(values)]


def _packed(case: Case) -> bytes:
    """An archive of which one file is other than it should be."""
    members = [(zipfile.ZipInfo(name), data) for name, data in files().items()]
    for info, _ in members:
        info.compress_type = zipfile.ZIP_DEFLATED
    at = case.which % len(members)
    info, data = members[at]
    match case.how:
        case "name":
            info.filename = _pick(NAMES, case.value)
        case "mode":
            info.external_attr = _pick(MODES, case.value) << 16
        case "content":
            members[at] = info, _pick(CONTENTS, case.value)
        case "packing":
            info.compress_type = _pick(PACKINGS, case.value)
        case "twice":
            members.append((zipfile.ZipInfo(info.filename), _pick([data, b"x"], case.value)))
        case "more":
            members.insert(at, (zipfile.ZipInfo("x"), _pick(CONTENTS, case.value)))
            members[at][0].filename = _pick(NAMES, case.which + case.value)
        case "less":
            del members[at]
        case "remark":
            info.comment = case.put
        case "extra":
            info.extra = b"up" + len(case.put).to_bytes(2, "little") + case.put
        case "order":
            members.insert(_pick([*range(len(members))], case.value), members.pop(at))
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as made:
        for info, data in members:
            made.writestr(info, data)
        made.comment = case.put if case.how == "remark" and case.value % 2 else b""
    return sink.getvalue()


def _altered(case: Case) -> bytes:
    """The bytes of an archive of which one header says something else, or any bytes are others."""
    data = bytearray(_packed(case))
    at = int(case.place * (len(data) - 1))
    match case.how:
        case bytes(mark):
            offset, size = _pick(FIELDS[mark], case.value)
            start = -1
            for _ in range(1 if mark == END else 1 + case.which % len(files())):
                start = data.find(mark, start + 1)
            value = _pick(NUMBERS, int(case.place * 1000)) % 256**size
            data[start + offset : start + offset + size] = value.to_bytes(size, "little")
        case "flip":
            data[at] ^= 1 << case.value % 8
        case "cut":
            del data[at:]
        case "drop":
            del data[at : at + 1 + case.value % 40]
        case "put":
            data[at:at] = case.put
        case "add":
            data = bytearray(case.put) + data if case.value % 2 else data + case.put
    return bytes(data)


def attempt(case: Case, folder: Path) -> Outcome:
    """Nothing may be left or written where an archive lies or is unpacked."""
    path, below = folder / "run.zip", folder / "temporary"
    path.write_bytes(_altered(case))
    below.mkdir()
    with mock.patch.object(tempfile, "tempdir", str(below)):
        compared = command("diff", str(path), str(run() / "quickstart"))
        verified = command("verify", str(path), codes=(0, 1, 2))
    left = sorted(each.name for each in folder.rglob("*"))
    silent = "" if left == ["run.zip", "temporary"] else f"silence: {left} are there"
    fault = verified.fault or compared.fault or silent
    return dataclasses.replace(verified, code=2 if verified.code else 0, fault=fault)


def fine(case: Case, folder: Path) -> str:
    """What was accepted holds the same files, each once; the lock is in the manifest as well, and
    may be left out.
    """
    with zipfile.ZipFile(folder / "run.zip") as export:
        there = [(info.filename, export.read(info)) for info in export.infolist()]
    names = [name for name, _ in there]
    expected = [item for item in files().items() if item[0] != archive.LOCK or item[0] in names]
    return (
        ""
        if sorted(there) == sorted(expected)
        else f"silence: {case.how!r} altered an export, and verify passes"
    )


BYTES = ("flip", "cut", "drop", "put", "add")
CASES = st.builds(
    Case,
    st.sampled_from([*HOW, *BYTES, *FIELDS, *FIELDS]),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=40),
)
KIND = Kind(CASES, attempt, fine, shrinks=False)
