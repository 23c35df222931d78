"""Recordings: every line that JSON and the format allow is read, and every other one is named."""

import json

import numpy as np
import pytest

from distill.completions import BadInput, Completion, Interface, Logprobs, Prompt, write_completions
from distill.recordings import read_recorded

FIT = "token_ids and logprobs do not fit together"
RANGE = "ids must be at least 0, and values finite and at most 0"


def line(**more):
    return json.dumps({"prompt": "p", "answer": "a"} | more, ensure_ascii=False)


def scored(ids=(1, 2), values=(-0.1, -2.5), **more):
    """One token and its end, with logprobs of both."""
    rows = [{"ids": list(ids), "values": list(values)}] * 2
    return line(**{"token_ids": [7], "logprobs": rows} | more)


GOOD = {
    "the least": (line(), "a"),
    "a line separator": (line(answer="x\u2028y"), "x\u2028y"),
    "a paragraph separator": (line(answer="x\u2029y"), "x\u2029y"),
    "a next-line control": (line(answer="x\x85y"), "x\x85y"),
    "escaped control letters": (
        '{"prompt": "p", "answer": "x\\u000b\\u000c\\u001c"}',
        "x\x0b\x0c\x1c",
    ),
    "a byte-order mark": ("\ufeff" + line(), "a"),
    "a carriage return": (line() + "\r", "a"),
    "empty lines": ("\n \n" + line() + "\n\n", "a"),
    "an empty answer": (line(answer=""), ""),
    "both halves of a letter": ('{"prompt": "p", "answer": "\\ud83d\\ude00"}', "\U0001f600"),
    "an answer of a million letters": (line(answer="x" * 10**6), "x" * 10**6),
    "the recorder's own": (line(temperature=0.7, usage={"tokens": [1, {"deep": None}]}), "a"),
    "unfinished": (line(finished=False), "a"),
    "token ids alone": (line(token_ids=[0, 2**31 - 1]), "a"),
    "no logprobs": (line(token_ids=None, logprobs=None), "a"),
    "logprobs": (scored(), "a"),
    "whole numbers as logprobs": (scored(values=(0, -30)), "a"),
    "the same line twice": (line() + "\n" + line(), "a"),
}

