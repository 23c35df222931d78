"""What a served model's response must be, and what it says.

A server is not trusted: one that answers another prompt, is another model, stops in mid-answer,
has another tokenizer or sends what is no distribution is BadInput, and its response is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.completions import BadInput, Completion, Logprobs
from distill.exchange import Exchange, Vocabulary
from distill.protocol import (
    TOKEN_ID,
    Alternative,
    Choice,
    Position,
    PromptPositions,
    Response,
    parse,
)

ENDED = {"stop": True, "length": False}
"""Why an answer ends, and whether it is finished."""
ROUNDING = 0.02
"""By how much the probabilities that a server sends may sum to more than 1."""
Row = dict[int, float]
"""Released logprobs at a position, by token."""


def completion(exchange: Exchange, data: bytes) -> Completion:
    """What a response says.

    Raises:
        BadInput: it is not an answer to what was asked.
    """
    response, choice = _checked(exchange, data)
    finished = ENDED.get(choice.finish_reason or "")
    if finished is None:
        raise BadInput(
            f"{exchange.where}: the answer stopped for {choice.finish_reason!r}, neither at its "
            "end nor at its length"
        )
    prompt, text, vocabulary = exchange.prompt, _text(choice), exchange.vocabulary
    begun = _decode(vocabulary, exchange.handed) if vocabulary and exchange.handed else ""
    if not exchange.k:
        return Completion.to(prompt, begun + text, finished=finished)
    released = Released(exchange, choice)
    said, rows = released.answer(finished, text)
    rows = released.scores(response) + rows
    return Completion.to(
        prompt,
        begun + text,
        token_ids=(*exchange.handed, *said),
        finished=finished,
        logprobs=_logprobs(rows, exchange.k),
    )


def nats(exchange: Exchange, data: bytes) -> float:
    """-log p of what was handed over, given the prompt."""
    response, choice = _checked(exchange, data)
    rows = Released(exchange, choice).scores(response)
    return -sum(row[token] for row, token in zip(rows, exchange.handed, strict=True))


def _checked(exchange: Exchange, data: bytes) -> tuple[Response, Choice]:
    """The response and its one answer, if it is one to this prompt by this model."""
    where, model = exchange.where, exchange.asking.model
    response = parse(Response, data, where)
    # transformers says the revision behind the name.
    if response.model not in (None, model) and not str(response.model).startswith(f"{model}@"):
        raise BadInput(f"{where}: answered by another model, {response.model!r}")
    if [choice.index for choice in response.choices] != [0]:
        raise BadInput(f"{where}: {len(response.choices)} answers, where one numbered 0 must be")
    choice = response.choices[0]
    _check_prompt(exchange, choice.prompt_token_ids or response.prompt_token_ids, response)
    limit = exchange.most - len(exchange.handed)
    if response.usage and response.usage.completion_tokens > limit:
        raise BadInput(
            f"{where}: {response.usage.completion_tokens} tokens, of at most {limit} that were "
            "asked for"
        )
    return response, choice


def _check_prompt(exchange: Exchange, read: list[int] | None, response: Response) -> None:
    """BadInput where the server tells that it read something else than the prompt."""
    if exchange.prompt_ids is None:
        return
    sent = exchange.prompt_ids + exchange.handed
    if read is not None and read != sent:
        raise BadInput(
            f"{exchange.where}: it answers another prompt, or renders this one otherwise than its "
            "tokenizer does"
        )
    if response.usage and response.usage.prompt_tokens != len(sent):
        raise BadInput(
            f"{exchange.where}: it read {response.usage.prompt_tokens} tokens of a prompt of "
            f"{len(sent)}: cut, another prompt's, or of another tokenizer or chat template"
        )


@dataclass(frozen=True)
class Released:
    """The logprobs of one answer."""

    exchange: Exchange
    choice: Choice

    @property
    def where(self) -> str:
        return self.exchange.where

    @property
    def vocabulary(self) -> Vocabulary:
        assert self.exchange.vocabulary  # settings name a tokenizer where logprobs are asked for
        return self.exchange.vocabulary

    @property
    def echoes(self) -> bool:
        return bool(self.exchange.handed) and self.exchange.asking.scoring == "echo"

    def positions(self) -> list[Position | None]:
        """Those of the whole response, with an echo of the prompt before the answer's."""
        logprobs = self.choice.logprobs
        try:
            return logprobs.positions() if logprobs else []
        except BadInput as error:
            raise BadInput(f"{self.where}: {error}") from None

    def answer(self, finished: bool, text: str) -> tuple[list[int], list[Row]]:
        """The tokens that were said, and what was released at each and at the end."""
        positions = self.positions()
        if self.echoes and self.exchange.prompt_ids is not None:
            positions = positions[len(self.exchange.prompt_ids) + len(self.exchange.handed) :]
        if not positions:
            raise BadInput(
                f"{self.where}: the server sent no logprobs, of which {self.exchange.k} a token "
                "were asked for"
            )
        ids, rows = self._said(positions), [self._alternatives(one) for one in positions]
        if finished and self.vocabulary.spelling.of[ids[-1]] is not None:
            raise BadInput(
                f"{self.where}: its logprobs leave out the end of the answer, without which no "
                "student learns to stop"
            )
        said = ids[:-1] if finished else ids
        spelled = _decode(self.vocabulary, said)
        # What an answer was cut off in the middle of is no character yet.
        if spelled.strip().rstrip("\ufffd") != text.strip().rstrip("\ufffd"):
            raise BadInput(
                f"{self.where}: its tokens spell {spelled[:60]!r}, its text is {text[:60]!r}; the "
                "tokenizer is another, or the server changes the text"
            )
        return said, rows

    def scores(self, response: Response) -> list[Row]:
        """What was released at each of the tokens that were handed over, themselves among it."""
        handed = self.exchange.handed
        if not handed:
            return []
        if self.echoes:
            assert self.exchange.prompt_ids is not None
            before = len(self.exchange.prompt_ids)
            rows = [self._named(one) for one in self.positions()[before:][: len(handed)]]
        else:
            scored = self.choice.prompt_logprobs or response.prompt_logprobs or []
            rows = _by_token(scored)[-len(handed) :]
        missing = (token not in row for token, row in zip(handed, rows, strict=False))
        if len(rows) < len(handed) or any(missing):
            raise BadInput(f"{self.where}: the server did not score the text that it was handed")
        return [self._possible(row) for row in rows]

    def _said(self, positions: Sequence[Position | None]) -> list[int]:
        ids = [self._token(one) if one else None for one in positions]
        said = [token for token in ids if token is not None]
        if len(said) < len(ids):
            raise BadInput(
                f"{self.where}: not every token that was said is one of its tokenizer, or several "
                "are spelled so; have the server name tokens by their ids (token_ids)"
            )
        return said

    def _alternatives(self, position: Position | None) -> Row:
        """An alternative that several tokens spell is withheld."""
        named = position.top_logprobs if position else []
        return self._possible(self._by_id(named))

    def _named(self, position: Position | None) -> Row:
        """The token itself and its alternatives."""
        return self._by_id([position, *position.top_logprobs]) if position else {}

    def _by_id(self, named: Sequence[Alternative]) -> Row:
        pairs = [(self._token(one), min(one.logprob, 0.0)) for one in named]
        return {token: value for token, value in pairs if token is not None}

    def _possible(self, row: Row) -> Row:
        if not row or np.exp([*row.values()]).sum() > 1 + ROUNDING:
            raise BadInput(
                f"{self.where}: {len(row)} logprobs at a token, which are no part of a distribution"
            )
        return {token: min(value, 0.0) for token, value in row.items()}

    def _token(self, said: Alternative) -> int | None:
        """The token that a server named by its id, or by what it spells; None where several do."""
        spelling = self.vocabulary.spelling
        if said.id is not None:
            token: int | None = said.id
        elif said.token.startswith(TOKEN_ID):
            number = said.token.removeprefix(TOKEN_ID)
            token = int(number) if number.isdecimal() and len(number) < 10 else -1
        elif said.token in spelling.special:
            token = spelling.special[said.token]
        else:
            token = spelling.only(said.token.encode() if said.bytes is None else bytes(said.bytes))
        if token is not None and not 0 <= token < len(spelling.of):
            raise BadInput(
                f"{self.where}: token {said.token[:40]!r} is none of the {len(spelling.of)} of the "
                "tokenizer; the model has another"
            )
        return token


def _text(choice: Choice) -> str:
    """What was said; reasoning that the server took apart stands before it in its tags again."""
    message = choice.message
    if message is None:
        return choice.text or ""
    reasoning = message.reasoning_content or message.reasoning
    return (f"<think>{reasoning}</think>" if reasoning else "") + (message.content or "")


def _decode(vocabulary: Vocabulary, token_ids: Sequence[int]) -> str:
    decode = vocabulary.tokenizer.decode
    return str(decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _by_token(positions: PromptPositions) -> list[Row]:
    return [
        {int(token): one.logprob for token, one in row.items() if token.isdecimal()} if row else {}
        for row in positions
    ]


def _logprobs(rows: Sequence[Row], k: int) -> Logprobs:
    """The k likeliest of each row, most likely first; what a row lacks is withheld."""
    ids_TK = np.full((len(rows), k), -1, np.int32)
    values_TK = np.full((len(rows), k), -np.inf, np.float32)
    for place, row in enumerate(rows):
        likeliest = sorted(row.items(), key=lambda one: (-one[1], one[0]))[:k]
        for column, (token, value) in enumerate(likeliest):
            ids_TK[place, column], values_TK[place, column] = token, value
    return Logprobs(ids_TK, values_TK)
