"""What a finished answer is released as: a defence here changes its text or its logprobs, never
both.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

from defenses import BaseDefense
from distill.completions import Completion, Logprobs
from distill.models import EditedModel, Model


def split_answer(text: str, marker: str) -> tuple[str, str]:
    """A text as its reasoning and the rest: the final answer from the last marker on, with the
    space before it.

    Text without a marker is all reasoning. The two joined are the text.

    Args:
        text: of an answer.
        marker: what a final answer stands behind.
    """
    before, at, _ = text.rpartition(marker)
    reasoning = before.rstrip() if at else text
    return reasoning, text[len(reasoning) :]


def split_steps(text: str, separator: str, marker: str) -> tuple[list[str], str]:
    """A text as the steps of its reasoning and the rest: `separator.join(steps) + rest` is the
    text.

    Args:
        text: an answer.
        separator: between steps.
        marker: what the final answer begins with.
    """
    reasoning, rest = split_answer(text, marker)
    return reasoning.split(separator) if reasoning else [], rest


class TextEdit(BaseDefense):
    """Releases another text, without token ids and logprobs, as they would spell the
    first one out.
    """

    def __call__(self, model: Model) -> Model:
        return model if self.is_identity else EditedModel(model, self.edit, keeps_logprobs=False)

    def edit(self, answer: Completion) -> Completion:
        """The answer as it is released."""
        return replace(answer, text=self.text(answer), token_ids=(), logprobs=None)

    @abstractmethod
    def text(self, answer: Completion) -> str:
        """The text that is released instead."""


class LogprobEdit(BaseDefense):
    """Releases other logprobs; the text and its token ids stay as they are."""

    def __call__(self, model: Model) -> Model:
        return model if self.is_identity else EditedModel(model, self.edit)

    def edit(self, answer: Completion) -> Completion:
        """The answer as it is released."""
        if answer.logprobs is None or self.is_identity:
            return answer
        return replace(answer, logprobs=self.logprobs(answer.logprobs, answer))

    @abstractmethod
    def logprobs(self, logprobs: Logprobs, answer: Completion) -> Logprobs:
        """The rows that are released instead, each sorted from the most likely on."""
