"""The best of k students: the attacker trains as many, which differ in their seed alone, and keeps
one.

One training in many may fail where others do not, and whoever has the answers can train again. Who
is best is told by questions of the attacker's own, where it can by such that it does not learn
from, answered greedily and checked against the final answers that it owns. The cost of all k is
reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from distill.attackers import NOTHING, AttackerResources, Base, Part, logprob_kd, sft
from distill.attackers.follow import total_cost
from distill.completions import Completion, Interface
from distill.models import LanguageModel
from distill.seeds import derived_seed
from distill.specs import TrainingConfig
from distill.trainer import Trained


def seeds(seed: int, k: int) -> list[int]:
    """The seed itself, so that the first student is the plain one, and k - 1 that are functions of
    it.

    Args:
        seed: of the arm.
        k: students.
    """
    return [seed, *(derived_seed("best_of", seed, place) for place in range(1, k))]


def comparison_questions(
    resources: AttackerResources, completions: Sequence[Completion], most: int
) -> list[Completion]:
    """The first of its public questions that are not among those learned from; of all, where there
    are no others.

    Args:
        resources: of the attacker.
        completions: what it learns from.
        most: questions at most.
    """
    learned_from = {one.question.conversation for one in completions}
    others = [one for one in resources.public if one.question.conversation not in learned_from]
    return (others or [*resources.public])[:most]


class Settings(Part):
    """`learner` is how each student learns; `questions`: on how many of the attacker's own they are
    compared.
    """

    k: int = Field(3, ge=1, le=1000)
    learner: Literal["sft", "logprob_kd"] = "sft"
    questions: int = Field(200, ge=1, le=1_000_000)


class Attacker(Base):
    needs = ("check", "fresh")

    @property
    def needs_interface(self) -> str:  # type: ignore[override]
        return str(self._learner().needs_interface)

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
        """Train k students; the first of equals is kept."""
        assert resources.fresh is not None
        questions, trainings, right = (
            comparison_questions(resources, completions, self.settings.questions),
            list[Trained](),
            list[int](),
        )
        for place, its_seed in enumerate(seeds(seed, self.settings.k)):
            student = resources.fresh(its_seed) if place else model
            trainings.append(self._learner().train(completions, student, recipe, seed=its_seed))
            right.append(
                self._right(
                    replace(student, network=trainings[-1].network.eval()), questions, resources
                )
            )
        best = trainings[right.index(max(right))]
        return replace(best, **total_cost(trainings))

    def _learner(self) -> Any:
        part = {"sft": sft, "logprob_kd": logprob_kd}[self.settings.learner]
        return part.Attacker(part.Settings.model_validate({}))

    def _right(
        self, student: LanguageModel, questions: Sequence[Completion], resources: AttackerResources
    ) -> int:
        assert resources.check is not None
        prompts = [one.question for one in questions]
        return sum(map(resources.check, student.generate(prompts, seed=0, interface=Interface())))
