"""What a task is: questions of a pool, how their answers look, and a grader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Completion, Prompt, digest
from experiments.tasks.graders import Grader
from experiments.tasks.nouns import Draft, Item, Outcome, transcript
from experiments.tasks.pool import Pool


class Task(Pool):
    """A task without its questions: each says how many there are, what number `index` asks, how
    answers look and what grades them.

    Args:
        settings: the file's own `Settings`; files that they name are read here.

    Raises:
        BadInput: a file is missing or damaged, or a setting does not fit the others.
    """

    format: AnswerFormat = AnswerFormat(thinking="none")
    grader: Grader
    data: str = ""  # SHA-256 of files that the questions come from
    clusters: Mapping[str, str] = MappingProxyType({})  # by item id: which belong together
    notes: tuple[str, ...] = ()  # what a plan and a report are to say of its questions
    facts: tuple[str, ...] = ()  # what a plan is to say of it on this machine
    alphabet: str
    turns: int = 1  # that a question takes at most
    plateau_steps: int = 0  # from which on embedded students are at its plateau; 0: nobody knows
    tools: Sequence[str] = ()  # functions that a request defines, where answers call any

    @property
    def mark(self) -> str:
        """What a final answer begins with."""
        return self.format.begin

    def public(self, n: int, seed: int) -> list[Item]:
        """What anybody owns without a teacher (floor F1): questions of the query split with their
        final answers.

        Args:
            n: how many.
            seed: of their order.

        Raises:
            BadInput: there are fewer.
        """
        return [self._without_reasoning(item) for item in self.items("query", n, seed)]

    def _without_reasoning(self, item: Item) -> Item:
        """An item whose solution is the answer alone, in every turn."""
        if not item.turns:
            return replace(item, solution=self.format.answer(item.answer))
        turns = [replace(turn, solution=self.format.answer(turn.answer)) for turn in item.turns]
        whole = transcript([turn.solution for turn in turns])
        return replace(item, solution=whole, turns=tuple(turns))

    def reply(self, prompt: Prompt, completion: Completion) -> Prompt | None:
        """What follows a turn: what was called for, as the next prompt; None where a question is
        over, as all are after one turn but for tasks that say otherwise.

        Args:
            prompt: of the turn, with the turns before it.
            completion: what the model said to it.
        """
        return None

    def corpus(self) -> list[str]:
        """Public text from which a vocabulary is learned.

        Raises:
            BadInput: there is none, as where questions are drawn from rules.
        """
        raise BadInput(
            f"task {self.name}: has no public text to learn a vocabulary from; vocabulary must be 0"
        )

    def item(self, draft: Draft) -> Item:
        """A question with its worked solution, and the cluster that it belongs to.

        Args:
            draft: of the pool.
        """
        prompt, reference = self.prompt(draft), draft.reference or draft.answer
        cluster = draft.cluster or self.clusters.get(prompt.id, "")
        return Item(prompt, self.solution(draft), reference, cluster, draft.answer)

    def prompt(self, draft: Draft) -> Prompt:
        """A question as it is asked; its id is a function of its text.

        Args:
            draft: of the pool.
        """
        return Prompt(f"{self.name}-{digest(draft.text)[:16]}", draft.text)

    def solution(self, draft: Draft) -> str:
        """The steps and the answer, as the format has them.

        Args:
            draft: of the pool.

        Raises:
            BadInput: the answer would be read as another, or as none.
        """
        return self.format.solution(draft.steps, draft.answer)

    def final(self, text: str, finished: bool = True) -> str | None:
        """The final answer in its canonical form, or None where there is none; a text that was cut
        off has one only if its markup was closed before.

        Args:
            text: of an answer.
            finished: whether it came to its own end.
        """
        final = self.format.final(text, finished)
        return None if final is None else self.grader.read(final)

    def grade(self, text: str, reference: str, finished: bool = True) -> Outcome:
        """Whether the final answer is what the reference asks for; none is unparsed.

        Args:
            text: of an answer.
            reference: of the item.
            finished: whether the answer came to its own end.
        """
        answer = self.final(text, finished)
        if answer is None:
            return Outcome.UNPARSED
        return Outcome.RIGHT if self.grader.same(answer, reference) else Outcome.WRONG
