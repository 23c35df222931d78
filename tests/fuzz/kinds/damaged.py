"""A finished study of which one file was damaged, in its store or in its folder; `verify`, and
`run` once more.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import shutil
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from tests.experiments.small import STUDY
from tests.fuzz import Kind, Outcome, command
from tests.fuzz.kinds.runs import run


class Case(NamedTuple):
    """Which file, where in it (0 to 1), and what is done there: `flip` a bit, `cut` the rest off,
    or `drop` bytes.
    """

    file: int
    place: float
    how: str
    bit: int


@functools.cache
def files() -> list[str]:
    """Every file of the study and its store that holds anything, but locks."""
    there = (
        path.relative_to(run())
        for path in sorted(run().rglob("*"))
        if path.is_file() and path.stat().st_size
    )
    return [path.as_posix() for path in there if path.suffix != ".lock"]


def digests(root: Path) -> dict[str, str]:
    return {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in files()}


@functools.cache
def whole() -> dict[str, str]:
    """The digest of each, undamaged."""
    return digests(run())


def _damage(path: Path, case: Case) -> None:
    data, at = path.read_bytes(), int(case.place * (path.stat().st_size - 1))
    rest = {
        "flip": bytes([data[at] ^ 1 << case.bit]) + data[at + 1 :],
        "cut": b"",
        "drop": data[at + 1 + case.bit :],
    }
    path.write_bytes(data[:at] + rest[case.how])


def attempt(case: Case, folder: Path) -> Outcome:
    """The study is verified as it is, and then run again: both say what is wrong, or nothing is
    wrong any more.
    """
    shutil.copytree(run(), folder, dirs_exist_ok=True)
    name = files()[case.file % len(files())]
    _damage(folder / name, case)
    verified = command("verify", str(folder / "quickstart"), codes=(0, 1, 2))
    again = command("run", "quickstart", "--runs", str(folder), "--workers", "1", *STUDY)
    missed = (
        f"silence: verify passes with {name} damaged"
        if verified.code == 0 and not _is_note(name)
        else ""
    )
    return dataclasses.replace(again, fault=verified.fault or again.fault or missed)


def _is_note(name: str) -> bool:
    """Notes of where the same result may lie, and of which file a study's name is: no result
    follows from them, and one that leads nowhere is not followed.
    """
    return "/.alike/" in name or "/.studies/" in name


def fine(case: Case, folder: Path) -> str:
    """Where the run ended well, every file is as it was, or `verify` still says that one is not: a
    run with nothing left to do opens no model. A note may have stayed as it is.
    """
    now = digests(folder)
    wrong = [name for name, before in whole().items() if now[name] != before and not _is_note(name)]
    if not wrong or command("verify", str(folder / "quickstart"), codes=(0, 1, 2)).code:
        return ""
    return f"silence: {wrong} differ after a run, and verify passes"


CASES = st.builds(
    Case,
    st.integers(0, 10**6),
    st.floats(0, 1),
    st.sampled_from(["flip", "cut", "drop"]),
    st.integers(0, 7),
)
KIND = Kind(CASES, attempt, fine, few=6, shrinks=False)
