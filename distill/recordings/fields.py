"""Format `fields`: a row has its prompt and its answer somewhere, as ours and any data set's do.

Optional beside them: `system` and `history` (earlier turns), `finished` or `finish_reason`,
`attempt`, `reasoning_content` or `reasoning` beside the answer, and `token_ids` with `logprobs`,
one {"ids": [K], "values": [K]} (nats) a row, and the SHA-256 of their `tokenizer`. A list of
strings is several answers. All else is the recorder's own.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from distill.completions import BadInput, Completion, Logprobs, Prompt
from distill.recordings import scores
from distill.recordings.layout import Entry, Format, Reading, question
from distill.recordings.turns import finished_of, question_of, turns_of, with_reasoning
from distill.tables import Row, text_of, value_at, whole_text


def entries(row: Row, reading: Reading) -> Iterator[Entry]:
    """The answers of a row.

    Args:
        row: of a file.
        reading: where in a row things are.

    Raises:
        BadInput: a field is not what it should be, or scores are of one of several answers.
    """
    where, values, layout = *row, reading.layout
    prompt, answers = _question(row, layout.prompt), _answers(row, layout.answer)
    ids, logprobs = scores.token_ids(where, values.get("token_ids")), _logprobs(row)
    attempt, tokenizer = values.get("attempt"), values.get("tokenizer")
    if attempt is not None and type(attempt) is not int:
        raise BadInput(f"{where}: attempt must be a whole number, got {reprlib.repr(attempt)}")
    if len(answers) > 1 and (ids or logprobs or attempt is not None):
        raise BadInput(f"{where}: {layout.answer} are {len(answers)} answers with scores of one")
    digest = (
        tokenizer if isinstance(tokenizer, str) and re.fullmatch("[0-9a-f]{64}", tokenizer) else ""
    )
    finished = finished_of(where, values)
    for text in answers:
        completion = Completion.to(
            prompt, text, finished=finished, token_ids=ids, logprobs=logprobs
        )
        yield Entry(where, scores.check(where, completion), attempt, digest)


def _question(row: Row, path: str) -> Prompt:
    where, values, value = *row, value_at(row.values, path)
    if _are_turns(value):
        return question_of(where, path, turns_of(where, path, value))
    system, history = (values.get(name) for name in ("system", "history"))
    return question(
        text_of(where, values, path),
        text_of(where, values, "system") if system is not None else "",
        tuple(turns_of(where, "history", history)) if history else (),
    )


def _answers(row: Row, path: str) -> list[str]:
    where, value = row.where, value_at(row.values, path)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return [whole_text(where, path, one) for one in value]
    if _are_turns(value):
        turns = turns_of(where, path, value)
        if [turn.role for turn in turns] != ["assistant"]:
            raise BadInput(f"{where}: {path} must be one turn of the assistant's")
        return [with_reasoning(where, value[0], turns[0].content)]
    parent, _, _ = path.rpartition(".")
    beside = row.values if path in row.values or not parent else value_at(row.values, parent)
    text = text_of(where, row.values, path)
    return [with_reasoning(where, beside, text) if isinstance(beside, Mapping) else text]


def _are_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _logprobs(row: Row) -> Logprobs | None:
    shown = row.values.get("logprobs")
    if not shown:
        return None
    if not isinstance(shown, list):
        raise BadInput(f"{row.where}: {scores.FIT} ({reprlib.repr(shown)} where rows should be)")
    return scores.released(row.where, [_scored(row.where, one) for one in shown])


def _scored(where: str, shown: Any) -> scores.ScoredRow:
    pair = (shown.get("ids"), shown.get("values")) if isinstance(shown, Mapping) else (None, None)
    ids, values = pair
    if not isinstance(ids, list) or not isinstance(values, list):
        raise BadInput(f"{where}: {scores.FIT} ({reprlib.repr(shown)} where ids and values should)")
    if len(ids) != len(values):
        raise BadInput(f"{where}: {scores.FIT} ({len(ids)} ids, {len(values)} values in a row)")
    return list(zip(ids, values, strict=True))


FORMAT = Format(lambda row: True, entries)
