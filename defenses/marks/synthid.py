"""SynthID's tournament: the next token is drawn from the teacher's distribution after `layers`
rounds, each of which favours tokens with a keyed bit set.

In a round with bits g of the key, of the `ngram` tokens before and of the token, the winner of
`leaves` draws with the largest g, ties by chance, is distributed as p(v) times (1 - (1 -
mu)^leaves) / mu where g = 1 and times (1 - mu)^(leaves - 1) where g = 0, with mu = sum g p
(Dathathri et al. 2024, Nature 634). For two leaves that is p (1 + g - mu), which over keys is p:
nothing is lost on average. With more it is not, and the mark is stronger.

A port: the bits of all rounds are those of one 64-bit number of the context and token, where the
release hashes each round with a key of its own; the test counts bits, which without the mark is
Binomial(tokens x layers, 1/2) exactly, and the release's weighted mean and Bayesian detector are
not here. As in the release a context that is there again in an answer is drawn without the mark
(`once`). Axes: B rows, N tokens, C tokens of a context, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from defenses import (
    NO_RESOURCES,
    DefenseSettings,
    ProviderResources,
    SecretKey,
    Strength,
    Traits,
    require_language_model,
)
from defenses.marks import Draws, Law, Mark, _keyed, require_chance
from defenses.marks.detect import laws
from distill.generation import DecodingStep
from distill.models import Model

NAME = "marks/synthid"
MOST = 60  # bits of a number


def tournament(p_BV: Tensor, numbers_BV: Tensor, layers: int, leaves: int) -> Tensor:
    """The distribution of the winner.

    Args:
        p_BV: probabilities.
        numbers_BV: of which bit i is that of round i.
        layers: rounds.
        leaves: draws that meet in a round.

    Returns:
        Probabilities `[B, V]`.
    """
    for layer in range(layers):
        bits_BV = ((numbers_BV >> layer) & 1).bool()
        mu_B1 = (p_BV * bits_BV).sum(-1, keepdim=True).clamp(0, 1)
        # Without any mass on set bits no factor matters.
        won_B1 = (1 - (1 - mu_B1) ** leaves) / mu_B1.clamp(min=1e-300)
        p_BV = p_BV * torch.where(bits_BV, won_B1, (1 - mu_B1) ** (leaves - 1))
    return p_BV / p_BV.sum(-1, keepdim=True)


class Settings(DefenseSettings):
    """`layers`: rounds (0: no mark); `leaves`: draws that meet in a round, of which 2 leave the
    distribution as it is over keys; `ngram`: tokens of a context; `once`: whether a context that is
    there again in an answer is drawn without the mark; `key`: the provider's.
    """

    layers: int = Field(30, ge=0, le=MOST)
    leaves: int = Field(2, ge=2, le=16)
    ngram: int = Field(4, ge=1, le=8)
    once: bool = True
    key: SecretKey = "synthid"


class Defense(Mark):
    """Draws tokens through a keyed tournament, and counts the bits of the tokens that were said."""

    settings: Settings
    test = "keyed bits (binomial)"
    traits = Traits(
        acts_on="decoding",
        identity={"layers": 0},
        strength=Strength("layers", 0, 1, 30),
        requires_logits=True,
        requires_sampling=True,
        keeps_argmax=True,
        keeps_answer=True,
        paper="Dathathri et al. 2024 (Nature 634)",
    )

    def __init__(self, settings: Settings, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        self.traits = replace(self.traits, keeps_answer=settings.leaves == 2)

    @property
    def width(self) -> int:
        return self.settings.ngram

    @property
    def _start(self) -> int:
        return _keyed.secret(self.settings.key, NAME)

    def __call__(self, model: Model) -> Model:
        scored = require_language_model(model, NAME)
        if self.is_identity:
            return scored
        require_chance(scored, NAME)
        s, repeats = self.settings, _keyed.Repeats()

        def edit(step: DecodingStep, logprobs_BV: Tensor) -> Tensor:
            contexts_B = _keyed.contexts(_keyed.last_tokens(step, self.width), self._start)
            tokens_V = torch.arange(logprobs_BV.shape[-1], device=logprobs_BV.device)
            numbers_BV = _keyed.behind(contexts_B[:, None], tokens_V)
            p_BV = tournament(logprobs_BV.double().exp(), numbers_BV, s.layers, s.leaves)
            drawn_BV = p_BV.log().to(logprobs_BV)
            if not s.once:
                return drawn_BV
            return torch.where(repeats.is_new(step, contexts_B)[:, None], drawn_BV, logprobs_BV)

        return replace(scored, drawn_edits=(*scored.drawn_edits, edit))

    def draws(self, contexts_NC: Tensor, tokens_N: Tensor, size: int) -> Draws:
        number_N = _keyed.behind(_keyed.contexts(contexts_NC, self._start), tokens_N)
        bits_N = sum(((number_N >> layer) & 1) for layer in range(self.settings.layers))
        return Draws(number_N.numpy(), torch.as_tensor(bits_N).numpy())

    def law(self, score_N: np.ndarray, size: int) -> Law:
        bits, trials = int(score_N.sum()), len(score_N) * self.settings.layers
        return Law(bits, trials / 2, laws.binomial(bits, trials, 0.5))
