"""Recorded answers: a teacher that is no longer there, read from a file that anybody may have
written.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from distill.completions import (
    RECORDING,
    BadInput,
    Capabilities,
    Completion,
    Interface,
    Logprobs,
    Prompt,
    digest,
    read_completions,
)

MOST = 2**31 - 1  # the largest token id that answer files hold


class Transcript:
    """What a model that only repeats completions cannot do: the base of such."""

    where = "recorded answers"

    @property
    def capabilities(self) -> Capabilities:
        return RECORDING

    @property
    def tokenizer(self) -> None:
        return None

    @property
    def vocabulary(self) -> None:
        return None

    def encode(self, prompt: Prompt) -> list[int]:
        raise BadInput(f"{self.where}: have no tokenizer, so a prompt has no tokens")

    def surprisal(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        raise BadInput(f"{self.where}: have no probability of a text")


@dataclass(frozen=True)
class RecordedModel(Transcript):
    """A teacher that is no longer there: it repeats the answers that were recorded, found by
    conversation.
    """

    answers: dict[str, Completion]
    where: str = "recorded answers"

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        missing = [p.conversation for p in prompts if p.conversation not in self.answers]
        if missing:
            raise BadInput(
                f"{self.where}: no answer to {len(missing)} prompts, first {missing[0][:80]!r}"
            )
        completions = [self.answers[p.conversation].as_answer_to(p) for p in prompts]
        if interface.kind == "text":
            return [replace(answer, logprobs=None) for answer in completions]
        if any(answer.logprobs is None for answer in completions):
            raise BadInput(
                f"{self.where}: interface {interface.kind} asks for logprobs; "
                "the recording has none"
            )
        return completions


def read_recorded(path: Path, prompt: str = "prompt", answer: str = "answer") -> RecordedModel:
    """A recorded teacher from an answer file, or from JSONL.

    `prompt` and `answer` say where the two are in a line's object; dots go down into it. Optional
    in a line: `finished` (false where the answer was cut off), and `token_ids` with `logprobs`, one
    {"ids": [K], "values": [K]} (nats, most likely first) a row. All else, such as sampling
    metadata, is the recorder's own. Raises BadInput with the line.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; recorded answers are a .jsonl or .parquet file")
    if path.suffix == ".parquet":
        kept = ((f"{path}: answer {i}", one) for i, one in enumerate(read_completions(path)))
        return RecordedModel(
            _by_prompt((where, _check(where, one)) for where, one in kept), str(path)
        )
    told = ((f"{path}: line {number}", line) for number, line in lines(path) if line.strip())
    found = ((where, _parse_completion(where, line, prompt, answer)) for where, line in told)
    return RecordedModel(_by_prompt(found), str(path))


def _by_prompt(found: Iterable[tuple[str, Completion]]) -> dict[str, Completion]:
    """Answers by prompt; BadInput, with the place, for a second and other one."""
    answers = dict[str, Completion]()
    for where, one in found:
        if _content(answers.setdefault(one.question.conversation, one)) != _content(one):
            raise BadInput(f"{where}: a second, other answer to the same prompt")
    return answers


def _content(answer: Completion) -> Any:
    """All that a recording says of an answer."""
    kept = answer.logprobs
    rows = (kept.ids_TK.tolist(), kept.values_TK.tolist()) if kept else None
    return answer.text, answer.finished, answer.token_ids, rows


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file by their numbers from 1; BadInput names one that is not UTF-8.

    Only "\\n" ends a line: U+2028 and its like are text. A byte-order mark at the head is left out.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadInput(
                    f"{path}: line {number}: is not UTF-8 ({error.reason} at byte {error.start})"
                ) from None


def parse_object(where: str, line: str) -> dict[str, Any]:
    """The JSON object in a line; BadInput, beginning with `where`, if it holds anything else."""
    try:
        row = json.loads(line, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict):
        raise BadInput(f"{where}: must be an object, got {reprlib.repr(row)}")
    return row


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object of its pairs; ValueError where a key is there twice."""
    held = dict(pairs)
    if len(held) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(
            f"the key {next(key for key in held if keys.count(key) > 1)[:80]!r} is there twice"
        )
    return held


def text_of(where: str, row: Any, path: str) -> str:
    """The string at a dotted path of an object; BadInput if there is none, or one that no file can
    hold.
    """
    for name in path.split("."):
        row = row.get(name) if isinstance(row, dict) else None
    if not isinstance(row, str):
        raise BadInput(f"{where}: {path} must be a string, got {reprlib.repr(row)}")
    if any("\ud800" <= letter <= "\udfff" for letter in row):
        raise BadInput(
            f"{where}: {path} holds half a character (a surrogate without its other half)"
        )
    return row


def _parse_completion(where: str, line: str, prompt: str, answer: str) -> Completion:
    row = parse_object(where, line)
    question, text = (text_of(where, row, path) for path in (prompt, answer))
    finished, ids, logprobs = row.get("finished", True), row.get("token_ids") or [], None
    if not isinstance(finished, bool):
        raise BadInput(f"{where}: finished must be true or false, got {reprlib.repr(finished)}")
    try:
        _only(int, [ids])
        if row.get("logprobs"):
            shown = [(one["ids"], one["values"]) for one in row["logprobs"]]
            _only(int, [one for one, _ in shown])
            _only((int, float), [values for _, values in shown])
            logprobs = Logprobs(
                np.array([one for one, _ in shown], "i4"),
                np.array([values for _, values in shown], "f4"),
            )
        return _check(
            where, Completion(digest(question)[:16], question, text, tuple(ids), finished, logprobs)
        )
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{where}: token_ids and logprobs do not fit together ({error})") from None


def _only(kind: Any, rows: Sequence[Any]) -> None:
    """TypeError unless all rows are lists of such numbers; booleans and strings of
    digits are none.
    """
    allowed = kind if isinstance(kind, tuple) else (kind,)
    wrong = [row for row in rows if not isinstance(row, list)] + [
        value
        for row in rows
        if isinstance(row, list)
        for value in row
        if type(value) not in allowed
    ]
    if wrong:
        raise TypeError(
            f"{reprlib.repr(wrong[0])} where a {'whole number' if kind is int else 'number'} "
            "should be"
        )


def _check(where: str, answer: Completion) -> Completion:
    """The answer if its token ids and logprobs can be a model's; BadInput otherwise."""
    wrong, logprobs = [one for one in answer.token_ids if not 0 <= one <= MOST], answer.logprobs
    if wrong:
        raise BadInput(
            f"{where}: token_ids and logprobs: a token id is 0 to {MOST}, got {wrong[0]}"
        )
    if logprobs is None:
        return answer
    rows, tokens = len(logprobs.ids_TK), len(answer.token_ids) + answer.finished
    if (
        logprobs.ids_TK.shape != logprobs.values_TK.shape
        or logprobs.ids_TK.ndim != 2
        or rows != tokens
        or not logprobs.ids_TK.size
    ):
        raise BadInput(
            f"{where}: token_ids and logprobs do not fit together ({rows} rows of logprobs for "
            f"{tokens} "
            "predicted tokens, end-of-text with them)"
        )
    withheld_TK = (logprobs.ids_TK == -1) & np.isneginf(logprobs.values_TK)
    if not (
        (logprobs.ids_TK >= 0) & (logprobs.values_TK <= 0) & np.isfinite(logprobs.values_TK)
        | withheld_TK
    ).all():
        raise BadInput(
            f"{where}: token_ids and logprobs: ids must be at least 0, and values finite and at "
            "most 0"
        )
    return answer
