"""Run folders whose JSON was altered at one place, with digests made to fit or not; `verify` with
the store, `diff`.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from experiments import cli
from tests.experiments.forger import reseal
from tests.experiments.small import STUDY
from tests.fuzz import Kind, Outcome, command

FILES = (
    "manifest.json",
    "arms.json",
    "analysis.json",
    "card.json",
    "measures.json",
    "results.json",
    "config.json",
)
GONE = object()
VALUES: list[Any] = [
    GONE,
    None,
    True,
    False,
    0,
    1,
    -1,
    7,
    10**30,
    0.5,
    -0.5,
    1e300,
    "",
    "x",
    "0",
    "../..",
    "a\nb",
    "[b]",
    "\x1b[31m",
    "\ud800",
    [],
    [[]],
    ["x"],
    {},
    {"x": 1},
    [None] * 3,
]


class Case(NamedTuple):
    """What becomes of one value: in which file and where (a number a level), and whether digests
    are made to fit.
    """

    file: str
    way: tuple[int, ...]
    depth: int
    value: int
    careful: bool


@functools.cache
def run() -> Path:
    """A small run and its store, made once; it is verified once as well, for the first time imports
    what others find there.
    """
    runs = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, runs, ignore_errors=True)
    assert cli.main(["run", "quickstart", "--runs", str(runs), "--workers", "1", *STUDY]) == 0
    assert cli.main(["verify", str(runs / "quickstart")]) == 0
    return runs


def attempt(case: Case, folder: Path) -> Outcome:
    home = Path(shutil.copytree(run() / "quickstart", folder / "quickstart"))
    (folder / "store").symlink_to(run() / "store")
    before = (home / case.file).read_bytes()
    data = json.loads(before)
    _alter(data, case)
    (home / case.file).write_text(json.dumps(data, indent=2 if case.file == "config.json" else 1))
    if case.careful:
        try:
            reseal(home)
        except (KeyError, TypeError, AttributeError, IndexError, OSError):
            pass  # too broken for a forger to go on
    compared = command("diff", str(home), str(run() / "quickstart"))
    verified = command("verify", str(home), codes=(0, 1, 2))
    fault = verified.fault or compared.fault
    return dataclasses.replace(verified, code=2 if verified.code else 0, fault=fault)


def _alter(data: Any, case: Case) -> None:
    """Go down a way, as deep as it says and there is, and alter what lies there."""
    for level, number in enumerate(case.way):
        keys = [*data] if isinstance(data, dict) else range(len(data))
        key = keys[number % len(keys)]
        inner = data[key]
        if level < case.depth and isinstance(inner, dict | list) and inner:
            data = inner
            continue
        value = VALUES[case.value]
        if value is GONE:
            del data[key]
        else:
            data[key] = value
        return


def fine(case: Case, folder: Path) -> str:
    """What was accepted must say the same as before; which packages were installed is the author's
    word alone.
    """
    before, after = (
        json.loads((home / "quickstart" / case.file).read_text()) for home in (run(), folder)
    )
    if case.file == "manifest.json":
        before, after = (
            {name: value for name, value in one.items() if name not in ("lock", "files")}
            for one in (before, after)
        )
    # A forger puts back what was taken out at another place, and there it says the same.
    same = json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)
    return "" if same else f"{case.file} was altered, and verified"


KIND = Kind(
    st.builds(
        Case,
        st.sampled_from(FILES),
        st.tuples(*[st.integers(0, 10**6)] * 8),
        st.integers(0, 7),
        st.integers(0, len(VALUES) - 1),
        st.booleans(),
    ),
    attempt,
    fine,
)
