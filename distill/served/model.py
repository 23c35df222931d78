"""A model behind a server of the researcher's own, that speaks the OpenAI protocol (vLLM, SGLang,
llama.cpp, Ollama, or this project's own `serve`).

What it says is checked, and written down by what it was asked (`response_log`): the log is the
model from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from distill.completions import BadInput, Capabilities, Completion, Interface, Prompt, digest
from distill.models import own_randomness
from distill.rendering import prompt_ids
from distill.served import response
from distill.served.connection import Server
from distill.served.query import Query, ScoringQuery, TokenTable
from distill.served.request_options import RequestOptions
from distill.served.response_log import ResponseLog

T = TypeVar("T")
E = TypeVar("E", bound=Query)


@dataclass(frozen=True)
class ServedModel:
    """A model of which only answers can be had.

    Args:
        server: where it is.
        options: how it is asked.
        log: what it has said so far.
        tokens: its tokenizer, which logprobs and token ids need; else None.
        concurrency: requests at once.
    """

    server: Server
    options: RequestOptions
    log: ResponseLog
    tokens: TokenTable | None = None
    concurrency: int = 8

    @property
    def capabilities(self) -> Capabilities:
        return self.options.capabilities

    @property
    def tokenizer(self) -> Any:
        return self.tokens.tokenizer if self.tokens else None

    @property
    def vocabulary(self) -> str | None:
        return self.tokens.digest if self.tokens else None

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt as the server's model reads it.

        Raises:
            BadInput: no tokenizer is named.
        """
        if self.tokenizer is None:
            raise BadInput("served model: no tokenizer is named, so a prompt has no tokens")
        return prompt_ids(self.tokenizer, prompt)

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        """What the server answers, from the log of responses where it has answered before.

        Args:
            prompts: questions, of which some may begin the answer.
            seed: the server is handed a function of it and the prompt.
            interface: what is released beside the text.

        Raises:
            BadInput: the interface asks for more than the server releases, or a response is none.
        """
        if interface.kind == "full" or (interface.kind == "top_k" and not self.options.logprobs):
            raise BadInput(
                f"served model: interface {interface.kind} asks for more than the "
                f"{self.options.logprobs} logprobs a token that it releases"
            )
        k = min(interface.k, self.options.logprobs)
        seeds = [int(digest(key)[:7], 16) for key in own_randomness(prompts, seed)]
        queries = [
            Query(self.options, self.tokens, prompt, draw, k)
            for prompt, draw in zip(prompts, seeds, strict=True)
        ]
        return self._ask(queries, response.completion)

    def surprisal(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """-log p(text and end-of-text | prompt) in nats, as the server scores it.

        Args:
            prompts: one a text.
            texts: answers of anybody.

        Raises:
            BadInput: the server does not score what it is handed.
        """
        if not self.capabilities.surprisal:
            raise BadInput("served model: it does not score what it is handed (scoring, prompts)")
        queries = [
            ScoringQuery(self.options, self.tokens, prompt, text=text)
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        return self._ask(queries, response.nats)

    def _ask(self, queries: Sequence[E], read: Callable[[E, bytes], T]) -> list[T]:
        """What is read of the responses; each query is made once, and recorded."""
        data = {one.address: self.log.find(one.address) for one in queries}
        missing = {one.address: one for one in queries if data[one.address] is None}
        if missing:
            data |= self._record([*missing.values()], read)
        return [read(one, data[one.address] or b"") for one in queries]

    def _record(
        self, queries: Sequence[E], read: Callable[[E, bytes], T]
    ) -> dict[bytes, bytes | None]:
        """Ask so many at once; after an error what is under way is still written down."""
        with self.server.connect() as connection:

            def ask(query: E) -> bytes:
                data = query.send(connection)
                read(query, data)  # what is not as it should be is never written down
                return self.log.keep(query.address, data)

            pool = ThreadPoolExecutor(self.concurrency)
            try:
                responses = list(pool.map(ask, queries))
            except Exception:
                pool.shutdown(cancel_futures=True)
                raise
            except BaseException:  # Ctrl-C waits for nobody
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            pool.shutdown()
        return dict(zip((one.address for one in queries), responses, strict=True))
