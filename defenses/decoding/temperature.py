"""Temperature: the control that pays for its protection with nothing but randomness.

Every decoding defence costs the honest user some accuracy. Set to cost the same accuracy by
temperature alone, this shows how much of a defence's effect is that cost (Savani et al. 2025,
antidistillation sampling, compare with it so). The maths, softmax(logits / temperature) and the
nucleus of mass top_p, are LanguageModel's own; released logprobs are of temperature 1, so they are
unchanged.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from defenses import BaseDefense, DefenseSettings, Strength, Traits, require_language_model
from distill.models import Model


class Settings(DefenseSettings):
    """`temperature` (0 is greedy) and `top_p` to decode with; None keeps the model's own, None and
    None the model.
    """

    temperature: float | None = Field(1.0, ge=0, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1)


class Defense(BaseDefense):
    """Decodes at the temperature and top_p that are set."""

    settings: Settings
    resamples = True
    traits = Traits(
        acts_on="decoding",
        identity={"temperature": None, "top_p": None},
        strength=Strength("temperature", None, 0.25, 4.0, log=True),
        requires_logits=True,
        keeps_argmax=True,
        paper="Savani et al. 2025 (the control)",
    )

    @property
    def temperature(self) -> float | None:
        return self.settings.temperature

    def __call__(self, model: Model) -> Model:
        changes = {
            name: value for name, value in self.settings.model_dump().items() if value is not None
        }
        return replace(require_language_model(model, "decoding/temperature"), **changes)
