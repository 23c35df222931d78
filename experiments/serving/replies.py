"""A completion as a response of the protocol."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from distill.completions import Completion, Prompt
from distill.models import Model
from distill.protocol import (
    TOKEN_ID,
    Alternative,
    Choice,
    Logprobs,
    Position,
    PromptPositions,
    PromptToken,
    ReplyMessage,
    Request,
    Response,
    Usage,
)
from distill.rendering import text_ids

UNKNOWN = -9999.0
"""The logprob of a token that is none of the released ones, as vLLM writes -inf."""
Row = list[tuple[int, float]]


@dataclass(frozen=True)
class Answered:
    """A request with its completion. `k`: logprobs a token that were asked for, None for none."""

    request: Request
    name: str
    model: Model
    prompt: Prompt
    completion: Completion
    k: int | None

    @property
    def tokenizer(self) -> Any:
        return self.model.tokenizer

    @functools.cached_property
    def begun_ids(self) -> list[int]:
        """Tokens of the answer that the caller dictated."""
        begin = self.prompt.begin
        return text_ids(self.tokenizer, begin) if begin and self.tokenizer is not None else []

    @functools.cached_property
    def said_ids(self) -> list[int]:
        """Tokens of the answer behind those; of one whose ids are withheld, those that spell it."""
        if self.completion.token_ids or not self.completion.text:
            return list(self.completion.token_ids)[len(self.begun_ids) :]
        if self.tokenizer is None:
            return []
        return text_ids(self.tokenizer, self.completion.text.removeprefix(self.prompt.begin))

    @property
    def finished(self) -> bool:
        return self.completion.finished and len(self.said_ids) <= self.request.max_tokens

    @property
    def text(self) -> str:
        """What was said behind the beginning, cut off where the caller wants it to be."""
        whole = self.completion.text.removeprefix(self.prompt.begin)
        if len(self.said_ids) <= self.request.max_tokens:
            return whole
        ids = self.said_ids[: self.request.max_tokens]
        return str(
            self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    def chat(self) -> Response:
        """As a chat."""
        logprobs = None if self.k is None else Logprobs(content=self._positions())
        return self._response(message=ReplyMessage(content=self.text), logprobs=logprobs)

    def plain(self) -> Response:
        """As a completion: the logprobs in lists beside each other."""
        return self._response(
            text=self.text, logprobs=self._lists() if self.k is not None else None
        )

    def _lists(self) -> Logprobs:
        positions = self._positions()
        return Logprobs(
            tokens=[one.token for one in positions],
            token_logprobs=[one.logprob for one in positions],
            top_logprobs=[
                {top.token: top.logprob for top in one.top_logprobs} for one in positions
            ],
        )

    def _response(self, **said: Any) -> Response:
        read = self._read()
        usage = None
        if read is not None:
            usage = Usage(
                prompt_tokens=len(read),
                completion_tokens=min(len(self.said_ids), self.request.max_tokens),
            )
        choice = Choice(
            index=0,
            finish_reason="stop" if self.finished else "length",
            prompt_logprobs=self._scores(len(read or [])),
            prompt_token_ids=read,
            **said,
        )
        return Response(model=self.name, choices=[choice], usage=usage)

    def _read(self) -> list[int] | None:
        """The tokens that the teacher read, with the beginning of the answer."""
        if self.tokenizer is None:
            return None
        return self.model.encode(self.prompt) + self.begun_ids

    def _rows(self) -> list[Row]:
        """What was released at every token of the answer, and at its end."""
        logprobs = self.completion.logprobs
        if logprobs is None:
            return []
        return [
            [
                (int(token), float(value))
                for token, value in zip(ids, values, strict=True)
                if token >= 0
            ]
            for ids, values in zip(logprobs.ids_TK, logprobs.values_TK, strict=True)
        ]

    def _positions(self) -> list[Position]:
        """The said tokens, and the end of a finished answer, with what was released there."""
        said = self.said_ids[: self.request.max_tokens]
        said += [self.tokenizer.eos_token_id] * self.finished
        rows = self._rows()[len(self.begun_ids) :]
        return [
            Position(
                **self._named(token, dict(row).get(token, UNKNOWN)),
                top_logprobs=[Alternative(**self._named(*one)) for one in row[: self.k]],
            )
            for token, row in zip(said, rows, strict=False)
        ]

    def _scores(self, length: int) -> PromptPositions | None:
        """What was released at the tokens that were dictated; of the question, nothing."""
        if self.request.prompt_logprobs is None:
            return None
        rows = self._rows()[: len(self.begun_ids)]
        scored: PromptPositions = [
            {
                str(one): PromptToken(logprob=value)
                for one, value in [(token, UNKNOWN), *row[: self.request.prompt_logprobs]]
            }
            for token, row in zip(self.begun_ids, rows, strict=True)
        ]
        return [None] * (length - len(scored)) + scored

    def _named(self, token: int, logprob: float) -> dict[str, Any]:
        """A token as the protocol names it."""
        if self.request.return_tokens_as_token_ids:
            name = f"{TOKEN_ID}{token}"
        else:
            name = self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return {"token": name, "logprob": logprob, "id": token}
