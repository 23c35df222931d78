"""Models that answer prompts: networks, and wrappers; `folders` reads and writes them, `recordings`
repeats answers, `generation` has the steps of a network's completions.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeGuard

import torch

from distill.completions import (
    NETWORK,
    BadInput,
    Capabilities,
    Completion,
    Interface,
    Prompt,
    digest,
)
from distill.generation import Edit, GenerationBatch, continuation_nats
from distill.rendering import completion_ids, ends, prompt_ids, token_count


class Model(Protocol):
    """Anything that answers prompts: a teacher, a defended teacher, a student.

    What it can do beside that is in `capabilities`; nobody finds it out by trying.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer, or None where it has none that is known."""

    @property
    def vocabulary(self) -> str | None:
        """SHA-256 of the tokenizer, or None where there is none: token ids of one vocabulary mean
        nothing in another.
        """

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        """One completion a prompt, in the order of the prompts; the same for the same seed.

        Args:
            prompts: questions, of which some may begin the answer.
            seed: of what is drawn.
            interface: what is released beside the text.

        Raises:
            BadInput: it cannot release so much, or a prompt does not fit.
        """

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt as the model reads it.

        Args:
            prompt: question, system prompt and history.

        Raises:
            BadInput: it has no tokenizer, or the prompt does not fit.
        """

    def surprisal(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """-log p(text and end-of-text | prompt) in nats, one number a text.

        Args:
            prompts: one a text.
            texts: answers of anybody.

        Raises:
            BadInput: the model is not capable of it.
        """


def is_network(model: Model) -> TypeGuard[LanguageModel]:
    """Whether a model is a network in this process, whose scores can be edited.

    Args:
        model: of any kind.
    """
    return model.capabilities.logits


def finite(network: Any) -> bool:
    """Whether all weights are finite numbers.

    Args:
        network: of transformers.
    """
    return all(bool(p.float().isfinite().all()) for p in network.parameters())


CONTEXT = "max_position_embeddings"


def context_of(config: Any) -> float:
    """Tokens that a network reads at most; infinite where its config names no number, as where
    positions are not learned.

    Args:
        config: of a transformers model.
    """
    length = getattr(config.get_text_config(), CONTEXT, None)
    return math.inf if length is None else float(length)


def device_of(setting: str) -> torch.device:
    """Where a model computes; `auto` is a GPU where there is one, each process its own.

    Args:
        setting: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`.

    Raises:
        BadInput: there is no such device.
    """
    if setting == "auto":
        place = os.environ.get("LOCAL_RANK", "0")
        setting = f"cuda:{place}" if torch.cuda.is_available() else "cpu"
    device = torch.device(setting)
    there = {
        "cpu": True,
        "mps": torch.backends.mps.is_available(),
        "cuda": (device.index or 0) < torch.cuda.device_count(),
    }
    if not there[device.type]:
        raise BadInput(f"device {setting!r}: this machine has none (cpu is always there)")
    return device


def vocabulary_of(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer: token ids of one vocabulary mean nothing in another.

    Args:
        tokenizer: a fast one of transformers.
    """
    return digest(tokenizer.backend_tokenizer.to_str())


def own_randomness(prompts: Sequence[Prompt], seed: int) -> list[str]:
    """A key a prompt: an answer is a function of (seed, conversation, attempt).

    Args:
        prompts: questions.
        seed: of the model's answers.
    """
    attempts = [f"/{prompt.attempt}" if prompt.attempt else "" for prompt in prompts]
    return [
        f"{seed}/{digest(prompt.conversation)}{attempt}"
        for prompt, attempt in zip(prompts, attempts, strict=True)
    ]


def batches_by_length(
    sizes: Sequence[int], batch_size: int, longest: float = math.inf
) -> list[list[int]]:
    """Places of rows in batches of similar length: rows of one length need no padding at all.

    Args:
        sizes: tokens of each row.
        batch_size: rows of a batch at most.
        longest: tokens; a longer row is in no batch.

    Returns:
        Batches from short to long; rows of one length in their order.
    """
    fitting = [i for i, size in enumerate(sizes) if size <= longest]
    order = sorted(fitting, key=lambda i: sizes[i])
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with its tokenizer, how it decodes, and edits, in this order.

    `score_edits` change raw scores (logits) before temperature and nucleus; `edits` the
    log-distribution that is sampled; `drawn_edits` only what a token is drawn from, neither
    released nor counted as distance, for what leaves it alone on average over a key;
    `released_edits` only released logprobs, which the first two change as well. temperature 0
    decodes greedily; `edits` still apply to the likeliest token, and the result is sampled.
    `randomness` gives each answer its key. Scores that are not finite are BadInput; a network that
    `may_diverge` (in training) says end-of-text there.
    """

    network: Any
    tokenizer: Any
    score_edits: tuple[Edit, ...] = ()
    edits: tuple[Edit, ...] = ()
    drawn_edits: tuple[Edit, ...] = ()
    released_edits: tuple[Edit, ...] = ()
    randomness: Callable[[Sequence[Prompt], int], list[str]] = own_randomness
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 64
    batch_size: int = 256
    passes: float = 1.0
    may_diverge: bool = False

    @property
    def capabilities(self) -> Capabilities:
        return NETWORK

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        encoded = [self.encode(prompt) for prompt in prompts]
        keys = self.randomness(prompts, seed)
        completions: dict[int, Completion] = {}
        for rows in batches_by_length([len(ids) for ids in encoded], self.batch_size):
            batch = GenerationBatch(
                self,
                [prompts[i] for i in rows],
                [encoded[i] for i in rows],
                [keys[i] for i in rows],
                interface,
            )
            completions.update(zip(rows, batch.run(), strict=True))
        return [completions[i] for i in range(len(prompts))]

    @functools.cached_property
    def vocabulary(self) -> str:
        """SHA-256 of the tokenizer: token ids of one vocabulary mean nothing in another."""
        return vocabulary_of(self.tokenizer)

    @functools.cached_property
    def context(self) -> float:
        """Tokens of prompt and completion together; infinite where there is no bound."""
        return context_of(self.network.config)

    @functools.cached_property
    def tokens(self) -> int:
        """Token ids that spell something; a network may have rows beyond them."""
        return token_count(self.tokenizer)

    @functools.cached_property
    def ends(self) -> list[int]:
        """The tokens at which a completion ends."""
        return ends(self.tokenizer, self.network)

    def surprisal(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """-log p(text and end-of-text | prompt) in nats, one number a text, of the model's raw
        distribution.

        NaN where the context does not hold prompt and text, as where a defence has made a text
        longer.
        """
        pairs = zip(prompts, texts, strict=True)
        return self._nats([self._scored(prompt, text) for prompt, text in pairs])

    def own_surprisal(self, completions: Sequence[Completion]) -> list[float]:
        """The same of completions of its own: of the tokens that it said, where they are known,
        which may spell the text in another way than its tokenizer would.
        """
        end = [self.tokenizer.eos_token_id]
        rows = [
            (self.encode(one.question), [*one.token_ids, *end])
            if one.token_ids
            else self._scored(one.question, one.text)
            for one in completions
        ]
        return self._nats(rows)

    def _scored(self, prompt: Prompt, text: str) -> tuple[list[int], list[int]]:
        """Token ids of a prompt, and of a text and its end."""
        return self.encode(prompt), completion_ids(self.tokenizer, text, finished=True)

    @torch.inference_mode()
    def _nats(self, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        """-log p(second | first) of rows of token ids; NaN where the context does not hold one."""
        sizes = [len(prompt) + len(text) for prompt, text in rows]
        nats = dict.fromkeys(range(len(rows)), math.nan)
        for part in batches_by_length(sizes, self.batch_size, self.context):
            values = continuation_nats(self.network, [rows[i] for i in part])
            nats.update(zip(part, values, strict=True))
        return [nats[i] for i in range(len(rows))]

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, through the chat template where the tokenizer has one.

        Raises:
            BadInput: it is empty, or the context cannot hold it and the new tokens.
        """
        ids = prompt_ids(self.tokenizer, prompt)
        if not ids:
            raise BadInput(f"prompt {prompt.id!r}: it is empty; a prompt needs at least one token")
        room = self.context - self.max_new_tokens
        if len(ids) > room:
            raise BadInput(
                f"prompt {prompt.id!r}: {len(ids)} tokens, but the context leaves {room:g} beside "
                f"{self.max_new_tokens} new tokens"
            )
        return ids


def fits(model: LanguageModel, prompt: Prompt) -> bool:
    """Whether a model's context can hold a prompt and the new tokens.

    Args:
        model: with the new tokens that it may write.
        prompt: question, system prompt and history.
    """
    return 0 < len(prompt_ids(model.tokenizer, prompt)) <= model.context - model.max_new_tokens


@dataclass(frozen=True)
class ReleasedModel:
    """A model whose finished completions are changed before they are released: the base of such.

    `keeps_logprobs`: whether token ids and logprobs are released, which another text would make
    meaningless.
    """

    model: Model

    @property
    def keeps_logprobs(self) -> bool:
        return False

    @property
    def capabilities(self) -> Capabilities:
        """Those of the model, but for its network: changed text is not what its scores are of."""
        inner = self.model.capabilities
        return replace(
            inner,
            logits=False,
            surprisal=False,
            weights=False,
            logprobs=inner.logprobs and self.keeps_logprobs,
        )

    @property
    def tokenizer(self) -> Any:
        return self.model.tokenizer

    @property
    def vocabulary(self) -> str | None:
        return self.model.vocabulary

    def encode(self, prompt: Prompt) -> list[int]:
        return self.model.encode(prompt)

    def surprisal(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """It has no probability of a text.

        Raises:
            BadInput: always.
        """
        raise BadInput("a model whose completions are changed has no probability of a text")


@dataclass(frozen=True)
class EditedModel(ReleasedModel):
    """A model whose finished completions are edited one by one."""

    edit: Callable[[Completion], Completion]
    keeps_logprobs: bool = True

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        return [
            self.edit(answer)
            for answer in self.model.generate(prompts, seed=seed, interface=interface)
        ]
