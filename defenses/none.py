"""No defence: the undefended ceiling that every other defence is compared with."""

from __future__ import annotations

from defenses import BaseDefense, DefenseSettings, Traits
from distill.models import Model


class Settings(DefenseSettings):
    """There is nothing to set."""


class Defense(BaseDefense):
    """Hands back the model it is given."""

    settings: Settings
    traits = Traits(
        acts_on="none",
        identity={},
        keeps_argmax=True,
    )

    def __call__(self, model: Model) -> Model:
        return model
