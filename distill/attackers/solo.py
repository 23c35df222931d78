"""The attacker without a teacher: its own best data, the same recipe, and no answer of anybody's.

An attacker who ignores the defended answers has beaten everyone who trained on them (antidistill's
"solo" arm), so a defence is judged against it: what it reaches is a floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill.attackers import NOTHING, AttackerResources, Base, Part, sft
from distill.completions import Completion
from distill.models import LanguageModel
from distill.specs import TrainingConfig
from distill.trainer import Trained


class Settings(Part):
    pass


class Attacker(Base):
    adaptive = False
    asks = False
    needs = ("worked",)
    paper = "umidsvt/antidistill, 2026"

    def train(
        self,
        completions: Sequence[Completion],
        model: LanguageModel,
        recipe: TrainingConfig,
        *,
        seed: int,
        resources: AttackerResources = NOTHING,
        checkpoint: Path | None = None,
    ) -> Trained:
        """Fine-tune on the attacker's worked solutions; answers alone would only dilute them."""
        plain = sft.Attacker(sft.Settings())
        return plain.train(resources.worked, model, recipe, seed=seed, checkpoint=checkpoint)
