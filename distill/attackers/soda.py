"""SODA: the teacher's answers are preferred to a snapshot of the student's own, taken once.

Chen et al. 2026 (2604.03873): what a small student says by itself is almost always worse than the
sold answer, so that a pair asks nothing more and samples nothing while it learns; the pairs are
learned from by DPO. The paper's students are instruct models that answer before they learn. A
student from scratch says nothing then, so here it is fine-tuned on the sold answers first, as in
`dpo`, and the snapshot is of the student before that (`snapshot: before`) or behind it. No code was
seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from distill.attackers import NOTHING, AttackerResources, Base, Part, sft
from distill.attackers.clean import groups
from distill.attackers.dpo import Preferences, prefer
from distill.attackers.follow import sample_completions
from distill.completions import Completion
from distill.models import LanguageModel
from distill.specs import TrainingConfig
from distill.trainer import Trained


class Settings(Part):
    """`snapshot`: whether the student's own answers are drawn `before` it learns or `after` its
    fine-tuning; `first`: share of the steps on sold answers; pairs follow at `rate` times the
    recipe's learning rate.
    """

    snapshot: Literal["before", "after"] = "after"
    first: float = Field(0.9, gt=0, lt=1)
    beta: float = Field(0.1, gt=0)
    rate: float = Field(0.05, gt=0)
    temperature: float = Field(1.0, gt=0)


class Attacker(Base):
    paper = "Chen et al. 2026, 2604.03873"

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
        """Sold answers first, then pairs of a sold answer and the student's own, the recipe's steps
        in all; a pair of equal texts is none.
        """
        s, sold = self.settings, [group[0] for group in groups(completions)]
        snapshot = sample_completions(model, sold, 1, s.temperature, seed)
        begun = sft.Attacker(sft.Settings()).train(
            completions,
            model,
            recipe.model_copy(update={"steps": max(1, round(s.first * recipe.steps))}),
            seed=seed,
        )
        student = replace(model, network=begun.network)
        if s.snapshot == "after":
            snapshot = sample_completions(student, sold, 1, s.temperature, seed)
        pairs = [
            (one, drawn)
            for one, drawn in zip(sold, snapshot, strict=True)
            if one.text != drawn.text
        ]
        how = Preferences(s.first, s.beta, s.rate)
        return prefer(begun, student, pairs, recipe, how, seed=seed)
