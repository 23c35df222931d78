"""Neutralisation: what the student says more often than before it learned is taken from its scores,
and a fresh student learns from what it says then.

Watermark neutralisation (Pan et al. 2025, 2502.11598; formulas of its released code, at second
hand) compares a student before and after it was trained, behind frequent contexts of up to two
tokens, and subtracts 2.5 P at every step of decoding, P as in `distill.preferences`. A student here
is weights alone, so what it says under this edit trains a fresh one. *Before* is a model that has
learned from the attacker's worked solutions: one that starts untrained has said nothing before. A
key in the released code is written in two ways, so that its contexts of two tokens probably never
match; here they do.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from distill.attackers import AttackerResources, Base
from distill.attackers._stealing import Estimate, require_worked, stolen
from distill.attackers.clean import train_own_model
from distill.attackers.follow import questions, sample_completions
from distill.attackers.follow.redistil import answers_to_learn, learn_anew
from distill.models import LanguageModel
from distill.seeds import derived_seed
from distill.specs import TrainingConfig
from distill.trainer import Trained


class Settings(Estimate):
    """`strength`: nats that are taken from what is preferred; `samples`: answers a question that
    the fresh student learns from; `temperature`: of all answers; `right`: whether only right ones
    are learned from.
    """

    strength: float = Field(2.5, ge=0, le=100)
    samples: int = Field(2, ge=1, le=1000)
    temperature: float = Field(0.7, gt=0)
    right: bool = True


class Attacker(Base):
    paper = "Pan et al. 2025, 2502.11598"

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("fresh", "worked") + (("check",) if self.settings.right else ())

    def steps(self, recipe: TrainingConfig) -> int:
        """The recipe's once more."""
        return int(recipe.steps)

    def follow(
        self,
        model: LanguageModel,
        recipe: TrainingConfig,
        resources: AttackerResources,
        *,
        seed: int,
    ) -> Trained:
        """A student of what this one says with its mark taken out.

        Raises:
            BadInput: the attacker owns no worked solutions.
        """
        require_worked(resources, "follow/neutralise")
        s, own_seed = self.settings, derived_seed("neutralise", seed)
        before = train_own_model(resources.worked, resources, derived_seed("neutralise", seed, 1))
        drawn = sample_completions(
            model, questions(resources), s.samples, s.temperature, derived_seed("steal", seed, 1)
        )
        after = model if s.by == "models" else None
        preference = stolen(drawn, before, after, s, s.temperature, seed)
        edited = replace(model, score_edits=(*model.score_edits, preference.edit(-s.strength)))
        answers = answers_to_learn(edited, resources, s.samples, s.temperature, s.right, own_seed)
        return learn_anew(answers, recipe, resources, own_seed)[1]
