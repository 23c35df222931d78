"""A completion as a response of the protocol."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from distill.completions import Completion, Prompt
from distill.models import Model
from distill.rendering import text_ids
from distill.served.protocol import (
    Choice,
    Logprobs,
    Position,
    ReplyMessage,
    Request,
    Response,
    Usage,
)
from experiments.serving.logprobs import ReleasedLogprobs


@dataclass(frozen=True)
class AnsweredRequest:
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
    def answer_ids(self) -> list[int]:
        """Tokens of the answer behind those; of one whose ids are withheld, those that spell it."""
        if self.completion.token_ids or not self.completion.text:
            return list(self.completion.token_ids)[len(self.begun_ids) :]
        if self.tokenizer is None:
            return []
        return text_ids(self.tokenizer, self.completion.text.removeprefix(self.prompt.begin))

    @property
    def finished(self) -> bool:
        return self.completion.finished and len(self.answer_ids) <= self.request.max_tokens

    @property
    def text(self) -> str:
        """What was said behind the beginning, cut off where the caller wants it to be."""
        whole = self.completion.text.removeprefix(self.prompt.begin)
        if len(self.answer_ids) <= self.request.max_tokens:
            return whole
        ids = self.answer_ids[: self.request.max_tokens]
        return str(
            self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    def chat(self) -> Response:
        """As a chat."""
        logprobs = None if self.k is None else Logprobs(content=self._positions(self.k))
        return self._response(logprobs, message=ReplyMessage(content=self.text))

    def plain(self) -> Response:
        """As a completion: the logprobs in lists beside each other."""
        logprobs = None if self.k is None else Logprobs.lists(self._positions(self.k))
        return self._response(logprobs, text=self.text)

    def _positions(self, k: int) -> list[Position]:
        """The tokens of the answer, and the end of a finished one."""
        ids = self.answer_ids[: self.request.max_tokens]
        ids += [self.tokenizer.eos_token_id] * self.finished
        return self._released.positions(ids, k)

    @functools.cached_property
    def _released(self) -> ReleasedLogprobs:
        return ReleasedLogprobs(
            self.completion.logprobs,
            self.tokenizer,
            self.begun_ids,
            names_ids=bool(self.request.return_tokens_as_token_ids),
        )

    def _response(
        self,
        logprobs: Logprobs | None,
        *,
        message: ReplyMessage | None = None,
        text: str | None = None,
    ) -> Response:
        read_ids, scored = self._read_ids(), self.request.prompt_logprobs
        usage = None
        if read_ids is not None:
            usage = Usage(
                prompt_tokens=len(read_ids),
                completion_tokens=min(len(self.answer_ids), self.request.max_tokens),
            )
        choice = Choice(
            index=0,
            finish_reason="stop" if self.finished else "length",
            message=message,
            text=text,
            logprobs=logprobs,
            prompt_logprobs=None
            if scored is None
            else self._released.scores(len(read_ids or []), scored),
            prompt_token_ids=read_ids,
        )
        return Response(model=self.name, choices=[choice], usage=usage)

    def _read_ids(self) -> list[int] | None:
        """The tokens that the teacher read, with the beginning of the answer."""
        if self.tokenizer is None:
            return None
        return self.model.encode(self.prompt) + self.begun_ids