BAD = {
    "half an object": ('{"prompt": ', "not JSON"),
    "a word": ("prompt", "not JSON"),
    "two objects": (line() + line(), "not JSON"),
    "a real line break in a string": ('{"prompt": "p", "answer": "a\nb"}', "not JSON"),
    "a bare control letter": ('{"prompt": "p", "answer": "a\x0bb"}', "not JSON"),
    "a list": ("[1]", "must be an object, got [1]"),
    "a number": ("7", "must be an object, got 7"),
    "null": ("null", "must be an object, got None"),
    "lists without bottom": ("[" * 100_000, "not JSON"),
    "objects without bottom": ('{"a":' * 100_000, "not JSON"),
    "a number without end": ('{"prompt": "p", "answer": "a", "n": ' + "1" * 5000 + "}", "not JSON"),
    "no prompt": ('{"answer": "a"}', "prompt must be a string, got None"),
    "a prompt of another kind": (line(prompt=["p"]), "prompt must be a string, got ['p']"),
    "an answer of another kind": (line(answer=7), "answer must be a string, got 7"),
    "a deep answer": (line(answer=json.loads("[" * 200 + "]" * 200)), "answer must be a string"),
    "half a letter": ('{"prompt": "p", "answer": "\\ud800"}', "answer holds half a character"),
    "half a letter asked": (
        '{"prompt": "\\udc00", "answer": "a"}',
        "prompt holds half a character",
    ),
    "an attempt that is a word": (line(attempt="1"), "attempt must be a whole number, got '1'"),
    "an attempt without its number": (
        line(attempt=0) + "\n" + line(answer="b"),
        "has no attempt; others to the same prompt have one",
    ),
    "a key twice": (
        '{"prompt": "p", "answer": "a", "answer": "a"}',
        "the key 'answer' is there twice",
    ),
    "a key twice further down": (
        '{"prompt": "p", "answer": "a", "x": [{"y": 1, "y": 2}]}',
        "'y' is there twice",
    ),
    "finished as a word": (line(finished="no"), "finished must be true or false, got 'no'"),
    "finished as a number": (line(finished=1), "finished must be true or false, got 1"),
    "finished as nothing": (line(finished=None), "finished must be true or false, got None"),
    "ids as a word": (line(token_ids="12"), FIT),
    "ids as words": (line(token_ids=["1"]), "'1' where a whole number should be"),
    "ids as an object": (line(token_ids={"1": 2}), FIT),
    "ids that are fractions": (line(token_ids=[1.0]), "1.0 where a whole number should be"),
    "ids that are true": (line(token_ids=[True]), "True where a whole number should be"),
    "ids below zero": (line(token_ids=[-1]), "a token id is 0 to 2147483647, got -1"),
    "ids beyond int32": (line(token_ids=[99999999999]), "got 99999999999"),
    "logprobs as a word": (line(token_ids=[7], logprobs="no"), FIT),
    "logprobs as numbers": (line(token_ids=[7], logprobs=[-1, -2]), FIT),
    "rows without values": (line(token_ids=[7], logprobs=[{"ids": [1]}] * 2), FIT),
    "a row too few": (
        line(token_ids=[7, 8], logprobs=[{"ids": [1], "values": [-1]}] * 2),
        "2 rows of logprobs for 3",
    ),
    "a row for the end of what has none": (scored(finished=False), "2 rows of logprobs for 1"),
    "rows of no entry": (scored(ids=(), values=()), ""),
    "more values than ids": (scored(ids=(1,)), FIT),
    "rows of several widths": (
        line(
            token_ids=[7],
            logprobs=[{"ids": [1], "values": [-1]}, {"ids": [1, 2], "values": [-1, -2]}],
        ),
        FIT,
    ),
    "released ids below zero": (scored(ids=(-1, 2)), "a token id is 0 to 2147483647, got -1"),
    "released ids beyond int32": (scored(ids=(1, 2**31)), "a token id is 0 to 2147483647"),
    "released ids that are true": (scored(ids=(1, True)), "True where a whole number should be"),
    "values that are words": (scored(values=("-1", "-2")), "'-1' where a number should be"),
    "values that are null": (scored(values=(-1, None)), "None where a number should be"),
    "values above zero": (scored(values=(0.5, -1)), RANGE),
    "values that are no number": (scored(values=(float("nan"), -1)), RANGE),
    "values without end": (scored(values=(-1, float("-inf"))), RANGE),
    "an id twice in a row": (scored(ids=(1, 1)), "token 1 is twice in a row"),
    "probabilities above one": (scored(values=(-0.1, -0.2)), "row 0 sum to 1.724, more than 1"),
    "a finish reason that nobody knows": (line(finish_reason="done"), "finish_reason 'done' is"),
    "two ends that differ": (
        line(finished=True, finish_reason="length"),
        "finished is True, but finish_reason is 'length'",
    ),
    "reasoning that is no text": (line(reasoning=[1]), "reasoning must be a string, got [1]"),
    "values beyond float32": (scored(values=(-1, -1e300)), RANGE),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_the_format_allows_is_read(case, tmp_path):
    text, expected = GOOD[case]
    path = tmp_path / "r.jsonl"
    path.write_text(text, encoding="utf-8", newline="")
    (answer,) = read_recorded(path).generate([Prompt("1", "p")], seed=0, interface=Interface())
    assert answer.text == expected and answer.finished == (case != "unfinished")


@pytest.mark.parametrize("case", BAD)
def test_what_it_does_not_allow_is_one_line_that_says_where(case, tmp_path):
    text, message = BAD[case]
    path = tmp_path / "r.jsonl"
    path.write_text("\n" + text, encoding="utf-8", newline="")
    with pytest.raises(BadInput) as caught:
        read_recorded(path)
    line = str(caught.value)
    assert (
        line.startswith(f"{path}: line {3 if chr(10) in text and 'attempt' in text else 2}: ")
        and message in line
    )
    assert "\n" not in line and len(line) < 500


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252"])
def test_another_encoding_is_named_with_its_line(encoding, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes((line() + "\n" + line(answer="é")).encode(encoding))
    with pytest.raises(BadInput, match=rf"line {1 if encoding == 'utf-16' else 2}: is not UTF-8"):
        read_recorded(path)


@pytest.mark.parametrize(
    ("ids", "values", "tokens"),
    [
        ([[-1]] * 2, [[-1.0]] * 2, (7,)),
        ([[1]] * 2, [[np.nan]] * 2, (7,)),
        ([[1]] * 2, [[1.0]] * 2, (7,)),
        ([[1]], [[-1.0]], (7,)),
        ([[1]] * 2, [[-1.0]] * 2, (-7,)),
    ],
)
def test_an_answer_file_is_held_to_the_same(ids, values, tokens, tmp_path):
    path, logprobs = tmp_path / "r.parquet", Logprobs(np.array(ids, "i4"), np.array(values, "f4"))
    write_completions(path, [Completion("1", "p", "a", tokens, True, logprobs)])
    with pytest.raises(BadInput, match="answer 0: token_ids and logprobs"):
        read_recorded(path)


def test_an_answer_file_may_answer_a_prompt_several_times(tmp_path):
    path = tmp_path / "r.parquet"
    write_completions(path, [Completion("1", "p", "a"), Completion("2", "p", "b")])
    prompts = [Prompt("x", "p", attempt=i) for i in (1, 0)]
    answers = read_recorded(path).generate(prompts, seed=0, interface=Interface())
    assert [answer.text for answer in answers] == ["b", "a"]


def test_an_answer_file_may_withhold_entries(tmp_path):
    path, logprobs = (
        tmp_path / "r.parquet",
        Logprobs(np.array([[3, -1]] * 2, "i4"), np.array([[-1, -np.inf]] * 2, "f4")),
    )
    write_completions(path, [Completion("1", "p", "a", (7,), True, logprobs)])
    assert read_recorded(path).answers["p"][0].token_ids == (7,)


def test_a_table_that_is_no_answer_file_is_named(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "r.parquet"
    for columns in ({"prompt": ["p"]}, {"prompt": ["p"], "sha256": ["0"]}):
        pq.write_table(pa.table(columns).replace_schema_metadata({"rows": "1"}), path)
        with pytest.raises(BadInput, match="r.parquet"):
            read_recorded(path)
