"""Expert iteration: the student answers its own questions, and learns from what turns out right.

ReST-EM (Singh et al. 2023, 2312.06585) and STaR (Zelikman et al. 2022, 2203.14465) without
rationalisation: in every round k answers a question are sampled, those whose final answer is right
are kept, each text once, and the student is tuned on them. It needs final answers to its own
questions and no teacher, so it closes what a defence has left open. Released recipes start each
round anew from the base model; here a round goes on from the last, at a lower rate.
"""

from __future__ import annotations

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.follow import (
    copy_model,
    fine_tune,
    join_trainings,
    questions,
    sample_completions,
)
from distill.models import LanguageModel
from distill.seeds import derived_seed
from distill.specs import TrainingConfig
from distill.trainer import Trained


class Settings(Part):
    """`steps` of each round are at `rate` times the recipe's learning rate."""

    rounds: int = Field(2, ge=1, le=1000)
    samples: int = Field(4, ge=1, le=1000)
    temperature: float = Field(0.7, gt=0)
    steps: int = Field(150, ge=1, le=1_000_000)
    rate: float = Field(0.5, gt=0)


class Attacker(Base):
    needs = ("check", "worked")
    paper = "Singh et al. 2023, 2312.06585"

    def steps(self, recipe: TrainingConfig) -> int:
        """Those of all rounds, which are taken if every round has something right."""
        return int(self.settings.rounds * self.settings.steps)

    def follow(
        self,
        model: LanguageModel,
        recipe: TrainingConfig,
        resources: AttackerResources,
        *,
        seed: int,
    ) -> Trained:
        """Tune on right answers of its own and on worked solutions; a round without any ends it."""
        s, student = self.settings, copy_model(model)
        trainings = [Trained(student.network)]
        assert resources.check is not None
        for turn in range(s.rounds):
            turn_seed = derived_seed("expert_iteration", seed, turn)
            completions = sample_completions(
                student, questions(resources), s.samples, s.temperature, turn_seed
            )
            right = {
                (one.question.conversation, one.text): one
                for one in [*resources.worked, *filter(resources.check, completions)]
            }
            if not right:
                break
            trainings.append(
                fine_tune(student, list(right.values()), recipe, turn_seed, s.steps, s.rate)
            )
        return join_trainings(trainings)
