"""What a finished answer is released as: a defence here changes its text or its logprobs, never
both.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

from defenses import BaseDefense
from distill.answer_format import CLOSE, OPEN, AnswerFormat, Step
from distill.completions import Completion, Logprobs
from distill.generation import uniform
from distill.models import EditedModel, Model

TAGGED = rf"(.*?{OPEN}\s*)?(.*?)(\s*{CLOSE}\s*)?"


def split_answer(text: str, form: AnswerFormat) -> tuple[str, str]:
    """A text as its reasoning, what is thought with it but without its tags, and the rest: the
    final answer in its markup, with the space before it.

    Args:
        text: of an answer.
        form: where reasoning and answer are.
    """
    parts = form.split(text)
    thought = parts.thinking.strip().removeprefix(OPEN).removesuffix(CLOSE).strip()
    shown = parts.reasoning.lstrip() if thought else parts.reasoning
    return "\n\n".join(part for part in (thought, shown) if part), parts.answer


def edit_reasoning(text: str, form: AnswerFormat, edit: Callable[[str], str]) -> str:
    """A text with its reasoning edited where it stands: what is thought, between its tags, and what
    is shown before the final answer, each on its own.

    Args:
        text: of an answer.
        form: where reasoning and answer are.
        edit: what is made of a part; an empty one is left out.
    """
    parts = form.split(text)
    thought = re.fullmatch(TAGGED, parts.thinking, re.DOTALL)
    assert thought is not None  # everything matches
    opened, inside, closed = (part or "" for part in thought.groups())
    edited = [edit(part) if part else "" for part in (inside, parts.reasoning)]
    return opened + edited[0] + closed + edited[1] + parts.answer


def join_steps(steps: Sequence[Step], ends: str = "") -> str:
    """Steps as a reasoning.

    Args:
        steps: what is left of them.
        ends: what stands behind the last one, in place of what separated it from the next.
    """
    if not steps:
        return ""
    return "".join(step.text + step.tail for step in steps[:-1]) + steps[-1].text + ends


def is_edited(prompt: str, key: str, share: float) -> bool:
    """Whether the answers to a prompt are among those that a defence acts on: a share of all
    prompts, the same ones each time.

    Args:
        prompt: text that was asked.
        key: the provider's secret.
        share: of all prompts, in [0, 1].
    """
    return uniform(key, "chosen", prompt) < share


class TextEdit(BaseDefense):
    """Releases another text, without token ids and logprobs, as they would spell the
    first one out. Where its reasoning and its final answer are, the task's format says.
    """

    @property
    def format(self) -> AnswerFormat:
        """Of the task's answers."""
        return self.resources.format

    def __call__(self, model: Model) -> Model:
        return model if self.is_identity else EditedModel(model, self.edit, keeps_logprobs=False)

    def edit(self, answer: Completion) -> Completion:
        """The answer as it is released.

        Args:
            answer: of the teacher, finished or cut off.
        """
        return replace(answer, text=self.text(answer), token_ids=(), logprobs=None)

    @abstractmethod
    def text(self, answer: Completion) -> str:
        """The text that is released instead.

        Args:
            answer: of the teacher, finished or cut off.
        """


class LogprobEdit(BaseDefense):
    """Releases other logprobs; the text and its token ids stay as they are."""

    def __call__(self, model: Model) -> Model:
        return model if self.is_identity else EditedModel(model, self.edit)

    def edit(self, answer: Completion) -> Completion:
        """The answer as it is released.

        Args:
            answer: of the teacher; one without logprobs stays.
        """
        if answer.logprobs is None or self.is_identity:
            return answer
        return replace(answer, logprobs=self.logprobs(answer.logprobs, answer))

    @abstractmethod
    def logprobs(self, logprobs: Logprobs, answer: Completion) -> Logprobs:
        """The rows that are released instead, each sorted from the most likely on.

        Args:
            logprobs: T rows as they would be released.
            answer: they are of.
        """
