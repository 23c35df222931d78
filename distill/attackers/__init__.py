"""The attacker: an attack is a list of parts, each one file that holds `Settings` and `Attacker`,
in this order.

    ask/      an `Asker`: which prompts are sent
    clean/    a `Cleaner`: which completions are learned from
    repair/   a `Cleaner` of released logprobs
    <name>    a `Learner`, exactly one: how the student learns
    follow/   a `Follower`: what is done to the trained student

What a part sees of the provider is `completions`; what else an attacker has is
`AttackerResources`, and a part names in `needs` what of it it must be handed. Nothing here ever
holds a report question, a clean completion or another arm's data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from distill.answer_format import AnswerFormat

if TYPE_CHECKING:
    from pathlib import Path

    from distill.completions import Completion, Prompt
    from distill.models import LanguageModel, Model
    from distill.specs import TrainingConfig
    from distill.trainer import Trained

ORDER = ("ask", "clean", "repair", "learn", "follow")


@dataclass(frozen=True)
class AttackerResources:
    """What an attacker has beside the answers it was sold.

    `public`: questions of its own with their final answers, as answers whose text is the final
    answer alone. `worked`: worked solutions of its own, few. `final(answer)`: its final answer, or
    None, as of one that was cut off before it. `check(answer)`: whether the final answer to one of
    its own or asked questions is right, where the task lets anybody check. `format`: where
    reasoning and final answer are in a text. `tools`: the functions that its requests define, where
    answers call any. `fresh(seed)`: an untrained model of the student's
    shape. `recipe`: how it trains one.
    `defense(answers)`: the defence rebuilt by the attacker, with a key of its own, applied to
    answers with logprobs.
    `teacher`: the released model, for attacks that go on asking while they learn. `pilot`: a
    student of the first answers, for attacks that choose what to ask next. `tokenizer`: the
    teacher's, which is public, for students of another.
    """

    public: Sequence[Completion] = ()
    worked: Sequence[Completion] = ()
    final: Callable[[Completion], str | None] = lambda answer: None
    check: Callable[[Completion], bool] | None = None
    format: AnswerFormat = AnswerFormat()
    tools: Sequence[str] = ()
    fresh: Callable[[int], LanguageModel] | None = None
    recipe: TrainingConfig | None = None
    defense: Callable[[Sequence[Completion]], list[Completion]] | None = None
    teacher: Model | None = None
    pilot: LanguageModel | None = None
    tokenizer: Any = None


NOTHING = AttackerResources()


class Part(BaseModel):
    """What a part's settings are: frozen, nothing unknown, every field in its config."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Base:
    """What every part says of itself; a file's `Attacker` states what differs from
    these defaults.

    Args:
        settings: the file's own `Settings`.
    """

    adaptive: ClassVar[bool] = True
    """Whether it reacts to a defence; a passive student does not."""
    needs_interface: str = "text"
    """What the interface must release: `text`, `top_k` or `full`. An instance may differ, by its
    settings.
    """
    needs: tuple[str, ...] = ()
    """What of `AttackerResources` it must be handed, by name, or `prefill`: that the beginning of a
    completion can be dictated. An instance may differ, by its settings.
    """
    instruction: str = ""
    """What it tells the teacher in words, which it must be able to spell and to follow, with names
    in braces for what it fills in; nothing where it asks the task's questions alone. An instance
    may differ.
    """
    asks: ClassVar[bool] = True
    """Whether it asks the provider anything."""
    pool: int = 1
    """From how many times its budget it chooses its questions. An instance may differ."""
    paper: ClassVar[str] = "-"
    """Where it comes from."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def first(self, budget: int) -> int:
        """How many questions the pilot of a part that needs one learns from.

        Args:
            budget: questions in all.
        """
        return budget


class Asker(Protocol):
    """A part of ask/. Several act one behind the other, each on the prompts of the one before."""

    needs: tuple[str, ...]
    pool: int

    def first(self, budget: int) -> int:
        """How many questions the pilot of a part that needs one learns from.

        Args:
            budget: questions in all.
        """

    def ask(
        self, prompts: Sequence[Prompt], budget: int, resources: AttackerResources, *, seed: int
    ) -> list[Prompt]:
        """The prompts to send, in their order.

        Args:
            prompts: questions that may be asked, or what the part before would send.
            budget: questions that may be sent; only their repeats cost more.
            resources: what else the attacker has.
            seed: of what is drawn; the same gives the same prompts.
        """


class Cleaner(Protocol):
    """A part of clean/ or repair/. Several act one behind the other."""

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """What is learned from.

        Args:
            completions: as they were sold, or as the part before left them.
            resources: what else the attacker has.
            seed: of what is drawn; the same gives the same completions.

        Raises:
            BadInput: the interface released too little for it, or the attacker owns too little.
        """


class Learner(Protocol):
    """How a student learns."""

    def train(
        self,
        completions: Sequence[Completion],
        model: LanguageModel,
        recipe: TrainingConfig,
        *,
        seed: int,
        resources: AttackerResources = NOTHING,
        checkpoint: Path | None = None,
    ) -> Trained:
        """Train a student.

        Args:
            completions: what it learns from.
            model: the student as it begins; its network may be changed in place.
            recipe: steps, batches and learning rate.
            seed: of the order of batches and of what is drawn.
            resources: what else the attacker has.
            checkpoint: a file to go on from where it is there, and to write from time to time;
                None for none. A part whose training is of several may leave it alone.

        Returns:
            The trained network, and what its training took.

        Raises:
            BadInput: a completion lacks what is learned, or nothing fits the student's context.
        """


class Follower(Protocol):
    """What an attacker does to the trained student. Several act one behind the other."""

    def steps(self, recipe: TrainingConfig) -> int:
        """The most optimiser steps that it adds.

        Args:
            recipe: that the student was trained by.
        """

    def follow(
        self,
        model: LanguageModel,
        recipe: TrainingConfig,
        resources: AttackerResources,
        *,
        seed: int,
    ) -> Trained:
        """A student that has been changed or trained further; the one handed in stays as it is.

        Args:
            model: the trained student.
            recipe: that it was trained by.
            resources: what else the attacker has.
            seed: of the order of batches and of what is drawn.

        Returns:
            The new network, and what its training took.
        """
