"""Questions of a numbered pool, in disjoint splits.

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
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar, Literal, cast, get_args

from distill.completions import BadInput
from experiments.tasks.nouns import Draft, Item

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


def place_of(canonical: str) -> int:
    """Where a question's SHA-256 falls among 2^64 places.

    Args:
        canonical: a question's text, or what stands for questions that are alike.
    """
    return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:8], "big")


def split_of(canonical: str) -> Split:
    """The one split that a question belongs to, by where its SHA-256 falls in [0, 1).

    Args:
        canonical: a question's text, or what stands for questions that are alike.
    """
    place = place_of(canonical) / 2**64
    for split, share in SHARES.items():
        place -= share
        if place < 0:
            return split
    return "report"  # what float rounding leaves over


def shuffled(size: int, key: str) -> Iterator[int]:
    """The numbers 0 to size - 1 in an order fixed by `key`: Fisher-Yates, holding only what has
    moved.

    Args:
        size: how many.
        key: fixes the order.
    """
    # A string seeds through SHA-512, the same on every machine; an integer would make seeds 1 and
    # -1 the same.
    rng, moved = random.Random(key), dict[int, int]()
    for i in range(size):
        j = rng.randrange(i, size)
        yield moved.get(j, j)
        moved[j] = moved.pop(i, i)


class Pool(ABC):
    """Questions by their numbers: each kind of pool says how many there are and what number `index`
    asks.
    """

    name: ClassVar[str]
    size: int

    @property
    def different(self) -> int:
        """How many different questions there are, where a pool may ask one twice."""
        return self.size

    @abstractmethod
    def draft(self, index: int) -> Draft | None:
        """Question number `index` of the pool, or None where that number names no
        valid question.

        Args:
            index: from 0, below `size`.
        """

    def split(self, index: int, canonical: str) -> Split:
        """The one split that a question belongs to.

        Args:
            index: of the question.
            canonical: its text, or what stands for questions that are alike.
        """
        return split_of(canonical)

    @abstractmethod
    def item(self, draft: Draft) -> Item:
        """A question as it is asked, with its solution and reference.

        Args:
            draft: of the pool.
        """

    def items(self, split: Split, n: int, seed: int) -> list[Item]:
        """The first n distinct questions of a split in the order of `seed`.

        Args:
            split: of `SHARES`.
            n: how many.
            seed: of their order.

        Raises:
            BadInput: there is no such split, or it has fewer.
        """
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

        Args:
            split: of the questions.
            n: beyond which nothing is counted.
        """
        share, even = SHARES[split], type(self).split is Pool.split
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

        Args:
            n: at most.
            seed: of the order.
        """
        return list(itertools.islice(self._draw("train", seed), n))

    def _drafts(self, split: Split, seed: int) -> Iterator[Draft]:
        seen = set[str]()
        for index in shuffled(self.size, f"{self.name}/{seed}"):
            draft = self.draft(index)
            if draft is None or draft.canonical in seen:
                continue
            if self.split(index, draft.canonical) == split:
                seen.add(draft.canonical)
                yield draft

    def _draw(self, split: Split, seed: int) -> Iterator[Item]:
        return map(self.item, self._drafts(split, seed))
