"""What a task is: questions of a pool, how their answers look, and an exact grader."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

from distill.completions import BadInput, Prompt, digest
from experiments.tasks.nouns import Draft, Item, Outcome
from experiments.tasks.pool import Pool


class Task(Pool):
    """A task without its questions: each says how many there are, what number `index` asks, and how
    answers look.
    """

    mark: ClassVar[str] = "#"  # what the final answer follows
    data: str = ""  # SHA-256 of files that the questions come from
    clusters: Mapping[str, str] = MappingProxyType({})  # by item id: which belong together
    alphabet: str
    form: re.Pattern[str]

    def public(self, n: int, seed: int) -> list[Item]:
        """What anybody owns without a teacher (floor F1): questions of the query split with their
        final answers.
        """
        items = self.items("query", n, seed)
        return [replace(item, solution=f" {self.mark} {item.reference}") for item in items]

    def corpus(self) -> list[str]:
        """Public text from which a vocabulary is learned; none where questions are drawn from
        rules.
        """
        raise BadInput(
            f"task {self.name}: has no public text to learn a vocabulary from; vocabulary must be 0"
        )

    def item(self, draft: Draft) -> Item:
        """A question with its worked solution, and the cluster that it belongs to."""
        prompt = self.prompt(draft)
        return Item(prompt, self.solution(draft), draft.answer, self.clusters.get(prompt.id, ""))

    def prompt(self, draft: Draft) -> Prompt:
        """A question as it is asked; its id is a function of its text."""
        return Prompt(f"{self.name}-{digest(draft.text)[:16]}", draft.text)

    def solution(self, draft: Draft) -> str:
        """The steps and, behind the mark, the answer."""
        return f"{draft.steps} {self.mark} {draft.answer}"

    def final(self, text: str) -> str | None:
        """The final answer in its canonical form: what follows the last mark, or None where that
        has no such form.
        """
        _, mark, said = text.rpartition(self.mark)
        said = said.strip(" \t\r\n")  # ASCII alone: other spaces are no part of an answer's form
        return said if mark and self.form.fullmatch(said) else None

    def grade(self, text: str, reference: str) -> Outcome:
        """Compare the final answer with the reference; none is unparsed."""
        said = self.final(text)
        if said is None:
            return Outcome.UNPARSED
        return Outcome.RIGHT if said == reference else Outcome.WRONG
