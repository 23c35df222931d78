"""Marks: what a model says can be recognised, in a text and in a student that learned from it.

A mark is a defence whose `Defense` also finds it again: `detect(pairs, vocabulary)` is a test with
an exact p-value over keys. What it draws for a token is a function of the key, of the `width`
tokens before it and of the token itself; the same draw twice is one draw, so a test counts each
once, by its `identity`. Without that, a text that repeats itself looks marked.

Under the null the text was made without the key, and every draw with an identity of its own is
independent of every other. A student that reads marked text has seen the key at work there; which
pairs may then be scored, `detect.windows` says.

Axes: N scored tokens, C tokens of a context, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from defenses import BaseDefense
from defenses.marks.detect import LEAST, Evidence, Pairs, Vocabulary, laws, too_few
from distill.completions import BadInput
from distill.models import LanguageModel


def require_chance(model: LanguageModel, name: str) -> None:
    """Refuse a greedy model: what acts through the draw alone would do nothing.

    Args:
        model: that is marked.
        name: of the mark, for the message.

    Raises:
        BadInput: it decodes greedily.
    """
    if model.temperature == 0:
        raise BadInput(
            f"defense {name}: the teacher decodes greedily (temperature 0), so there is no draw to "
            "key; put decoding/temperature before it"
        )


class Draws(NamedTuple):
    """What a mark drew for each token: `identity_N`, equal where two are the same draw, and
    `score_N`, larger where the mark preferred the token.
    """

    identity_N: np.ndarray
    score_N: np.ndarray


class Law(NamedTuple):
    """What independent draws came to, what is usual without the mark, and the log (nats) of the
    chance of so much or more.
    """

    statistic: float
    expected: float
    log_p: float


def green_law(score_N: np.ndarray, gamma: float) -> Law:
    """The law of draws of which each is green by a number of its own: binomial, exact.

    Args:
        score_N: whether each is green.
        gamma: the chance of it without the mark.
    """
    hits, trials = int(score_N.sum()), len(score_N)
    return Law(hits, gamma * trials, laws.binomial(hits, trials, gamma))


class Mark(BaseDefense):
    """A defence that marks what a model says, token by token, and finds its mark again."""

    test: str
    """What its test counts, for a line."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Tokens of context that a draw is a function of."""

    @abstractmethod
    def draws(self, contexts_NC: Tensor, tokens_N: Tensor, size: int) -> Draws:
        """What the mark drew for tokens.

        Args:
            contexts_NC: ids of the `width` tokens before each.
            tokens_N: ids.
            size: of the vocabulary.
        """

    @abstractmethod
    def law(self, score_N: np.ndarray, size: int) -> Law:
        """How likely scores of distinct draws are without the mark.

        Args:
            score_N: of draws, each with an identity of its own.
            size: of the vocabulary.
        """

    def detect(
        self, pairs: Pairs, vocabulary: Vocabulary, *, distinct: bool = True, least: int = LEAST
    ) -> Evidence:
        """Whether tokens carry the mark.

        Args:
            pairs: tokens with their contexts.
            vocabulary: of the model that was marked.
            distinct: whether a draw counts once; otherwise the p-value holds only where nothing
                repeats, as some tests of the literature have it.
            least: draws below which no p-value is said.

        Raises:
            BadInput: the tokens are of another tokenizer, or contexts have another width.
        """
        vocabulary.require(pairs.vocabulary)
        if pairs.contexts_NC.shape[1] != self.width:
            raise BadInput(
                f"mark: contexts have {pairs.contexts_NC.shape[1]} tokens, this mark's have "
                f"{self.width}"
            )
        contexts_NC, tokens_N = (
            torch.from_numpy(ids.astype(np.int64)) for ids in (pairs.contexts_NC, pairs.tokens_N)
        )
        identity_N, score_N = self.draws(contexts_NC, tokens_N, vocabulary.tokens)
        if distinct:
            score_N = score_N[np.unique(identity_N, return_index=True)[1]]
        repeats = len(identity_N) - len(score_N)
        if len(score_N) < max(1, least):
            return too_few(self.test, len(score_N), repeats, max(1, least))
        return Evidence(self.test, len(score_N), repeats, *self.law(score_N, vocabulary.tokens))
