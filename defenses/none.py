"""No defence: the undefended ceiling that every other defence is compared with."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from distill.models import Model


class Settings(BaseModel):
    """There is nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Defense:
    """Hands back the model it is given."""

    point: ClassVar[str] = "none"
    passes: ClassVar[float] = 0.0
    keeps_argmax: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()
    identity: ClassVar[dict[str, Any]] = {}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, model: Model) -> Model:
        return model
