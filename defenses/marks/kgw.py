"""KGW: tokens on a green list, drawn anew behind every context, get `delta` more.

z(v) + delta where v is green, before temperature (Kirchenbauer et al. 2023, 2301.10226). With
`hash: left` the list is a function of the `ngram` tokens before; with `self` (Kirchenbauer et al.
2024, 2306.04634, "SelfHash") whether v is green is a function of v and of one of those tokens, or
of v again, whichever pair has the smallest number, so that an edit of the others does not matter.

What differs: each token is green with probability `gamma` by a number of its own, where the release
permutes the vocabulary and takes the first gamma V; so distinct draws are independent, and the test
is an exact binomial one. Axes: B rows, N tokens, C tokens of a context, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

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
from defenses.marks import Draws, Law, Mark, _keyed, green_law
from distill.generation import DecodingStep
from distill.models import Model

Hash = Literal["left", "self"]


def numbers(contexts_NC: Tensor, tokens: Tensor, start: int, hash: Hash) -> Tensor:
    """The number of each draw: a token is green where its number is small.

    Args:
        contexts_NC: ids before each token.
        tokens: ids, `[N]` of one behind each context, or `[1, V]` of all behind each.
        start: the secret.
        hash: what is read of a context.

    Returns:
        `[N]` or `[N, V]`, int64.
    """
    every = tokens.ndim == 2
    if hash == "left":
        context_N = _keyed.contexts(contexts_NC, start)
        return _keyed.behind(context_N[:, None] if every else context_N, tokens)
    pair = None
    for partners_N in (*contexts_NC.unbind(-1), None):
        # A token with itself is the pair that is always there.
        first = tokens if partners_N is None else partners_N[:, None] if every else partners_N
        number = _keyed.behind(_keyed.contexts(first.reshape(-1, 1), start).view_as(first), tokens)
        pair = number if pair is None else torch.minimum(pair, number)
    assert pair is not None
    return _keyed.mixed(pair)  # the smallest of several is no even draw, its mixture is


class Settings(DefenseSettings):
    """`delta`: what green tokens get, nats before temperature (0: no mark); `gamma`: the share of
    tokens that are green; `ngram`: tokens of a context; `hash`: how it is read; `key`: the
    provider's.
    """

    delta: float = Field(2.0, ge=0, le=100)
    gamma: float = Field(0.25, ge=0.01, le=0.99)
    ngram: int = Field(2, ge=1, le=8)
    hash: Hash = "left"
    key: SecretKey = "kgw"


class Defense(Mark):
    """Raises the scores of green tokens, and counts green tokens."""

    settings: Settings
    test = "green tokens (binomial)"
    traits = Traits(
        acts_on="decoding",
        identity={"delta": 0.0},
        strength=Strength("delta", 0.0, 0.25, 10.0, log=True),
        requires_logits=True,
        paper="Kirchenbauer et al. 2023, 2301.10226; 2024, 2306.04634 (self)",
    )

    @property
    def width(self) -> int:
        return self.settings.ngram

    @property
    def _start(self) -> int:
        return _keyed.secret(self.settings.key, "marks/kgw")

    def green(self, contexts_BC: Tensor, tokens_V: Tensor) -> Tensor:
        """Which tokens are green behind each context.

        Args:
            contexts_BC: ids of the last tokens.
            tokens_V: ids.

        Returns:
            `[B, V]`, truth values.
        """
        if self.settings.hash == "left":
            contexts_B = _keyed.contexts(contexts_BC, self._start)
            return _keyed.green_behind(contexts_B, tokens_V, self.settings.gamma)
        number_BV = numbers(contexts_BC, tokens_V[None], self._start, self.settings.hash)
        return _keyed.below(number_BV, self.settings.gamma)

    def __call__(self, model: Model) -> Model:
        scored = require_language_model(model, "marks/kgw")
        if self.is_identity:
            return scored

        def edit(step: DecodingStep, scores_BV: Tensor) -> Tensor:
            tokens_V = torch.arange(scores_BV.shape[-1], device=scores_BV.device)
            green_BV = self.green(_keyed.last_tokens(step, self.width), tokens_V)
            return scores_BV.add(green_BV.to(scores_BV.dtype), alpha=self.settings.delta)

        return replace(scored, score_edits=(*scored.score_edits, edit))

    def draws(self, contexts_NC: Tensor, tokens_N: Tensor, size: int) -> Draws:
        number_N = numbers(contexts_NC, tokens_N, self._start, self.settings.hash)
        green_N = _keyed.below(number_N, self.settings.gamma)
        return Draws(number_N.numpy(), green_N.numpy())

    def law(self, score_N: np.ndarray, size: int) -> Law:
        return green_law(score_N, self.settings.gamma)
