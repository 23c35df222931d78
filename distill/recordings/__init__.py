"""Recorded answers: a teacher that is no longer there, read from a file that anybody may have
written, in a format of its own file each.
"""

from __future__ import annotations

import itertools
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.completions import BadInput, Completion, Prompt, read_completions
from distill.recordings import fields, messages, openai, scores, vllm
from distill.recordings.layout import Entry, FormatName, Layout, Reading
from distill.recordings.model import RecordedModel, Transcript, by_question, key_of
from distill.recordings.spelling import Spelling, spelling_of
from distill.tables import Source, read_rows

__all__ = ["Layout", "RecordedModel", "Transcript", "by_question", "read_recorded"]

FORMATS = {
    "vllm": vllm.FORMAT,
    "openai": openai.FORMAT,
    "messages": messages.FORMAT,
    "fields": fields.FORMAT,
}
"""In the order in which they are tried: whatever is none of the others has fields."""
OWN = "answer file"
MARKS = {"sha256", "logprob_k"}  # columns that an answer file has and no other


def read_recorded(path: Path | str, layout: Layout | None = None) -> RecordedModel:
    """A recorded teacher from a file, a folder of `datasets` or a name on the hub.

    Args:
        path: JSONL, a JSON list, CSV or Parquet (text also as .gz), an answer file, a folder, or
            `owner/name`.
        layout: how it is written; by the keys of its first row if None.

    Raises:
        BadInput: with the place in the file, for whatever cannot be read, or is no model's answer.
    """
    layout = layout or Layout()
    spelling = _spelling(layout.tokenizer) if layout.tokenizer else None
    rows = read_rows(
        Source(str(path), subset=layout.subset, split=layout.split, where=layout.where or {})
    )
    first = next(rows, None)
    if first is None:
        raise BadInput(f"{path}: holds no answer")
    if MARKS <= {*first.values}:
        return _model(str(path), OWN, _kept(Path(path), spelling))
    name = layout.format if layout.format != "detect" else _detected(first.values, layout)
    reading = Reading(layout, _requests(layout.requests), spelling)
    read = [[*FORMATS[name].entries(row, reading)] for row in itertools.chain([first], rows)]
    return _model(str(path), name, itertools.chain(*read), failed=read.count([]))


def _detected(row: Mapping[str, Any], layout: Layout) -> FormatName:
    """The format of a row; who says where the answer is has named the format."""
    if layout.answer != Layout().answer:
        return "fields"
    return typing.cast(FormatName, next(n for n, one in FORMATS.items() if one.matches(row)))


def _requests(path: str | None) -> dict[str, Prompt]:
    return dict(map(openai.requested, read_rows(Source(path)))) if path else {}


def _spelling(name: str) -> Spelling:
    from distill.folders import open_tokenizer  # which imports torch
    from distill.models import vocabulary_of

    tokenizer = open_tokenizer(name)
    return spelling_of(tokenizer, vocabulary_of(tokenizer))


def _kept(path: Path, spelling: Spelling | None) -> Iterator[Entry]:
    """The answers of an answer file."""
    vocabulary = spelling.vocabulary if spelling else ""
    for place, answer in enumerate(read_completions(path)):
        where = f"{path}: answer {place}"
        yield Entry(where, scores.check(where, answer), tokenizer=vocabulary)


def _model(path: str, name: str, entries: Iterable[Entry], failed: int = 0) -> RecordedModel:
    """Answers by prompt, in the order of their attempts; BadInput where they contradict."""
    by_prompt: dict[str, list[Entry]] = {}
    tokenizers: dict[str, str] = {}
    for entry in entries:
        by_prompt.setdefault(key_of(entry.completion.question), []).append(entry)
        if entry.completion.logprobs is not None:
            tokenizers.setdefault(entry.tokenizer, entry.where)
    if len(tokenizers) > 1:
        raise BadInput(
            f"{[*tokenizers.values()][1]}: its logprobs are of another tokenizer than those before"
        )
    if not by_prompt:
        raise BadInput(f"{path}: holds no answer; {failed} requests failed")
    answers = {prompt: _attempts(some) for prompt, some in by_prompt.items()}
    return RecordedModel(answers, path, next(iter(tokenizers), ""), name, failed)


def _attempts(entries: list[Entry]) -> tuple[Completion, ...]:
    """The answers to one prompt by their numbers, or in their order where none has one."""
    systems = {entry.completion.system: entry for entry in entries}
    if len(systems) > 1:
        raise BadInput(
            f"{[*systems.values()][1].where}: the same prompt under another system prompt; choose "
            "one with teacher.where"
        )
    numbered = [entry for entry in entries if entry.attempt is not None]
    if numbered and len(numbered) < len(entries):
        plain = next(entry for entry in entries if entry.attempt is None)
        raise BadInput(f"{plain.where}: has no attempt; others to the same prompt have one")
    # A data set may ask the same question twice, and number the answers anew each time.
    return tuple(one.completion for one in sorted(entries, key=lambda one: one.attempt or 0))
