"""Recordings in the formats of others, whole but for one thing in one row."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from distill.recordings import Layout, read_recorded
from tests.fuzz import Kind, Outcome, call

ROWS = 3
TURNS = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]
SCORED = {"token": "a", "bytes": [97], "logprob": -0.1}
CHOICE = {
    "index": 0,
    "message": {"role": "assistant", "content": "a", "reasoning_content": "b"},
    "finish_reason": "stop",
    "logprobs": {"content": [SCORED | {"top_logprobs": [SCORED]}]},
}
OUTPUT = {
    "index": 0,
    "text": "a",
    "token_ids": [4, 9],
    "finish_reason": "stop",
    "stop_reason": None,
    "logprobs": [{"4": {"logprob": -0.1}}, {"9": {"logprob": -0.2}}],
}
GOOD: dict[str, dict[str, Any]] = {
    "fields": {
        "prompt": "p",
        "answer": "a",
        "finished": True,
        "attempt": 0,
        "token_ids": [4],
        "logprobs": [{"ids": [4, 5], "values": [-0.1, -3.0]}] * 2,
    },
    "messages": {"messages": TURNS},
    "openai": {"messages": TURNS[:1], "response": {"choices": [CHOICE]}},
    "vllm": {"prompt": "p", "outputs": [OUTPUT]},
}
WORDS = ["no", "1"]
NO_TEXT = [None, 0, 1.5, True, {}, [], [1], "\ud800"]
NO_NUMBER = [None, "x", True, [], {}]
NO_LOGPROB = [*NO_NUMBER, 0.1, float("nan"), float("-inf"), -1e300]
NO_ID = [*NO_NUMBER, -1, 2**31, 1.5]
NO_LIST = [0, True, *WORDS, {"a": 1}]
NO_REASON = [0, True, {}, [], "done", "STOP"]
FAULTS: dict[str, list[tuple[str, list[Any]]]] = {  # where in a row, and what cannot be there
    "fields": [
        ("prompt", NO_TEXT),
        ("answer", [value for value in NO_TEXT if value != []]),
        ("finished", [None, 0, 1, *WORDS, [], {}]),
        ("finish_reason", NO_REASON),
        ("reasoning", [0, True, [1], {"a": 1}]),
        ("attempt", [True, 1.5, *WORDS, [], {}]),
        ("token_ids", NO_LIST),
        ("token_ids.0", NO_ID),
        ("logprobs", [1, True, *WORDS, {"a": 1}, [{}], [[]]]),
        ("logprobs.0.ids", [None, *NO_LIST, [4], [4, 4]]),
        ("logprobs.0.ids.0", NO_ID),
        ("logprobs.0.values", [None, *NO_LIST, [-1], [-0.1, -0.2]]),
        ("logprobs.0.values.1", NO_LOGPROB),
    ],
    "messages": [
        ("messages", [[], [1], TURNS[:1], TURNS[1:], TURNS[::-1], [*TURNS, *TURNS[:1]]]),
        ("messages.0.role", [None, 0, "", "wizard", []]),
        ("messages.1.content", NO_TEXT),
        ("messages.1.reasoning", [0, True, [1], {"a": 1}]),
        ("finish_reason", NO_REASON),
        ("finished", [None, *WORDS]),
    ],
    "openai": [
        ("messages", [None, [], 1, TURNS, [{"role": "user"}]]),
        ("response", [1, [], "no", None]),
        ("response.choices", [None, [], 1, {}, [1], ["a"]]),
        ("response.choices.0.index", [None, "0", 1.5]),
        ("response.choices.0.message", [None, 1, "a", []]),
        ("response.choices.0.message.content", NO_TEXT),
        ("response.choices.0.message.reasoning_content", [0, True, [1], {"a": 1}]),
        ("response.choices.0.finish_reason", NO_REASON),
        ("response.choices.0.logprobs", [1, True, "no", [1]]),
        ("response.choices.0.logprobs.content.0", [1, None, [], {}]),
        ("response.choices.0.logprobs.content.0.token", [None, 1, []]),
        ("response.choices.0.logprobs.content.0.bytes", [1, "a", [256], [1.5]]),
        ("response.choices.0.logprobs.content.0.logprob", NO_LOGPROB[:-1]),
        ("response.choices.0.logprobs.content.0.top_logprobs.0.logprob", NO_LOGPROB[:-1]),
    ],
    "vllm": [
        ("prompt", NO_TEXT),
        ("outputs", [[], [1], ["a"], [None]]),
        ("outputs.0.text", NO_TEXT),
        ("outputs.0.finish_reason", NO_REASON),
        ("outputs.0.token_ids", NO_LIST),
        ("outputs.0.token_ids.0", NO_ID),
        ("outputs.0.logprobs", [1, True, "no", {"a": 1}, [1], [{}], [{"4": {"logprob": -1}}]]),
        ("outputs.0.logprobs.0", [None, 1, {}, {"x": {"logprob": -1}}, {"-1": {"logprob": -1}}]),
        ("outputs.0.logprobs.0.4.logprob", NO_LOGPROB),
    ],
}
ALL = [
    (name, place, value)
    for name, faults in FAULTS.items()
    for place, values in faults
    for value in values
]
CASE = st.tuples(
    st.sampled_from(ALL),
    st.integers(0, ROWS - 1),
    st.sampled_from(["r.jsonl", "r.json", "r.jsonl.gz", "r.json.gz"]),
    st.booleans(),
)


def put(row: Any, place: str, value: Any) -> Any:
    """The row with a value at a dotted place."""
    name, _, rest = place.partition(".")
    key = int(name) if isinstance(row, list) else name
    row[key] = put(row[key], rest, value) if rest else value
    return row


def attempt(case: Any, folder: Path) -> Outcome:
    (name, place, value), number, file, detected = case
    rows = [copy.deepcopy(GOOD[name]) for _ in range(ROWS)]
    put(rows[number], place, value)
    listed = file.startswith("r.json") and not file.startswith("r.jsonl")
    text = json.dumps(rows) if listed else "\n".join(map(json.dumps, rows)) + "\n"
    data = text.encode()
    (folder / file).write_bytes(gzip.compress(data) if file.endswith(".gz") else data)
    # What is wrong in the first row may be what it would be detected by.
    layout = Layout(format="detect" if detected and number else name)  # type: ignore[arg-type]
    outcome = call(lambda: read_recorded(folder / file, layout))
    where = f"{'item' if listed else 'line'} {number + 1}: "
    if outcome.code == 2 and where not in outcome.error:
        return Outcome(2, "", outcome.error, f"another place than {where!r}: {outcome.error[:200]}")
    return outcome


def fine(case: Any, folder: Path) -> str:
    return "taken in silence: one thing is wrong in each"


KIND = Kind(CASE, attempt, fine)
