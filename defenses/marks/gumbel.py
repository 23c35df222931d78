"""Gumbel: the next token is the teacher's own draw, made with keyed numbers in place of chance.

argmax_v r_v^(1 / p_v), where r_v in (0, 1) is a function of the key, of the `ngram` tokens before
and of v (Aaronson 2022, a talk), that is the first of exponential clocks with rates p_v. Over keys
it is a draw from p, so nothing is lost on average; with one key the same context is always followed
by the same token. A context that was there before in the answer is drawn by chance (`once`), so
that over keys a whole answer has the teacher's law; asked again, it begins alike.

The test adds up -log(1 - r) of what was said: without the mark each is a standard exponential,
their sum Gamma (exact). Axes: B rows, N tokens, C tokens of a context, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from defenses import DefenseSettings, SecretKey, Traits, require_language_model
from defenses.marks import Draws, Law, Mark, _keyed, require_chance
from defenses.marks.detect import laws
from distill.generation import DecodingStep
from distill.models import Model

NAME = "marks/gumbel"


def first(logprobs_BV: Tensor, uniforms_BV: Tensor) -> Tensor:
    """argmax r^(1 / p), as the argmax of log p - log(-log r), in float64.

    Args:
        logprobs_BV: of the teacher.
        uniforms_BV: r, in (0, 1).

    Returns:
        Token ids `[B]`.
    """
    return (logprobs_BV.double() - (-uniforms_BV.log()).log()).argmax(-1)


class Settings(DefenseSettings):
    """`ngram`: tokens of a context (None: no mark); `once`: whether a context that is there again
    in an answer is drawn by chance; `key`: the provider's.
    """

    ngram: int | None = Field(2, ge=1, le=8)
    once: bool = True
    key: SecretKey = "gumbel"


class Defense(Mark):
    """Draws tokens with keyed numbers, and adds up those of the tokens that were said."""

    settings: Settings
    test = "keyed exponentials (Gamma)"
    traits = Traits(
        acts_on="decoding",
        identity={"ngram": None},
        requires_logits=True,
        requires_sampling=True,
        keeps_argmax=True,
        keeps_answer=True,
        paper="Aaronson 2022 (a talk); 2402.14904 (the test on students)",
    )

    @property
    def width(self) -> int:
        return self.settings.ngram or 0

    @property
    def _start(self) -> int:
        return _keyed.secret(self.settings.key, NAME)

    def __call__(self, model: Model) -> Model:
        scored = require_language_model(model, NAME)
        if self.is_identity:
            return scored
        require_chance(scored, NAME)
        repeats = _keyed.Repeats()

        def edit(step: DecodingStep, logprobs_BV: Tensor) -> Tensor:
            contexts_B = _keyed.contexts(_keyed.last_tokens(step, self.width), self._start)
            tokens_V = torch.arange(logprobs_BV.shape[-1], device=logprobs_BV.device)
            uniforms_BV = _keyed.uniforms(_keyed.behind(contexts_B[:, None], tokens_V))
            drawn_B1 = first(logprobs_BV, uniforms_BV)[:, None]
            drawn_BV = torch.full_like(logprobs_BV, -torch.inf).scatter_(-1, drawn_B1, 0.0)
            if not self.settings.once:
                return drawn_BV
            return torch.where(repeats.is_new(step, contexts_B)[:, None], drawn_BV, logprobs_BV)

        return replace(scored, drawn_edits=(*scored.drawn_edits, edit))

    def draws(self, contexts_NC: Tensor, tokens_N: Tensor, size: int) -> Draws:
        number_N = _keyed.behind(_keyed.contexts(contexts_NC, self._start), tokens_N)
        return Draws(number_N.numpy(), -(-_keyed.uniforms(number_N)).log1p().numpy())

    def law(self, score_N: np.ndarray, size: int) -> Law:
        total, draws = float(score_N.sum()), len(score_N)
        return Law(total, draws, laws.gamma(total, draws))
