"""More fine-tuning on clean data: the attacker's worked solutions, at a lower rate, behind what it
learned from others.

What a defence planted is unlearned or not; DOGe's and PART's reviewers asked for this.
"""

from __future__ import annotations

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.follow import copied, tuned
from distill.models import LanguageModel
from distill.student import StudentSettings, Trained


class Settings(Part):
    steps: int = Field(150, ge=1, le=1_000_000)
    rate: float = Field(0.5, gt=0)


class Attacker(Base):
    needs = ("worked",)

    def steps(self, recipe: StudentSettings) -> int:
        """Those of the tuning."""
        return int(self.settings.steps)

    def follow(
        self, model: LanguageModel, recipe: StudentSettings, own: AttackerResources, *, seed: int
    ) -> Trained:
        """Tune on the worked solutions alone."""
        return tuned(
            copied(model), own.worked, recipe, seed, self.settings.steps, self.settings.rate
        )
