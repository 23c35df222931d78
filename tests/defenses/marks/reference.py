"""Marks again, in Python's own integers and one token at a time: what the tests hold them to; and
texts of models that never saw a key.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from defenses.marks import Mark
from defenses.marks.detect import Pairs, Vocabulary
from defenses.marks.detect.windows import of_texts
from distill.generation import DecodingStep

WORD = 2**64
SIZE = 5000
BOOK = Vocabulary("a" * 64, SIZE)


def secret(key: str, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{purpose}/{key}".encode()).digest()[:8], "big")


def mix(z: int) -> int:
    """splitmix64's finaliser."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % WORD
    return z ^ (z >> 31)


def number(start: int, tokens: Sequence[int]) -> int:
    """Of a context and the token behind it."""
    for token in tokens:
        start = mix((start + (token + 1) * 0x9E3779B97F4A7C15) % WORD)
    return start


def share(z: int) -> float:
    """Which share of all int64 is below the one of these bits."""
    return ((z + WORD // 2) % WORD) / WORD


def step(contexts: Sequence[Sequence[int]], index: int = 0, memory: dict | None = None):
    """A decoding step behind contexts, a row each; -1 is padding."""
    tokens = torch.tensor(contexts)
    return DecodingStep(
        tokens.clamp(min=0),
        (tokens >= 0).long(),
        [str(i) for i in range(len(contexts))],
        index,
        memory={} if memory is None else memory,
    )


def softmax(scores: Sequence[float]) -> list[float]:
    weights = [math.exp(one) for one in scores]
    return [one / sum(weights) for one in weights]


def plain_text(seed: int, length: int, words: int = SIZE) -> np.ndarray:
    """Tokens as common as in a language, which repeat n-grams no more than chance does."""
    rng = np.random.default_rng(seed)
    return np.minimum((rng.pareto(0.7, length) * 20).astype(np.int64), words - 1)


def repeating_text(seed: int, length: int) -> np.ndarray:
    """A text that says forty phrases again and again."""
    rng = np.random.default_rng(seed)
    phrases = [plain_text(seed + 1 + i, 12) for i in range(40)]
    picks = (rng.random(length // 12) ** 3 * 40).astype(int)
    return np.concatenate([phrases[i] for i in picks])


def pairs(text: np.ndarray, width: int, vocabulary: Vocabulary = BOOK) -> Pairs:
    return of_texts([text.tolist()], width, vocabulary)


def null_p(make: Callable[[str], Mark], text: np.ndarray, keys: int, distinct: bool) -> list[float]:
    """p-values of one text under so many keys that it was made without."""
    marks = [make(f"null {i}") for i in range(keys)]
    read = pairs(text, marks[0].width)
    return [mark.detect(read, BOOK, distinct=distinct).p for mark in marks]
