"""No defence: the undefended ceiling that every other defence is compared with."""

from __future__ import annotations

from defenses import Base, Part
from distill.models import Model


class Settings(Part):
    """There is nothing to set."""


class Defense(Base):
    """Hands back the model it is given."""

    point = "none"
    keeps_argmax = True
    identity = {}

    def __call__(self, model: Model) -> Model:
        return model
