"""Product of experts: decode with the teacher's distribution times that of a weak proxy, each to a
power.

z = (1 - gamma) z_T + gamma z_P before temperature, that is p_T^(1 - gamma) p_P^gamma renormalised
(the Distillation Game, 2605.22737); equally p_T tilted by exp(gamma (log p_P - log p_T)). The proxy
is added, whereas contrastive decoding subtracts one. It is a downgrade of what is shown, towards
the proxy, whose text it is at gamma 1. Their gamma, .5 to .9, is for sampling at temperature .6
from large models. Axes: B rows, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field
from torch import Tensor

from defenses import (
    BaseDefense,
    DefenseSettings,
    Strength,
    Traits,
    require_language_model,
    require_proxy,
)
from distill.auxiliary import AuxiliaryModel, match_vocab_size
from distill.generation import DecodingStep
from distill.models import Model


def product(scores_BV: Tensor, proxy_BV: Tensor, gamma: float) -> Tensor:
    """(1 - gamma) of the teacher's scores plus gamma of the proxy's; what either adds to a whole
    row is immaterial.

    Args:
        scores_BV: of the teacher, nats.
        proxy_BV: of the proxy, nats.
        gamma: weight of the proxy.

    Returns:
        `[B, V]`, nats.
    """
    return (1 - gamma) * scores_BV + gamma * proxy_BV


class Settings(DefenseSettings):
    """`gamma`: the proxy's share of the exponents (0: no defence; 1: the proxy alone)."""

    gamma: float = Field(0.5, ge=0, le=1)


class Defense(BaseDefense):
    """Multiplies the proxy's distribution into the teacher's."""

    settings: Settings
    traits = Traits(
        acts_on="decoding",
        identity={"gamma": 0.0},
        strength=Strength("gamma", 0.0, 0.05, 1.0),
        requires_logits=True,
        extra_forward_passes=1.0,
        needs=("proxy",),
        paper="the Distillation Game 2026, 2605.22737",
    )

    def __call__(self, model: Model) -> Model:
        scored = require_language_model(model, "decoding/product_of_experts")
        if self.is_identity:
            return scored
        follower = AuxiliaryModel(
            require_proxy(self.resources, scored, "decoding/product_of_experts").network
        )

        def edit(step: DecodingStep, scores_BV: Tensor) -> Tensor:
            return product(
                scores_BV,
                match_vocab_size(follower.logits(step), scores_BV.shape[-1]),
                self.settings.gamma,
            )

        return replace(
            scored,
            score_edits=(*scored.score_edits, edit),
            passes=scored.passes + self.traits.extra_forward_passes,
        )
