"""Magnitude pruning: of every matrix, the weights nearest to zero become zero (Han et al. 2015)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.follow import change_matrices
from distill.models import LanguageModel
from distill.specs import TrainingConfig
from distill.trainer import Trained


def prune(weights: Tensor, share: float) -> Tensor:
    """The weights with the round(share x number) smallest in magnitude set to 0.

    Args:
        weights: `[...]`.
        share: in [0, 1].

    Returns:
        `[...]`, a copy.
    """
    flat = weights.flatten().clone()
    flat[flat.abs().argsort(stable=True)[: round(share * flat.numel())]] = 0
    return flat.view_as(weights)


class Settings(Part):
    share: float = Field(0.3, ge=0, lt=1)


class Attacker(Base):
    paper = "Han et al. 2015, 1506.02626"

    def steps(self, recipe: TrainingConfig) -> int:
        """None: nothing is trained."""
        return 0

    def follow(
        self,
        model: LanguageModel,
        recipe: TrainingConfig,
        resources: AttackerResources,
        *,
        seed: int,
    ) -> Trained:
        """Every matrix pruned; norms and biases stay."""
        return change_matrices(model, lambda weights: prune(weights, self.settings.share))
