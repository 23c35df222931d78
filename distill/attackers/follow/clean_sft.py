"""More fine-tuning on clean data: the attacker's worked solutions, at a lower rate, behind what it
learned from others.

What a defence planted is unlearned or not; DOGe's and PART's reviewers asked for this.
"""

from __future__ import annotations

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.follow import copy_model, fine_tune
from distill.models import LanguageModel
from distill.specs import TrainingConfig
from distill.trainer import Trained


class Settings(Part):
    steps: int = Field(150, ge=1, le=1_000_000)
    rate: float = Field(0.5, gt=0)


class Attacker(Base):
    needs = ("worked",)

    def steps(self, recipe: TrainingConfig) -> int:
        """Those of the tuning."""
        return int(self.settings.steps)

    def follow(
        self,
        model: LanguageModel,
        recipe: TrainingConfig,
        resources: AttackerResources,
        *,
        seed: int,
    ) -> Trained:
        """Tune on the worked solutions alone."""
        return fine_tune(
            copy_model(model),
            resources.worked,
            recipe,
            seed,
            self.settings.steps,
            self.settings.rate,
        )
