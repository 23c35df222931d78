"""A model behind a server of the researcher's own, that speaks the OpenAI protocol (vLLM, SGLang,
llama.cpp, Ollama, or this project's own `serve`).

What it says is checked, and written down by what it was asked (`said.Recording`): the recording is
the model from then on. `own_server` is the only file that talks to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from distill import response
from distill.asking import Asking
from distill.completions import BadInput, Capabilities, Completion, Interface, Prompt, digest
from distill.exchange import Exchange, Scored, Vocabulary
from distill.models import own_randomness
from distill.own_server import Connection, Server
from distill.protocol import Models, parse
from distill.rendering import prompt_ids
from distill.said import Recording

PROBED = 16  # tokens of the answers that tell whether a server mixes prompts up
T = TypeVar("T")
E = TypeVar("E", bound=Exchange)


@dataclass(frozen=True)
class ServedModel:
    """A model of which only answers can be had.

    Args:
        server: where it is.
        asking: how it is asked.
        recording: what it has said so far.
        words: its tokenizer, which logprobs and token ids need; else None.
        concurrency: requests at once.
    """

    server: Server
    asking: Asking
    recording: Recording
    words: Vocabulary | None = None
    concurrency: int = 8

    @property
    def capabilities(self) -> Capabilities:
        return self.asking.capabilities

    @property
    def tokenizer(self) -> Any:
        return self.words.tokenizer if self.words else None

    @property
    def vocabulary(self) -> str | None:
        return self.words.digest if self.words else None

    def encode(self, prompt: Prompt) -> list[int]:
        if self.tokenizer is None:
            raise BadInput("served model: no tokenizer is named, so a prompt has no tokens")
        return prompt_ids(self.tokenizer, prompt)

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        if interface.kind == "full" or (interface.kind == "top_k" and not self.asking.logprobs):
            raise BadInput(
                f"served model: interface {interface.kind} asks for more than the "
                f"{self.asking.logprobs} logprobs a token that it releases"
            )
        k = min(interface.k, self.asking.logprobs)
        seeds = [int(digest(key)[:7], 16) for key in own_randomness(prompts, seed)]
        exchanges = [
            Exchange(self.asking, self.words, prompt, draw, k)
            for prompt, draw in zip(prompts, seeds, strict=True)
        ]
        return self._ask(exchanges, response.completion)

    def surprisal(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        if not self.capabilities.surprisal:
            raise BadInput("served model: it does not score what it is handed (scoring, prompts)")
        exchanges = [
            Scored(self.asking, self.words, prompt, text=text)
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        return self._ask(exchanges, response.nats)

    def probe(self, prompts: Sequence[Prompt]) -> None:
        """Find out whether the server is there, has the model, and does what its settings say.

        Args:
            prompts: a few different ones; what it says to them is not written down.

        Raises:
            BadInput: it does not.
        """
        asking, words, first = self.asking, self.words, prompts[0]
        with self.server.connect() as connection:
            self._check_name(connection)
            asked = [Exchange(asking, words, one, k=asking.logprobs) for one in prompts]
            if asking.capabilities.prefill:
                begun = replace(first, begin=first.text)
                asked.append(Exchange(asking, words, begun, k=asking.logprobs))
            for exchange in asked:
                response.completion(exchange, exchange.send(connection))
            if asking.capabilities.surprisal:
                scored = Scored(asking, words, first, text=first.text)
                response.nats(scored, scored.send(connection))
            self._check_order(connection, prompts)

    def _check_name(self, connection: Connection) -> None:
        where = f"{self.server.url}/models"
        names = [card.id for card in parse(Models, connection.get("/models"), where).data]
        if self.asking.model not in names:
            raise BadInput(
                f"{where}: has no model {self.asking.model!r} (there are: "
                f"{', '.join(names[:20]) or 'none'})"
            )

    def _check_order(self, connection: Connection, prompts: Sequence[Prompt]) -> None:
        """BadInput where prompts that are asked at once get each other's answers."""
        greedy = replace(self.asking, temperature=0.0, max_new_tokens=PROBED)
        exchanges = [Exchange(greedy, self.words, one) for one in prompts]

        def ask(exchange: Exchange) -> str:
            return response.completion(exchange, exchange.send(connection)).text

        alone = [ask(exchange) for exchange in exchanges]
        with ThreadPoolExecutor(len(exchanges)) as pool:
            together = list(pool.map(ask, exchanges))
        for place, text in enumerate(together):
            if text != alone[place] and text in alone:
                raise BadInput(
                    f"{self.server.url}: answers one prompt with what it says to another when it "
                    "is asked both at once"
                )

    def _ask(self, exchanges: Sequence[E], read: Callable[[E, bytes], T]) -> list[T]:
        """What is read of the responses; each exchange is made once, and recorded."""
        data = {one.address: self.recording.find(one.address) for one in exchanges}
        missing = {one.address: one for one in exchanges if data[one.address] is None}
        if missing:
            data |= self._record([*missing.values()], read)
        return [read(one, data[one.address] or b"") for one in exchanges]

    def _record(
        self, exchanges: Sequence[E], read: Callable[[E, bytes], T]
    ) -> dict[bytes, bytes | None]:
        """Ask so many at once; after an error what is under way is still written down."""
        with self.server.connect() as connection:

            def ask(exchange: E) -> bytes:
                data = exchange.send(connection)
                read(exchange, data)  # what is not as it should be is never written down
                return self.recording.keep(exchange.address, data)

            pool = ThreadPoolExecutor(self.concurrency)
            try:
                responses = list(pool.map(ask, exchanges))
            except Exception:
                pool.shutdown(cancel_futures=True)
                raise
            except BaseException:  # Ctrl-C waits for nobody
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            pool.shutdown()
        return dict(zip((one.address for one in exchanges), responses, strict=True))
