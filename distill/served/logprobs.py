"""The logprobs that a served model's response releases, by the tokens of its tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.completions import BadInput, Logprobs
from distill.served.protocol import (
    TOKEN_ID,
    Alternative,
    Choice,
    Position,
    PromptPositions,
    Response,
)
from distill.served.query import Query, TokenTable

ROUNDING = 0.02
"""By how much the probabilities that a server sends may sum to more than 1."""
NUMBER = re.compile("[0-9]{1,9}")  # a token's id
Row = dict[int, float]
"""Released logprobs at a position, by token."""


@dataclass(frozen=True)
class ReleasedLogprobs:
    """Those of one answer, `choice`, to a query."""

    query: Query
    choice: Choice

    @property
    def where(self) -> str:
        return self.query.where

    @property
    def tokens(self) -> TokenTable:
        assert self.query.tokens  # settings name a tokenizer where logprobs are asked for
        return self.query.tokens

    @property
    def echoes(self) -> bool:
        return bool(self.query.forced_ids) and self.query.options.scoring == "echo"

    def _positions(self) -> list[Position | None]:
        """Those of the whole response, with an echo of the prompt before the answer's."""
        logprobs = self.choice.logprobs
        try:
            return logprobs.positions() if logprobs else []
        except BadInput as error:
            raise BadInput(f"{self.where}: {error}") from None

    def answer(self, finished: bool, text: str) -> tuple[list[int], list[Row]]:
        """The tokens of the answer, and what was released at each and at the end.

        Args:
            finished: whether the answer came to its end.
            text: it, as the server spells it.

        Raises:
            BadInput: they are not there, are of another answer, or leave out its end.
        """
        positions = self._positions()
        if self.echoes and self.query.prompt_ids is not None:
            positions = positions[len(self.query.prompt_ids) + len(self.query.forced_ids) :]
        if not positions:
            raise BadInput(
                f"{self.where}: the server sent no logprobs, of which {self.query.k} a token "
                "were asked for"
            )
        ids, rows = self._ids(positions), [self._alternatives(one) for one in positions]
        if finished and self.tokens.spelling.of[ids[-1]] is not None:
            raise BadInput(
                f"{self.where}: its logprobs leave out the end of the answer, without which no "
                "student learns to stop"
            )
        answer_ids = ids[:-1] if finished else ids
        self._check_length(len(answer_ids))
        self._check_text(answer_ids, text)
        return answer_ids, rows

    def scores(self, response: Response) -> list[Row]:
        """What was released at each of the tokens that were dictated, themselves among it: logprobs
        in nats by token id.

        Raises:
            BadInput: they were not scored.
        """
        forced_ids = self.query.forced_ids
        if not forced_ids:
            return []
        if self.echoes:
            assert self.query.prompt_ids is not None
            before = len(self.query.prompt_ids)
            rows = [self._named(one) for one in self._positions()[before:][: len(forced_ids)]]
        else:
            scored = self.choice.prompt_logprobs or response.prompt_logprobs or []
            rows = _by_token(scored)[-len(forced_ids) :]
        missing = (token not in row for token, row in zip(forced_ids, rows, strict=False))
        if len(rows) < len(forced_ids) or any(missing):
            raise BadInput(f"{self.where}: the server did not score the text that it was handed")
        return [self._possible(row) for row in rows]

    def _check_length(self, count: int) -> None:
        limit = self.query.answer_limit
        if count > limit:
            raise BadInput(f"{self.where}: logprobs of {count} tokens, of at most {limit}")

    def _check_text(self, answer_ids: Sequence[int], text: str) -> None:
        spelled = self.tokens.decode(answer_ids)
        # What an answer was cut off in the middle of is no character yet.
        if spelled.strip().rstrip("\ufffd") != text.strip().rstrip("\ufffd"):
            raise BadInput(
                f"{self.where}: its tokens spell {spelled[:60]!r}, its text is {text[:60]!r}; the "
                "tokenizer is another, or the server changes the text"
            )

    def _ids(self, positions: Sequence[Position | None]) -> list[int]:
        named = [_token(self.tokens, one, self.where) if one else None for one in positions]
        ids = [token for token in named if token is not None]
        if len(ids) < len(named):
            raise BadInput(
                f"{self.where}: not every token that was said is one of its tokenizer, or several "
                "are spelled so; have the server name tokens by their ids (token_ids)"
            )
        return ids

    def _alternatives(self, position: Position | None) -> Row:
        """An alternative that several tokens spell is withheld."""
        return self._possible(self._by_id(position.top_logprobs if position else []))

    def _named(self, position: Position | None) -> Row:
        """The token itself and its alternatives."""
        return self._by_id([position, *position.top_logprobs]) if position else {}

    def _by_id(self, named: Sequence[Alternative]) -> Row:
        pairs = [(_token(self.tokens, one, self.where), min(one.logprob, 0.0)) for one in named]
        return {token: value for token, value in pairs if token is not None}

    def _possible(self, row: Row) -> Row:
        if not row or np.exp([*row.values()]).sum() > 1 + ROUNDING:
            raise BadInput(
                f"{self.where}: {len(row)} logprobs at a token, which are no part of a distribution"
            )
        return {token: min(value, 0.0) for token, value in row.items()}


def likeliest(rows: Sequence[Row], k: int) -> Logprobs:
    """The k likeliest of each row, most likely first; what a row lacks is withheld.

    Args:
        rows: by position, logprobs in nats by token id.
        k: entries a row.

    Returns:
        `[positions, k]`.
    """
    ids_TK = np.full((len(rows), k), -1, np.int32)
    values_TK = np.full((len(rows), k), -np.inf, np.float32)
    for place, row in enumerate(rows):
        ordered = sorted(row.items(), key=lambda one: (-one[1], one[0]))[:k]
        for column, (token, value) in enumerate(ordered):
            ids_TK[place, column], values_TK[place, column] = token, value
    return Logprobs(ids_TK, values_TK)


def _by_token(positions: PromptPositions) -> list[Row]:
    return [
        {int(token): one.logprob for token, one in row.items() if NUMBER.fullmatch(token)}
        if row
        else {}
        for row in positions
    ]


def _token(tokens: TokenTable, named: Alternative, where: str) -> int | None:
    """The token that a server named by its id, or by what it spells; None where several do."""
    spelling = tokens.spelling
    if named.id is not None:
        token: int | None = named.id
    elif named.token.startswith(TOKEN_ID):
        number = named.token.removeprefix(TOKEN_ID)
        token = int(number) if NUMBER.fullmatch(number) else -1
    elif named.token in spelling.special:
        token = spelling.special[named.token]
    else:
        token = spelling.only(named.token.encode() if named.bytes is None else bytes(named.bytes))
    if token is not None and not 0 <= token < len(spelling.of):
        raise BadInput(
            f"{where}: token {named.token[:40]!r} is none of the {len(spelling.of)} of the "
            "tokenizer; the model has another"
        )
    return token
