"""Query selection under a budget: which questions of a pool are worth an exchange.

`coverage` takes the question farthest from all that were taken before (k-centre, Gonzalez 1985;
Sener & Savarese 2018, 1708.00489) by its character n-grams. `uncertainty` spends a first share of
the budget on questions in their order, trains a pilot on what came back, and spends the rest where
the pilot is least sure of its own answer (Lewis & Gale 1994; for extraction ActiveThief, Pal et al.
2020). `random` takes them in their order, which is the seed's.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.completions import Interface, Prompt
from distill.models import LanguageModel


def ngrams(texts: Sequence[str], n: int, size: int) -> np.ndarray:
    """Counts of hashed character n-grams, rows of length 1 `[A, size]`; texts of fewer characters
    are one n-gram.

    Args:
        texts: A texts.
        n: characters of one.
        size: buckets that they are hashed into.
    """
    counts = np.zeros((len(texts), size), np.float32)
    for row, text in zip(counts, texts, strict=True):
        for i in range(max(1, len(text) - n + 1)):
            row[zlib.crc32(text[i : i + n].encode()) % size] += 1
    unit: np.ndarray = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    return unit


def farthest_first(points: np.ndarray, k: int) -> list[int]:
    """k indices of points (A, D), each the farthest from those before it, from the first on; at
    most twice the best radius (Gonzalez 1985).

    Args:
        points: `[A, D]`.
        k: how many are wanted.
    """
    taken, distance = [0], np.full(len(points), np.inf)
    while len(taken) < min(k, len(points)):
        distance = np.minimum(distance, ((points - points[taken[-1]]) ** 2).sum(1))
        distance[taken] = -1.0  # one that is taken is not taken again, were all others equal to it
        taken.append(int(distance.argmax()))
    return taken


def doubt(pilot: LanguageModel, prompts: Sequence[Prompt]) -> np.ndarray:
    """The pilot's surprisal of its own greedy answers, nats a token, one number a prompt `[Q]`.

    Args:
        pilot: a student of the first answers.
        prompts: Q questions that it is asked.
    """
    completions = pilot.generate(prompts, seed=0, interface=Interface())
    nats = pilot.own_surprisal(completions)
    return np.array(nats) / [len(answer.token_ids) + 1 for answer in completions]


class Settings(Part):
    by: Literal["random", "coverage", "uncertainty"] = "uncertainty"
    pool: int = Field(3, ge=1, le=1000)
    first: float = Field(0.5, gt=0, le=1)
    n: int = Field(3, ge=1, le=1000)


class Attacker(Base):
    paper = "Pal et al. 2020; Sener & Savarese 2018, 1708.00489"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.pool = settings.pool

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("pilot",) if self.settings.by == "uncertainty" else ()

    def ask(
        self, prompts: Sequence[Prompt], budget: int, resources: AttackerResources, *, seed: int
    ) -> list[Prompt]:
        """`budget` questions of the pool."""
        if self.settings.by == "coverage":
            points = ngrams([prompt.text for prompt in prompts], self.settings.n, 512)
            return [prompts[i] for i in farthest_first(points, budget)]
        if resources.pilot is None:
            return list(prompts[:budget])
        first = self.first(budget)
        rest = prompts[first:]
        order = np.argsort(-doubt(resources.pilot, rest), kind="stable")[: budget - first]
        return [*prompts[:first], *(rest[i] for i in sorted(order))]

    def first(self, budget: int) -> int:
        return max(1, int(round(self.settings.first * budget)))
