"""One question to a served model: the request that is made of a prompt."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from distill.asking import Asking
from distill.completions import BadInput, Prompt
from distill.models import vocabulary_of
from distill.own_server import Connection
from distill.protocol import (
    ChatRequest,
    CompletionRequest,
    Message,
    Request,
    encode,
)
from distill.rendering import (
    check_bare,
    completion_ids,
    prompt_ids,
    prompt_text,
    text_ids,
    turns,
)
from distill.token_bytes import TokenBytes


@dataclass(frozen=True)
class Vocabulary:
    """A served model's tokenizer, and what its tokens spell."""

    tokenizer: Any

    @functools.cached_property
    def digest(self) -> str:
        return vocabulary_of(self.tokenizer)

    @functools.cached_property
    def spelling(self) -> TokenBytes:
        return TokenBytes(self.tokenizer)


@dataclass(frozen=True)
class Exchange:
    """A prompt as it is sent. `k`: logprobs that are asked for; `seed` draws the answer."""

    asking: Asking
    vocabulary: Vocabulary | None
    prompt: Prompt
    seed: int = 0
    k: int = 0

    @property
    def where(self) -> str:
        return f"served model {self.asking.model!r}: prompt {self.prompt.id!r}"

    @functools.cached_property
    def prompt_ids(self) -> list[int] | None:
        """The prompt's tokens, where its tokenizer is known."""
        return prompt_ids(self.vocabulary.tokenizer, self.prompt) if self.vocabulary else None

    @functools.cached_property
    def handed(self) -> list[int]:
        """The tokens behind the prompt that the server is handed: the beginning of the answer."""
        if not self.prompt.begin:
            return []
        if not self.asking.capabilities.prefill or not self.vocabulary:
            raise BadInput(f"{self.where}: the server cannot be told how to begin (scoring)")
        return text_ids(self.vocabulary.tokenizer, self.prompt.begin)[: self.most - 1]

    @property
    def most(self) -> int:
        """Tokens of the answer, those that it begins with among them."""
        return self.asking.max_new_tokens

    @property
    def path(self) -> str:
        return "/chat/completions" if self.asking.prompts == "chat" else "/completions"

    @functools.cached_property
    def body(self) -> bytes:
        """The request, as JSON."""
        return encode(self._chat() if self.asking.prompts == "chat" else self._completion())

    @property
    def address(self) -> bytes:
        """What its response is recorded under."""
        return f"{self.path}\n{self.asking.revision}\n".encode() + self.body

    def send(self, connection: Connection) -> bytes:
        return connection.post(self.path, self.body)

    def _shared(self) -> dict[str, Any]:
        """What both endpoints are told."""
        asking, sampled = self.asking, self.asking.temperature > 0
        scored = bool(self.handed and self.k) and asking.scoring == "prompt_logprobs"
        return {
            "model": asking.model,
            "max_tokens": self.most - len(self.handed),
            "temperature": asking.temperature,
            "top_p": asking.top_p if sampled else None,
            "seed": self.seed if sampled else None,
            "return_tokens_as_token_ids": True if asking.token_ids and self.k else None,
            "prompt_logprobs": self.k if scored else None,
        }

    def _chat(self) -> Request:
        messages = [Message(role=one.role, content=one.content) for one in turns(self.prompt)]
        begun = True if self.handed else None
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
        if self.asking.prompts == "ids":
            assert self.prompt_ids is not None  # settings name a tokenizer
            prompt: str | list[int] = self.prompt_ids + self.handed
        elif self.vocabulary:
            prompt = prompt_text(self.vocabulary.tokenizer, self.prompt) + self.prompt.begin
        else:
            check_bare(self.prompt)
            prompt = self.prompt.text
        echo = bool(self.handed and self.k) and self.asking.scoring == "echo"
        return CompletionRequest(
            **self._shared(), prompt=prompt, logprobs=self.k or None, echo=True if echo else None
        )


@dataclass(frozen=True)
class Scored(Exchange):
    """A text that the model is to say how likely it finds, behind its prompt."""

    text: str = ""

    @functools.cached_property
    def handed(self) -> list[int]:
        assert self.vocabulary
        return completion_ids(self.vocabulary.tokenizer, self.text, finished=True)

    @property
    def most(self) -> int:
        return len(self.handed) + 1  # a server says at least one token

    @functools.cached_property
    def body(self) -> bytes:
        assert self.prompt_ids is not None
        echo = True if self.asking.scoring == "echo" else None
        request = CompletionRequest(
            model=self.asking.model,
            prompt=self.prompt_ids + self.handed,
            max_tokens=1,
            temperature=0.0,
            echo=echo,
            logprobs=1 if echo else None,
            return_tokens_as_token_ids=echo if self.asking.token_ids else None,
            prompt_logprobs=None if echo else 0,
        )
        return encode(request)
