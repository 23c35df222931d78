"""Format `vllm`: dumps of vLLM's RequestOutput, with the n completions of a prompt in `outputs` and
logprobs as {token id: {"logprob", "rank", "decoded_token"}} a token.

vLLM gives the token that was said beside the k likeliest where it is none of them, so rows may
differ by one entry: the least likely goes. It counts the token that ends an answer among its
tokens.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from distill.completions import BadInput, Completion, Prompt
from distill.recordings import scores
from distill.recordings.layout import Entry, Format, Reading, question
from distill.recordings.spelling import Spelling
from distill.recordings.turns import finished_of
from distill.tables import Row, text_of


def entries(row: Row, reading: Reading) -> Iterator[Entry]:
    """The completions of a prompt.

    Args:
        row: of a file, vLLM's `RequestOutput` as JSON.
        reading: where in a row things are.

    Raises:
        BadInput: it holds no outputs, or one is no object.
    """
    where, prompt = row.where, question(text_of(row.where, row.values, reading.layout.prompt))
    outputs = row.values.get("outputs")
    if not isinstance(outputs, list) or not outputs:
        raise BadInput(f"{where}: outputs must be a list, got {reprlib.repr(outputs)}")
    for output in outputs:
        if not isinstance(output, Mapping):
            raise BadInput(f"{where}: an output must be an object, got {reprlib.repr(output)}")
        yield _entry(where, prompt, output, reading.spelling)


def _entry(
    where: str, prompt: Prompt, output: Mapping[str, Any], spelling: Spelling | None
) -> Entry:
    text = text_of(where, output, "text")
    finished = finished_of(where, {"finish_reason": output.get("finish_reason")})
    ids = scores.token_ids(where, output.get("token_ids"))
    rows = _rows(where, output.get("logprobs"))
    # What stopped it is a token unless a text is named.
    ends = finished and not isinstance(output.get("stop_reason"), str)
    if spelling and ids:
        spoken = spelling.spoken(where, ids, text)
        ids, ends = tuple(spoken.ids), spoken.ends
    elif ends:
        ids = ids[:-1]
    if not rows:
        return Entry(where, Completion.to(prompt, text, finished=finished, token_ids=ids))
    logprobs = scores.released(where, rows, closing=finished and not ends)
    answer = Completion.to(prompt, text, finished=finished, token_ids=ids, logprobs=logprobs)
    digest = spelling.vocabulary if spelling else ""
    return Entry(where, scores.check(where, answer), tokenizer=digest)


def _rows(where: str, shown: Any) -> list[scores.ScoredRow]:
    """The scores of an output, of one width."""
    if not shown:
        return []
    if not isinstance(shown, list):
        raise BadInput(f"{where}: logprobs must be a list, got {reprlib.repr(shown)}")
    rows = [_row(where, one) for one in shown]
    least = min(map(len, rows))
    if max(map(len, rows)) > least + 1:
        raise BadInput(f"{where}: {scores.FIT} (rows of {least} to {max(map(len, rows))} entries)")
    return [sorted(row, key=lambda pair: -pair[1])[:least] for row in rows]


def _row(where: str, shown: Any) -> list[tuple[int, float]]:
    if not isinstance(shown, Mapping) or not shown:
        raise BadInput(f"{where}: logprobs: {reprlib.repr(shown)} where tokens should be")
    row = []
    for token, scored in shown.items():
        value = scored.get("logprob") if isinstance(scored, Mapping) else scored
        if not str(token).isdecimal() or not str(token).isascii() or len(str(token)) > 10:
            raise BadInput(f"{where}: logprobs: a token id is a number, got {reprlib.repr(token)}")
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise BadInput(f"{where}: logprobs: {reprlib.repr(value)} where a number should be")
        row.append((int(token), float(value)))
    return row


FORMAT = Format(lambda row: isinstance(row.get("outputs"), list), entries)
