"""Recordings: a line of odd values in odd places, or good ones with bytes cut out and put in."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from distill.recordings import read_recorded
from tests.fuzz import Kind, Outcome, call

ODD = st.recursive(
    st.sampled_from(
        [None, True, False, 0, -1, 7, 2**31, 10**30, 1.5, -0.5, -0.0, math.nan, -math.inf, -1e300]
    )
    | st.sampled_from(["", "a", "no", "\u2028", "\x85", "\ud800", "\ufeff", "\x00"]),
    lambda one: (
        st.lists(one, max_size=3)
        | st.dictionaries(st.sampled_from(["ids", "values", "x"]), one, max_size=2)
    ),
    max_leaves=4,
)
IDS, VALUES = st.lists(st.integers(0, 9), max_size=3), st.lists(st.floats(-9, 0), max_size=3)
ROW = st.fixed_dictionaries({"ids": IDS | ODD, "values": VALUES | ODD})
LINE = st.fixed_dictionaries(
    {"prompt": st.just("p") | ODD, "answer": st.text() | ODD},
    optional={
        "finished": st.booleans() | ODD,
        "token_ids": IDS | ODD,
        "logprobs": st.lists(ROW, max_size=3) | ODD,
    },
)
CUT = st.none() | st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=4))


def attempt(case: Any, folder: Path) -> Outcome:
    line, cut = case
    data = json.dumps(line, ensure_ascii="\ud800" in repr(line) or cut is None).encode(
        errors="surrogatepass"
    )
    if cut:
        at, out, put = int(cut[0] * len(data)), cut[1], cut[2]
        data = data[:at] + put + data[at + out :]
    (folder / "r.jsonl").write_bytes(data)
    return call(lambda: read_recorded(folder / "r.jsonl"))


def fine(case: Any, folder: Path) -> str:
    """Of a line that was taken whole, every value must be one that the format names."""
    line, cut = case
    if cut:
        return ""
    ids, rows = line.get("token_ids") or [], line.get("logprobs") or []
    wrong = [
        name for name in ("prompt", "answer") if not _text(line[name], several=name == "answer")
    ]
    wrong += ["finished"] if type(line.get("finished", True)) is not bool else []
    wrong += ["token_ids"] if not all(type(one) is int and 0 <= one < 2**31 for one in ids) else []
    for row in rows:
        wrong += (
            ["ids"] if not all(type(one) is int and 0 <= one < 2**31 for one in row["ids"]) else []
        )
        wrong += ["values"] if not all(_logprob(one) for one in row["values"]) else []
        wrong += (
            ["widths"]
            if not len(row["ids"]) == len(row["values"]) == len(rows[0]["ids"]) > 0
            else []
        )
    wrong += ["rows"] if rows and len(rows) != len(ids) + line.get("finished", True) else []
    return f"taken in silence: {', '.join(wrong)}" if wrong else ""


def _text(value: Any, several: bool) -> bool:
    """A text that a file can hold, or a list of them where several answers may stand."""
    if several and isinstance(value, list) and value:
        return all(_text(inner, False) for inner in value)
    return isinstance(value, str) and "\ud800" not in value


def _logprob(value: Any) -> bool:
    return type(value) in (int, float) and -3.5e38 < value <= 0


KIND = Kind(st.tuples(LINE, CUT), attempt, fine)
