"""What an exam is: items drawn from disjoint splits of a numbered pool, and an exact grader.

A task numbers every question that it can ask, 0 to size - 1. Drawing walks the pool in an order
shuffled by the seed, so the same seed gives the same items, fewer items are a prefix of more, and
an exhausted pool is known exactly.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import random
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple, cast, get_args

from distill.completions import BadInput, Prompt, digest

Split = Literal["train", "query", "validate", "select", "report"]
SHARES: dict[Split, float] = {
    "train": 0.55,
    "query": 0.25,
    "validate": 0.05,
    "select": 0.05,
    "report": 0.1,
}
COUNTED = 30_000  # questions of a pool that planning may go through; more would take it seconds
SURE = 6  # standard deviations by which a larger pool's split may fall short of its share


class Outcome(StrEnum):
    """A grader's word on one answer."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSED = "unparsed"


@dataclass(frozen=True)
class Item:
    """A question, its worked solution (which ends with the answer), and the answer alone.

    Items of one `cluster` belong together (questions on one passage, say) and count as one draw;
    without a name, an item is a cluster of its own.
    """

    prompt: Prompt
    solution: str
    reference: str
    cluster: str = ""


class Draft(NamedTuple):
    """A question before it has a split: questions of one `canonical` form are the same question."""

    canonical: str
    text: str
    steps: str
    answer: str


def split_of(canonical: str) -> Split:
    """The one split that a question belongs to, by where its SHA-256 falls in [0, 1)."""
    place = int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:8], "big") / 2**64
    for split, share in SHARES.items():
        place -= share
        if place < 0:
            return split
    return "report"  # what float rounding leaves over


def shuffled(size: int, key: str) -> Iterator[int]:
    """The numbers 0 to size - 1 in an order fixed by `key`: Fisher-Yates, holding only what has
    moved.
    """
    # A string seeds through SHA-512, the same on every machine; an integer would make seeds 1 and
    # -1 the same.
    rng, moved = random.Random(key), dict[int, int]()
    for i in range(size):
        j = rng.randrange(i, size)
        yield moved.get(j, j)
        moved[j] = moved.pop(i, i)


class Exam(ABC):
    """A task without its questions: each says how many there are, what number `index` asks, and how
    answers look.
    """

    name: ClassVar[str]
    mark: ClassVar[str] = "#"  # what the final answer follows
    data: str = ""  # SHA-256 of files that the questions come from
    clusters: Mapping[str, str] = MappingProxyType({})  # by item id: which belong together
    alphabet: str
    size: int
    form: re.Pattern[str]

    @property
    def different(self) -> int:
        """How many different questions there are, where a pool may ask one twice."""
        return self.size

    @abstractmethod
    def draft(self, index: int) -> Draft | None:
        """Question number `index` of the pool, or None where that number names no
        valid question.
        """

    def split(self, index: int, canonical: str) -> Split:
        """The one split that a question belongs to."""
        return split_of(canonical)

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

    def items(self, split: Split, n: int, seed: int) -> list[Item]:
        """The first n distinct questions of a split in the order of `seed`."""
        if split not in get_args(Split):
            raise BadInput(
                f"{self.name}: no split {cast(str, split)!r} (there are: "
                f"{', '.join(get_args(Split))})"
            )
        if n < 0:
            raise BadInput(f"{self.name}: {split} items must be at least 0, got {n}")
        drawn = list(itertools.islice(self._draw(split, seed), n))
        if len(drawn) < n:
            raise BadInput(
                f"{self.name}: {n} {split} items asked for, only {len(drawn)} available at these "
                "settings"
            )
        return drawn

    def available(self, split: Split, n: int) -> int:
        """How many questions a split surely has, as far as n.

        Hashes divide evenly: a split falls short of its share by less than SURE standard
        deviations. Where that does not do, all questions of a small pool are counted.
        """
        share, even = SHARES[split], type(self).split is Exam.split
        spread = math.sqrt(self.different * share * (1 - share))
        sure = max(0, int(share * self.different - SURE * spread))
        return min(n, sure if even and (n <= sure or self.size > COUNTED) else self._counts[split])

    @functools.cached_property
    def _counts(self) -> Counter[Split]:
        """Different questions by split."""
        drafts = ((index, draft) for index in range(self.size) if (draft := self.draft(index)))
        there = {(self.split(index, draft.canonical), draft.canonical) for index, draft in drafts}
        return Counter(split for split, _ in there)

    def train_items(self, n: int, seed: int) -> list[Item]:
        """What a teacher by recipe learns from: the first n questions of the training split, or all
        if it has fewer.
        """
        return list(itertools.islice(self._draw("train", seed), n))

    def _drafts(self, split: Split, seed: int) -> Iterator[Draft]:
        seen = set[str]()
        for index in shuffled(self.size, f"{self.name}/{seed}"):
            asked = self.draft(index)
            if asked is None or asked.canonical in seen:
                continue
            if self.split(index, asked.canonical) == split:
                seen.add(asked.canonical)
                yield asked

    def _draw(self, split: Split, seed: int) -> Iterator[Item]:
        for asked in self._drafts(split, seed):
            prompt = self.prompt(asked)
            yield Item(prompt, self.solution(asked), asked.answer, self.clusters.get(prompt.id, ""))

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
