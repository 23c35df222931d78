"""Unigram: the same green list everywhere, whatever stands before.

z(v) + delta for the gamma V tokens of one keyed list (Zhao et al. 2024, 2306.17439). An edit of
other tokens leaves a token's colour as it is, and whoever counts tokens learns the list.

A text tells of each token of the vocabulary once, however often it is there: the test counts green
ones among the distinct tokens, which without the mark are drawn from the list without putting back
(hypergeometric, exact). The paper's z counts every occurrence, and takes a text that says one green
word a hundred times for marked. A vocabulary of few tokens has no room for small p-values. Axes: B
rows, N tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from defenses import (
    DefenseSettings,
    SecretKey,
    Strength,
    Traits,
    require_language_model,
)
from defenses.marks import Draws, Law, Mark, _keyed
from defenses.marks.detect import laws
from distill.generation import DecodingStep
from distill.models import Model


def green_size(size: int, gamma: float) -> int:
    """How many tokens are green: at least one is, and one is not.

    Args:
        size: of the vocabulary.
        gamma: share that is wanted.
    """
    return min(max(1, round(gamma * size)), size - 1)


@cache
def green_list(key: str, size: int, gamma: float) -> Tensor:
    """Which tokens are green `[V]`: those with the smallest numbers.

    Args:
        key: of the provider.
        size: of the vocabulary.
        gamma: share.
    """
    start = torch.tensor(_keyed.secret(key, "marks/unigram"))
    number_V = _keyed.behind(start, torch.arange(size))
    green_V = torch.zeros(size, dtype=torch.bool)
    green_V[number_V.argsort()[: green_size(size, gamma)]] = True
    return green_V


class Settings(DefenseSettings):
    """`delta`: what green tokens get, nats before temperature (0: no mark); `gamma`: the share of
    tokens that are green; `key`: the provider's.
    """

    delta: float = Field(2.0, ge=0, le=100)
    gamma: float = Field(0.5, ge=0.01, le=0.99)
    key: SecretKey = "unigram"


class Defense(Mark):
    """Raises the scores of the tokens on one list, and counts how many of those on it were said."""

    settings: Settings
    test = "green among distinct tokens (hypergeometric)"
    traits = Traits(
        acts_on="decoding",
        identity={"delta": 0.0},
        strength=Strength("delta", 0.0, 0.25, 10.0, log=True),
        requires_logits=True,
        paper="Zhao et al. 2024, 2306.17439",
    )

    @property
    def width(self) -> int:
        return 0

    def green(self, size: int) -> Tensor:
        """Which tokens are green `[V]`.

        Args:
            size: of the vocabulary.
        """
        return green_list(self.settings.key, size, self.settings.gamma)

    def __call__(self, model: Model) -> Model:
        scored = require_language_model(model, "marks/unigram")
        if self.is_identity:
            return scored
        more_V = self.settings.delta * self.green(scored.tokens).to(scored.network.device)

        def edit(step: DecodingStep, scores_BV: Tensor) -> Tensor:
            return scores_BV + more_V

        return replace(scored, score_edits=(*scored.score_edits, edit))

    def draws(self, contexts_NC: Tensor, tokens_N: Tensor, size: int) -> Draws:
        return Draws(tokens_N.numpy(), self.green(size)[tokens_N].numpy())

    def law(self, score_N: np.ndarray, size: int) -> Law:
        hits, drawn = int(score_N.sum()), len(score_N)
        green = green_size(size, self.settings.gamma)
        return Law(hits, drawn * green / size, laws.hypergeometric(hits, drawn, green, size))
