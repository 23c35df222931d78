"""Antidistillation fingerprinting: among green tokens, those that a student would learn best get
more.

z(v) + lam q_v (1[v green] - L), with q the proxy's distribution, L its mass on green tokens, and
green a keyed list behind the last `ngram` tokens without special ones (Xu et al. 2026, 2602.03812):
the step along which the proxy's own green mass would rise most, where its last layer alone learns.
A row whose likeliest token ends the answer is left alone, as in the released code.

Tests: on tokens that were said or drawn, one a context, an exact binomial one; on a student's whole
distributions, `students.green_mass`. Each token is green by a number of its own, so distinct
contexts and tokens are independent. Axes: B rows, N tokens, C tokens of a context, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace

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
    require_proxy,
)
from defenses.marks import Draws, Law, Mark, _keyed, green_law
from distill.auxiliary import AuxiliaryModel, match_vocab_size
from distill.generation import DecodingStep
from distill.models import Model

NAME = "marks/adfp"


def tilt(proxy_BV: Tensor, green_BV: Tensor) -> Tensor:
    """q_v (1[v green] - L) with q the softmax of the proxy's scores and L its green mass; it sums
    to 0.

    Args:
        proxy_BV: scores of the proxy.
        green_BV: truth values.

    Returns:
        `[B, V]`.
    """
    q_BV = torch.softmax(proxy_BV, -1)
    green_BV = green_BV.to(q_BV.dtype)
    return q_BV * (green_BV - (q_BV * green_BV).sum(-1, keepdim=True))


class Settings(DefenseSettings):
    """`lam`: weight of the tilt, before temperature (0: no mark); `gamma`: the share of tokens that
    are green; `ngram`: tokens of a context; `key`: the provider's.
    """

    lam: float = Field(16.0, ge=0, le=1e6)
    gamma: float = Field(0.5, ge=0.01, le=0.99)
    ngram: int = Field(2, ge=1, le=8)
    key: SecretKey = "adfp"


class Defense(Mark):
    """Raises green tokens by how well a proxy would learn them, and counts green tokens."""

    settings: Settings
    test = "green tokens (binomial)"
    traits = Traits(
        acts_on="decoding",
        identity={"lam": 0.0},
        strength=Strength("lam", 0.0, 1.0, 1024.0, log=True),
        requires_logits=True,
        extra_forward_passes=1.0,
        needs=("proxy",),
        paper="Xu et al. 2026, 2602.03812",
    )

    @property
    def width(self) -> int:
        return self.settings.ngram

    def green(self, contexts_NC: Tensor, size: int) -> Tensor:
        """Which tokens are green behind each context.

        Args:
            contexts_NC: ids of the last tokens.
            size: of the vocabulary.

        Returns:
            `[N, V]`, truth values.
        """
        contexts_N = _keyed.contexts(contexts_NC, self._start)
        tokens_V = torch.arange(size, device=contexts_NC.device)
        return _keyed.green_behind(contexts_N, tokens_V, self.settings.gamma)

    @property
    def _start(self) -> int:
        return _keyed.secret(self.settings.key, NAME)

    def __call__(self, model: Model) -> Model:
        scored = require_language_model(model, NAME)
        if self.is_identity:
            return scored
        follower = AuxiliaryModel(require_proxy(self.resources, scored, NAME).network)
        special = [i for i in scored.tokenizer.all_special_ids if i < scored.tokens]

        def edit(step: DecodingStep, scores_BV: Tensor) -> Tensor:
            size = scores_BV.shape[-1]
            green_BV = self.green(_keyed.last_tokens(step, self.width), size)
            green_BV[:, special] = False
            proxy_BV = match_vocab_size(follower.logits(step), size)
            likeliest_B1 = scores_BV.argmax(-1, keepdim=True)
            ends_E = torch.tensor(scored.ends, device=scores_BV.device)
            tilted_BV = scores_BV + self.settings.lam * tilt(proxy_BV, green_BV)
            return torch.where(torch.isin(likeliest_B1, ends_E), scores_BV, tilted_BV)

        return replace(
            scored,
            score_edits=(*scored.score_edits, edit),
            passes=scored.passes + self.traits.extra_forward_passes,
        )

    def draws(self, contexts_NC: Tensor, tokens_N: Tensor, size: int) -> Draws:
        number_N = _keyed.behind(_keyed.contexts(contexts_NC, self._start), tokens_N)
        return Draws(number_N.numpy(), _keyed.below(number_N, self.settings.gamma).numpy())

    def law(self, score_N: np.ndarray, size: int) -> Law:
        return green_law(score_N, self.settings.gamma)
