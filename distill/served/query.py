"""One question to a served model: the request that is made of a prompt."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distill.completions import BadInput, Prompt
from distill.models import vocabulary_of
from distill.rendering import (
    check_bare,
    completion_ids,
    prompt_ids,
    prompt_text,
    text_ids,
    turns,
)
from distill.served.connection import Connection
from distill.served.protocol import (
    ChatRequest,
    CompletionRequest,
    Message,
    Request,
    encode,
)
from distill.served.request_options import RequestOptions
from distill.token_bytes import TokenBytes


@dataclass(frozen=True)
class TokenTable:
    """A served model's tokenizer, and what its tokens spell."""

    tokenizer: Any

    @functools.cached_property
    def digest(self) -> str:
        return vocabulary_of(self.tokenizer)

    @functools.cached_property
    def spelling(self) -> TokenBytes:
        return TokenBytes(self.tokenizer)

    def decode(self, token_ids: Sequence[int]) -> str:
        """What tokens spell together, without special ones.

        Args:
            token_ids: in their order.
        """
        decode = self.tokenizer.decode
        return str(decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@dataclass(frozen=True)
class Query:
    """A prompt as it is sent. `k`: logprobs that are asked for; `seed` draws the answer."""

    options: RequestOptions
    tokens: TokenTable | None
    prompt: Prompt
    seed: int = 0
    k: int = 0

    @property
    def where(self) -> str:
        return f"served model {self.options.model!r}: prompt {self.prompt.id!r}"

    @functools.cached_property
    def prompt_ids(self) -> list[int] | None:
        """The prompt's tokens, where its tokenizer is known."""
        return prompt_ids(self.tokens.tokenizer, self.prompt) if self.tokens else None

    @functools.cached_property
    def forced_ids(self) -> list[int]:
        """The tokens behind the prompt that are dictated: the beginning of the answer.

        Raises:
            BadInput: the server cannot be told how to begin.
        """
        if not self.prompt.begin:
            return []
        if not self.options.capabilities.prefill or not self.tokens:
            raise BadInput(f"{self.where}: the server cannot be told how to begin (scoring)")
        return text_ids(self.tokens.tokenizer, self.prompt.begin)[: self.max_tokens - 1]

    @property
    def max_tokens(self) -> int:
        """Tokens of the answer, those that it begins with among them."""
        return self.options.max_new_tokens

    @property
    def answer_limit(self) -> int:
        """Tokens that the server may say, behind those that are dictated."""
        return self.max_tokens - len(self.forced_ids)

    @property
    def path(self) -> str:
        return "/chat/completions" if self.options.prompts == "chat" else "/completions"

    @functools.cached_property
    def body(self) -> bytes:
        """The request, as JSON."""
        return encode(self._chat() if self.options.prompts == "chat" else self._completion())

    @property
    def address(self) -> bytes:
        """What its response is recorded under."""
        return f"{self.path}\n{self.options.revision}\n".encode() + self.body

    def send(self, connection: Connection) -> bytes:
        """Ask the server, and return the bytes of what it answers.

        Args:
            connection: to the server.

        Raises:
            Unreachable: it is not there, or fails or is busy every time.
            BadInput: it refuses, or sends too much.
        """
        return connection.post(self.path, self.body)

    def _shared(self) -> dict[str, Any]:
        """What both endpoints are told."""
        options, sampled = self.options, self.options.temperature > 0
        scored = bool(self.forced_ids and self.k) and options.scoring == "prompt_logprobs"
        return {
            "model": options.model,
            "max_tokens": self.answer_limit,
            "temperature": options.temperature,
            "top_p": options.top_p if sampled else None,
            "seed": self.seed if sampled else None,
            "return_tokens_as_token_ids": True if options.token_ids and self.k else None,
            "prompt_logprobs": self.k if scored else None,
        }

    def _chat(self) -> Request:
        messages = [Message(role=one.role, content=one.content) for one in turns(self.prompt)]
        begun = True if self.forced_ids else None
        if begun:
            messages.append(Message(role="assistant", content=self.prompt.begin))
        return ChatRequest(
            **self._shared(),
            messages=messages,
            logprobs=True if self.k else None,
            top_logprobs=self.k or None,
            add_generation_prompt=False if begun else None,
            continue_final_message=begun,
        )

    def _completion(self) -> Request:
        if self.options.prompts == "ids":
            assert self.prompt_ids is not None  # settings name a tokenizer
            prompt: str | list[int] = self.prompt_ids + self.forced_ids
        elif self.tokens:
            prompt = prompt_text(self.tokens.tokenizer, self.prompt) + self.prompt.begin
        else:
            check_bare(self.prompt)
            prompt = self.prompt.text
        echo = bool(self.forced_ids and self.k) and self.options.scoring == "echo"
        return CompletionRequest(
            **self._shared(), prompt=prompt, logprobs=self.k or None, echo=True if echo else None
        )


@dataclass(frozen=True)
class ScoringQuery(Query):
    """A text that the model is to say how likely it finds, behind its prompt."""

    text: str = ""

    @functools.cached_property
    def forced_ids(self) -> list[int]:
        assert self.tokens
        return completion_ids(self.tokens.tokenizer, self.text, finished=True)

    @property
    def max_tokens(self) -> int:
        return len(self.forced_ids) + 1  # a server says at least one token

    @functools.cached_property
    def body(self) -> bytes:
        assert self.prompt_ids is not None
        echo = True if self.options.scoring == "echo" else None
        request = CompletionRequest(
            model=self.options.model,
            prompt=self.prompt_ids + self.forced_ids,
            max_tokens=1,
            temperature=0.0,
            echo=echo,
            logprobs=1 if echo else None,
            return_tokens_as_token_ids=echo if self.options.token_ids else None,
            prompt_logprobs=None if echo else 0,
        )
        return encode(request)
