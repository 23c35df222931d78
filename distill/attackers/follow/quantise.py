"""Weights rounded to few bits: symmetric and uniform, one scale a row, as a stolen model would be
served.

A mark or a fragile trait may be lost on the way, and so may skill. Weights are returned as the
numbers they stand for.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.follow import change_matrices
from distill.models import LanguageModel
from distill.specs import TrainingConfig
from distill.trainer import Trained


def quantise(weights_OI: Tensor, bits: int) -> Tensor:
    """Each row on the grid of 2**bits - 1 values from -max|w| to max|w|; an entry moves by at most
    half a step.

    Args:
        weights_OI: a matrix.
        bits: at least 2.

    Returns:
        `[O, I]` in the dtype of the weights.
    """
    most = 2 ** (bits - 1) - 1
    exact_OI = weights_OI.float()  # half precision has no room for the steps of many bits
    step_O1: Tensor = exact_OI.abs().amax(-1, keepdim=True) / most
    rounded_OI: Tensor = (exact_OI / step_O1.where(step_O1 > 0, 1)).round() * step_O1
    return rounded_OI.to(weights_OI.dtype)


class Settings(Part):
    bits: int = Field(4, ge=2, le=16)


class Attacker(Base):
    paper = "Jacob et al. 2018, 1712.05877"

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
        """Every matrix rounded; norms and biases stay."""
        return change_matrices(model, lambda weights: quantise(weights, self.settings.bits))
