"""Format `openai`: responses of chat and text completions, as OpenAI's interface and the servers
that speak it give them (vLLM, SGLang, llama.cpp, Ollama), and the output of batches.

A response does not hold its question. It is looked for in the file of the batch's requests, in the
row's own `request`, in `messages` beside the response, and at the layout's `prompt`.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from distill.completions import BadInput, Completion, Prompt
from distill.recordings import scores
from distill.recordings.layout import Entry, Format, Reading, question
from distill.recordings.spelling import Spelling
from distill.recordings.turns import (
    content_text,
    finished_of,
    question_of,
    reasoning_of,
    turns_of,
    with_reasoning,
)
from distill.tables import Row, value_at


def requested(row: Row) -> tuple[str, Prompt]:
    """The custom_id and the question of a line of a batch's requests.

    Args:
        row: with its place.

    Raises:
        BadInput: it has none.
    """
    name, body = row.values.get("custom_id"), row.values.get("body")
    if not isinstance(name, str) or not isinstance(body, Mapping):
        raise BadInput(f"{row.where}: a request has a custom_id and a body")
    return name, _asked(row.where, body)


def _asked(where: str, body: Mapping[str, Any]) -> Prompt:
    if "messages" in body:
        return question_of(where, "messages", turns_of(where, "messages", body["messages"]))
    return question(content_text(where, "prompt", body.get("prompt")))


def entries(row: Row, reading: Reading) -> Iterator[Entry]:
    """The choices of a response; none where the request failed.

    Args:
        row: of a file, a response or a line of a batch's results.
        reading: where in a row things are, and the requests of a batch.

    Raises:
        BadInput: it is no response, or one without its question.
    """
    where, body = row.where, _body(row)
    if body is None:
        return
    prompt, choices = _question(row, reading), body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise BadInput(f"{where}: choices must be a list, got {reprlib.repr(choices)}")
    for choice in choices:
        if not isinstance(choice, Mapping):
            raise BadInput(f"{where}: a choice must be an object, got {reprlib.repr(choice)}")
    for choice in sorted(choices, key=lambda one: _index(where, one)):
        yield _entry(where, prompt, choice, reading.spelling)


def _index(where: str, choice: Mapping[str, Any]) -> int:
    index = choice.get("index", 0)
    if type(index) is not int:
        raise BadInput(f"{where}: index must be a whole number, got {reprlib.repr(index)}")
    return index


def _body(row: Row) -> Mapping[str, Any] | None:
    """The response itself, or None where the request failed."""
    response = row.values.get("response", row.values)
    if row.values.get("error"):
        return None
    if isinstance(response, Mapping) and "body" in response:
        if response.get("status_code", 200) != 200:
            return None
        response = response["body"]
    if not isinstance(response, Mapping):
        raise BadInput(f"{row.where}: response must be an object, got {reprlib.repr(response)}")
    return response


def _question(row: Row, reading: Reading) -> Prompt:
    where, values = row.where, row.values
    name = values.get("custom_id")
    if isinstance(name, str) and name in reading.requests:
        return reading.requests[name]
    request = values.get("request")
    if isinstance(request, Mapping):
        return _asked(where, request.get("body", request))
    if "messages" in values:
        return _asked(where, values)
    text = value_at(values, reading.layout.prompt)
    if isinstance(text, str):
        return question(content_text(where, reading.layout.prompt, text))
    raise BadInput(
        f"{where}: a response without its question; set teacher.requests to the file of the "
        "batch's requests, or write the question beside it, as 'prompt' or 'messages'"
    )


def _entry(
    where: str, prompt: Prompt, choice: Mapping[str, Any], spelling: Spelling | None
) -> Entry:
    message = choice.get("message", choice)
    if not isinstance(message, Mapping):
        raise BadInput(f"{where}: message must be an object, got {reprlib.repr(message)}")
    finished = finished_of(where, {"finish_reason": choice.get("finish_reason")})
    content = message["content"] if "content" in message else message.get("text")
    text = content_text(where, "content", content)
    positions = _positions(where, choice.get("logprobs"))
    if not positions or spelling is None:
        text = with_reasoning(where, message, text)
        return Entry(where, Completion.to(prompt, text, finished=finished))
    return _scored(where, prompt, message, text, finished, positions, spelling)


class Alternative(NamedTuple):
    """A token by its text or its bytes, and its logarithm."""

    text: str
    data: Sequence[int] | None
    value: float


class Position(NamedTuple):
    """What was sampled at a place, and the likeliest tokens there."""

    sampled: Alternative
    likeliest: list[Alternative]


def _scored(
    where: str,
    prompt: Prompt,
    message: Mapping[str, Any],
    text: str,
    finished: bool,
    positions: list[Position],
    spelling: Spelling,
) -> Entry:
    """An answer with its scores, which are of the tokens that its text is spelled with."""

    def token(alternative: Alternative) -> int:
        return spelling.token(where, alternative.text, alternative.data)

    ids = [token(position.sampled) for position in positions]
    rows: list[scores.ScoredRow] = [
        [(token(one), one.value) for one in position.likeliest] for position in positions
    ]
    spoken = spelling.spoken(where, ids, text, reasoning_of(where, message))
    logprobs = scores.released(where, rows, closing=finished and not spoken.ends)
    answer = Completion.to(
        prompt, spoken.text, finished=finished, token_ids=tuple(spoken.ids), logprobs=logprobs
    )
    return Entry(where, scores.check(where, answer), tokenizer=spelling.vocabulary)


def _positions(where: str, shown: Any) -> list[Position]:
    """The scores of a choice; none where the likeliest tokens were not asked for."""
    if not shown:
        return []
    if not isinstance(shown, Mapping):
        raise BadInput(f"{where}: logprobs must be an object, got {reprlib.repr(shown)}")
    if shown.get("top_logprobs"):
        return _of_text(where, shown)
    positions = [_position(where, one) for one in shown.get("content") or []]
    return positions if any(position.likeliest for position in positions) else []


def _position(where: str, shown: Any) -> Position:
    """One token of a chat completion."""
    likeliest = shown.get("top_logprobs") if isinstance(shown, Mapping) else None
    if not isinstance(likeliest, list):
        raise BadInput(f"{where}: logprobs: no list of top_logprobs in {reprlib.repr(shown)}")
    return Position(_alternative(where, shown), [_alternative(where, one) for one in likeliest])


def _alternative(where: str, shown: Any) -> Alternative:
    text = shown.get("token") if isinstance(shown, Mapping) else None
    if not isinstance(text, str):
        raise BadInput(f"{where}: logprobs: no token in {reprlib.repr(shown)}")
    data = shown.get("bytes")
    if data is not None and not (
        isinstance(data, list) and all(type(one) is int and 0 <= one < 256 for one in data)
    ):
        raise BadInput(f"{where}: logprobs: bytes must be from 0 to 255, got {reprlib.repr(data)}")
    return Alternative(text, data, _nats(where, shown.get("logprob")))


def _of_text(where: str, shown: Mapping[str, Any]) -> list[Position]:
    """The tokens of a text completion: lists side by side."""
    lists = [shown.get(name) for name in ("tokens", "token_logprobs", "top_logprobs")]
    if not all(isinstance(one, list) for one in lists) or len({len(one) for one in lists}) != 1:  # type: ignore[arg-type]
        raise BadInput(
            f"{where}: logprobs: tokens, token_logprobs and top_logprobs must be lists of a length"
        )
    positions = []
    for text, value, likeliest in zip(*lists, strict=True):
        if not isinstance(text, str) or not isinstance(likeliest, Mapping):
            raise BadInput(f"{where}: logprobs: {reprlib.repr(likeliest)} where tokens should be")
        others = [Alternative(one, None, _nats(where, nats)) for one, nats in likeliest.items()]
        positions.append(Position(Alternative(text, None, _nats(where, value)), others))
    return positions


def _nats(where: str, value: Any) -> float:
    if type(value) not in (int, float) or not (math.isfinite(value) and value <= 0):
        raise BadInput(
            f"{where}: logprobs: values must be finite and at most 0, got {reprlib.repr(value)}"
        )
    return float(value)


FORMAT = Format(
    lambda row: "choices" in row or isinstance(row.get("response"), Mapping) or "custom_id" in row,
    entries,
)
