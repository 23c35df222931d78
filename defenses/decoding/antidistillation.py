"""Antidistillation sampling: prefer tokens that would make a student worse, as a proxy's gradient
tells.

z(v) = z_T(v) + lam Delta(v) before temperature, with Delta(v) = <g / |g|, grad log p(v | context;
theta_P)> and g the gradient of the loss over held-out clean traces at the proxy (Savani et al.
2025, 2504.13146, Algorithm 1). A step of training on v moves the proxy along grad log p(v), so
where Delta(v) > 0 it raises that loss.

Where this differs from the released code, and lam from the paper's:
- Their gradient is divided by the number of processes, so that epsilon and lam depend on the
  machine. Here g has unit L2 norm over all parameters, and its raw norm is kept as `gradient_norm`.
- Their two perturbed proxies are half precision, in which a small step is mostly rounded away; here
  they are float32 (`product: difference`), or there is no step: `exact` is the derivative, by one
  forward-mode pass.
- g is of the mean over all tokens of the traces; theirs is the mean over traces of each one's mean,
  which `mean: trace` is.
- lam stands before temperature, as in their code; in the paper it is added to z_T / temperature.

A proxy that was tuned on the traces themselves has a smaller and noisier g than one that has never
seen them. Axes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from defenses import (
    NO_RESOURCES,
    BaseDefense,
    DefenseSettings,
    ProviderResources,
    Strength,
    Traits,
    require_language_model,
    require_proxy,
    require_traces,
)
from defenses.trained import Mean, changed, copied, gradient, rows, unit_direction
from distill.auxiliary import AuxiliaryModel, JvpModel, match_vocab_size
from distill.completions import BadInput
from distill.generation import DecodingStep
from distill.models import Model

NAME, NORM = "decoding/antidistillation", "gradient_norm"


def difference(
    network: Any, direction: Mapping[str, Tensor], epsilon: float
) -> Callable[[DecodingStep], Tensor]:
    """(log p(v; theta + epsilon d) - log p(v; theta - epsilon d)) / (2 epsilon): the slopes up to
    O(epsilon^2).

    Args:
        network: the proxy; it stays as it is.
        direction: d `[...]` by parameter name.
        epsilon: step along d.

    Returns:
        The slopes `[B, V]` of a decoding step, nats a unit of d.
    """
    named = dict(network.named_parameters())
    up, down = (
        AuxiliaryModel(
            changed(
                network, {name: named[name] + sign * epsilon * d for name, d in direction.items()}
            )
        )
        for sign in (1, -1)
    )

    def slopes(step: DecodingStep) -> Tensor:
        up_BV, down_BV = (torch.log_softmax(one.logits(step), -1) for one in (up, down))
        return (up_BV - down_BV) / (2 * epsilon)

    return slopes


class Settings(DefenseSettings):
    """`lam`: weight of Delta (0: no defence); `product`: how it is had; `epsilon`: the step, of
    `difference` alone; `mean`: what of the traces' losses g is the gradient of.
    """

    lam: float = Field(0.3, ge=0)
    product: Literal["exact", "difference"] = "exact"
    epsilon: float = Field(1e-2, gt=0)
    mean: Mean = "token"


class Defense(BaseDefense):
    """Adds to every token's score how much a student that learns it would lose."""

    settings: Settings
    traits = Traits(
        acts_on="decoding",
        identity={"lam": 0.0},
        strength=Strength("lam", 0.0, 0.01, 10.0, log=True),
        requires_logits=True,
        extra_forward_passes=3.0,
        needs=("proxy", "traces"),
        learns=True,
        paper="Savani et al. 2025, 2504.13146",
    )

    def __init__(self, settings: Settings, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        if settings.product == "difference":  # two perturbed proxies, each a pass
            self.traits = replace(self.traits, extra_forward_passes=2.0)

    @property
    def gradient_norm(self) -> float:
        """L2 norm of the gradient of the mean loss, before it was normalised; nats per unit of
        weights.
        """
        return float(self.resources.learned[NORM])

    def learn(self, model: Model) -> Mapping[str, Tensor]:
        """The direction by the proxy's parameter names, float32, and the raw norm as
        `gradient_norm`.
        """
        scored = require_language_model(model, NAME)
        # Behind the teacher's own prompts, chat template included, as that is what the proxy reads
        # while it answers.
        traces = rows(scored, require_traces(self.resources, NAME))
        network = require_proxy(self.resources, scored, NAME).network
        direction, norm = unit_direction(gradient(network, traces, mean=self.settings.mean), NAME)
        return direction | {NORM: norm}

    def __call__(self, model: Model) -> Model:
        scored = require_language_model(model, NAME)
        if self.is_identity:
            return scored
        proxy = require_proxy(self.resources, scored, NAME)
        if not self.resources.learned:
            raise BadInput(
                f"defense {NAME}: has learned nothing; hand it what learn(model) returned as "
                "ProviderResources.learned"
            )
        # In bfloat16 slopes are off by up to 0.09, and perturbed copies are the same network.
        network = copied(proxy.network).float().requires_grad_(False)
        direction = {
            name: one.to(network.device, network.dtype)
            for name, one in self.resources.learned.items()
            if name != NORM
        }
        slopes: Callable[[DecodingStep], Tensor] = JvpModel(network, direction).slopes
        if self.settings.product == "difference":
            slopes = difference(network, direction, self.settings.epsilon)

        def edit(step: DecodingStep, scores_BV: Tensor) -> Tensor:
            return scores_BV + self.settings.lam * match_vocab_size(
                slopes(step), scores_BV.shape[-1]
            )

        return replace(
            scored,
            score_edits=(*scored.score_edits, edit),
            passes=scored.passes + self.traits.extra_forward_passes,
        )
