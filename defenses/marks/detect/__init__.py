"""Is a mark in a text, or in a student? Pairs of a context and the token behind it, and what a
test says of them; `windows` reads pairs off texts and chooses among them, `students` tests what a
student said, `laws` are exact tails.

Axes: N scored tokens, C tokens of a context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distill.completions import BadInput
from distill.models import LanguageModel


@dataclass(frozen=True)
class Vocabulary:
    """Of which tokenizer token ids are: its SHA-256, and how many ids spell something."""

    digest: str
    tokens: int

    @classmethod
    def of(cls, model: LanguageModel) -> Vocabulary:
        """That of a model."""
        return cls(model.vocabulary, model.tokens)

    def require(self, other: Vocabulary) -> None:
        """Refuse tokens of another tokenizer: their ids mean nothing in this one.

        Args:
            other: of the tokens.

        Raises:
            BadInput: they are of another tokenizer, or of as many tokens as this one has not.
        """
        if self != other:
            raise BadInput(
                f"mark: the tokens are of another tokenizer ({other.digest[:12]}, {other.tokens} "
                f"tokens) than the marked model's ({self.digest[:12]}, {self.tokens}); spell the "
                "text with the marked model's tokenizer"
            )


@dataclass(frozen=True)
class Pairs:
    """Tokens and what stands before each: `contexts_NC` and `tokens_N`, ids of `vocabulary`, and in
    `rows_N` the text that each is in.

    Raises:
        BadInput: the arrays do not fit together, or an id is not in the vocabulary.
    """

    contexts_NC: np.ndarray
    tokens_N: np.ndarray
    rows_N: np.ndarray
    vocabulary: Vocabulary

    def __post_init__(self) -> None:
        size = len(self.tokens_N)
        if self.contexts_NC.ndim != 2 or len(self.contexts_NC) != size or len(self.rows_N) != size:
            raise BadInput(
                f"mark: contexts of shape {self.contexts_NC.shape} and {len(self.rows_N)} rows for "
                f"{size} tokens; there is one of each a token"
            )
        for ids in (self.contexts_NC, self.tokens_N):
            outside = ids[(ids < 0) | (ids >= self.vocabulary.tokens)]
            if outside.size:
                raise BadInput(
                    f"mark: token id {outside[0]} is none of a vocabulary of "
                    f"{self.vocabulary.tokens}; the text was spelled with another tokenizer"
                )

    def __len__(self) -> int:
        return len(self.tokens_N)

    def only(self, chosen_N: np.ndarray) -> Pairs:
        """Some of them.

        Args:
            chosen_N: truth values, or places.
        """
        return Pairs(
            self.contexts_NC[chosen_N],
            self.tokens_N[chosen_N],
            self.rows_N[chosen_N],
            self.vocabulary,
        )


@dataclass(frozen=True)
class Evidence:
    """What a test says: `scored` draws, after `repeats` were left out, came to `statistic` where
    `expected` is usual without the mark; `log_p` (nats) is how likely so much or more is then.

    `log_p` is None where too little was scored for any p to mean something, and `note` says so.
    """

    test: str
    scored: int
    repeats: int
    statistic: float
    expected: float
    log_p: float | None
    note: str = ""

    @property
    def p(self) -> float | None:
        """The p-value; 0 where it is below the smallest number."""
        return None if self.log_p is None else math.exp(self.log_p)

    @property
    def log10_p(self) -> float | None:
        """The p-value's decimal logarithm."""
        return None if self.log_p is None else self.log_p / math.log(10)

    def __str__(self) -> str:
        """One line."""
        if self.log10_p is None:
            return f"{self.test}: {self.note}"
        return (
            f"{self.test}: {self.statistic:g} where {self.expected:g} is usual, of {self.scored} "
            f"scored ({self.repeats} repeats left out), log10 p {self.log10_p:.2f}"
        )


LEAST = 30
"""Draws below which no p is said."""


def too_few(test: str, scored: int, repeats: int, least: int = LEAST) -> Evidence:
    """The line in place of a p-value.

    Args:
        test: its name.
        scored: draws that there are.
        repeats: draws that were left out.
        least: how many are wanted.
    """
    what = "nothing was said that can be scored" if not scored else f"{scored} draws are too few"
    note = f"{what}: {least} distinct ones are the least (repeats left out: {repeats}); no p-value"
    return Evidence(test, scored, repeats, math.nan, math.nan, None, note)
