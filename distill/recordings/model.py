"""Recorded answers as a model: it repeats what was recorded."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from distill.completions import (
    RECORDING,
    BadInput,
    Capabilities,
    Completion,
    Interface,
    Logprobs,
    Prompt,
)
from distill.recordings.scores import ABOVE


def key_of(prompt: Prompt) -> str:
    """By what a recorded answer is found: all that was asked but for the system prompt."""
    return replace(prompt, system="").conversation


def by_question(completions: Iterable[Completion]) -> dict[str, tuple[Completion, ...]]:
    """Answers as a RecordedModel has them, those to one question in their order.

    Args:
        completions: of any prompts, some of them of the same question.
    """
    answers: dict[str, list[Completion]] = {}
    for answer in completions:
        answers.setdefault(key_of(answer.question), []).append(answer)
    return {key: tuple(some) for key, some in answers.items()}


class Transcript:
    """What a model that only repeats completions cannot do: the base of such."""

    where = "recorded answers"

    @property
    def capabilities(self) -> Capabilities:
        return RECORDING

    @property
    def tokenizer(self) -> None:
        return None

    @property
    def vocabulary(self) -> str | None:
        return None

    def encode(self, prompt: Prompt) -> list[int]:
        """It has no tokenizer.

        Raises:
            BadInput: always.
        """
        raise BadInput(f"{self.where}: have no tokenizer, so a prompt has no tokens")

    def surprisal(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """It has no probability of a text.

        Raises:
            BadInput: always.
        """
        raise BadInput(f"{self.where}: have no probability of a text")


@dataclass(frozen=True)
class RecordedModel(Transcript):
    """A teacher that is no longer there: it repeats the answers that were recorded, found by what
    was asked and by attempt.

    A recording may leave out under which system prompt it was made; where it gives one, a question
    that has one must have the same.

    `answers`: by `key_of` what was asked, in the order of their attempts. `scored_by`: the SHA-256
    of the tokenizer that its logprobs are over, where that is known. `format`: how it was written.
    `failed`: requests that got no answer.
    """

    answers: Mapping[str, tuple[Completion, ...]]
    where: str = "recorded answers"
    scored_by: str = ""
    format: str = ""
    failed: int = 0

    @property
    def vocabulary(self) -> str | None:
        return self.scored_by or None

    @property
    def capabilities(self) -> Capabilities:
        return replace(RECORDING, logprobs=bool(self.scored_by) and self._scored)

    @functools.cached_property
    def _scored(self) -> bool:
        return all(one.logprobs is not None for some in self.answers.values() for one in some)

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        """The recorded answers to these prompts, whatever the seed.

        Args:
            prompts: questions, each with its attempt.
            seed: not needed.
            interface: what of the recorded logprobs is released.

        Raises:
            BadInput: a prompt has no recorded answer.
        """
        missing = [key for prompt in prompts if (key := key_of(prompt)) not in self.answers]
        if missing:
            there = next(iter(self.answers), "")
            raise BadInput(
                f"{self.where}: no answer to {len(missing)} prompts, first {missing[0][:80]!r}; "
                f"there are answers to {len(self.answers)}, first {there[:80]!r}"
            )
        completions = [self._repeat(prompt) for prompt in prompts]
        if interface.kind == "text":
            return [replace(answer, logprobs=None) for answer in completions]
        return [
            replace(answer, logprobs=self._released(answer, interface)) for answer in completions
        ]

    def _repeat(self, prompt: Prompt) -> Completion:
        recorded = self.answers[key_of(prompt)]
        system = recorded[0].system
        if system and prompt.system and system != prompt.system:
            raise BadInput(
                f"{self.where}: {prompt.text[:80]!r} was recorded under another system prompt, "
                f"{system[:80]!r}"
            )
        if prompt.attempt >= len(recorded):
            raise BadInput(
                f"{self.where}: {prompt.text[:80]!r} is asked {prompt.attempt + 1} times, and was "
                f"recorded {len(recorded)} times"
            )
        return recorded[prompt.attempt].as_answer_to(prompt)

    def _released(self, answer: Completion, interface: Interface) -> Logprobs:
        """What the interface shows of the recorded logprobs; fewer entries where fewer were
        recorded.
        """
        logprobs = answer.logprobs
        if logprobs is None:
            raise BadInput(
                f"{self.where}: interface {interface.kind} asks for logprobs; "
                f"the recording has none for {answer.prompt[:80]!r}"
            )
        if interface.kind == "top_k":
            return Logprobs(logprobs.ids_TK[:, : interface.k], logprobs.values_TK[:, : interface.k])
        mass_T = np.exp(logprobs.values_TK.astype(np.float64)).sum(-1)
        if mass_T.min() < 1 - ABOVE:
            raise BadInput(
                f"{self.where}: interface full asks for all logprobs of a token; the "
                f"{logprobs.ids_TK.shape[1]} recorded ones hold {mass_T.min():.3g} of the "
                "probability"
            )
        return logprobs
