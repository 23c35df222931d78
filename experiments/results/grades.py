"""All grades of a study as arrays: whose exams they are, and what was right.

`grades_file.read` makes them of `grades.parquet`; all numbers of a report follow from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distill.completions import digest

WHO = ("task", "defense", "attacker", "budget", "split", "seed")
"""Columns of a file of grades that say whose exam a row belongs to."""
NUMBERS = ("bits_per_byte", "nats", "l1", "kl", "flips", "passes", "tokens")
"""Columns that hold a number an answer, where it was measured."""


class Key(NamedTuple):
    """Students that differ in their seed alone; a teacher has attacker "" and budget 0."""

    task: str
    defense: str
    attacker: str
    budget: int
    split: str


class Exam(NamedTuple):
    """One exam: arrays over N items; what was not measured is None. `final_N` are codes, -1 for
    unparsed.

    `nats_N` is the surprisal of each answer and its end to the model that was asked, without
    its defence. Texts are kept of teachers alone; students' are in the file and in `digest`.
    """

    items: tuple[str, ...]
    right_N: np.ndarray
    final_N: np.ndarray
    bits_N: np.ndarray | None
    nats_N: np.ndarray | None
    l1: float
    kl: float
    flips: float
    passes: float
    tokens: float | None
    bytes: float
    unfinished: float
    texts: tuple[str, ...]
    prompts: tuple[str, ...]
    digest: str
    clusters: tuple[str, ...] = ()  # declared names, "" for an item that is its own
    sampled_N: np.ndarray | None = None  # right ones of the answers sampled for pass@k

    @property
    def confidence_N(self) -> np.ndarray | None:
        """The model's probability of each of its answers, whole."""
        return None if self.nats_N is None else np.exp(-self.nats_N)


class Exams(NamedTuple):
    """The exams of one key, in the order of their seeds."""

    seeds: tuple[int, ...]
    exams: tuple[Exam, ...]

    @property
    def right_SN(self) -> np.ndarray:
        return np.stack([exam.right_N for exam in self.exams])

    @property
    def final_SN(self) -> np.ndarray:
        return np.stack([exam.final_N for exam in self.exams])

    @property
    def texts(self) -> list[str]:
        """Of all its exams, one after the other; none of students."""
        return [text for exam in self.exams for text in exam.texts]

    @property
    def unparsed_texts(self) -> list[bool]:
        """Whether each of `texts` holds no final answer."""
        return [
            bool(code < 0)
            for exam in self.exams
            for _, code in zip(exam.texts, exam.final_N, strict=False)
        ]

    @property
    def unparsed(self) -> float:
        return float((self.final_SN < 0).mean())

    def digest_of(self, seeds: Sequence[int]) -> str:
        """Over all answers of the exams of these seeds.

        Args:
            seeds: of students, or the numbers of a teacher's exams.
        """
        pairs = zip(self.seeds, self.exams, strict=True)
        return digest("".join(exam.digest for seed, exam in pairs if seed in seeds))

    def stacked(self, name: str) -> np.ndarray | None:
        """A measure `[S, N]` of seeds x items, or None where an exam lacks it.

        Args:
            name: of a field of an exam with a value an item.
        """
        parts = [getattr(exam, name) for exam in self.exams]
        return None if any(part is None for part in parts) else np.stack(parts)

    def mean(self, name: str) -> float | None:
        """A measure's mean over exams, or None where an exam lacks it.

        Args:
            name: of a field of an exam that is a number.
        """
        parts = [getattr(exam, name) for exam in self.exams]
        return None if any(part is None for part in parts) else float(np.mean(parts))


Grades = dict[Key, Exams]
