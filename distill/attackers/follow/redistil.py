"""Re-distillation: a student of the student, which has never read what was sold.

The trained student answers questions of the attacker's own, and a fresh one learns from what it
says; several times over if asked to. What was learned by heart and no more, such as a mark behind
rare contexts, thins out with every generation; what the answers are made of does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part, sft
from distill.attackers.follow import join_trainings, questions, sample_completions
from distill.completions import BadInput, Completion
from distill.models import LanguageModel
from distill.seeds import derived_seed
from distill.specs import TrainingConfig
from distill.trainer import Trained


def answers_to_learn(
    model: LanguageModel,
    resources: AttackerResources,
    samples: int,
    temperature: float,
    right: bool,
    seed: int,
) -> list[Completion]:
    """A model's answers to the attacker's own questions, each text once.

    Args:
        model: of the attacker's own, with the edits that it speaks with.
        resources: of the attacker.
        samples: answers a question.
        temperature: at which they are drawn.
        right: whether only right ones count; where none is, all do, as nobody ends with a student
            of nothing.
        seed: of what is drawn.

    Raises:
        BadInput: the attacker has no questions.
    """
    if not (asked_about := questions(resources)):
        raise BadInput("attacker follow: the attacker has no questions of its own; see own")
    drawn = sample_completions(model, asked_about, samples, temperature, seed)
    distinct = [*{(one.question.conversation, one.text): one for one in drawn if one.text}.values()]
    if not right:
        return distinct
    assert resources.check is not None
    return [one for one in distinct if resources.check(one)] or distinct


def learn_anew(
    answers: Sequence[Completion],
    recipe: TrainingConfig,
    resources: AttackerResources,
    seed: int,
) -> tuple[LanguageModel, Trained]:
    """A fresh student of some answers, and its training.

    Args:
        answers: what it learns from; where there is none, it stays untrained.
        recipe: of the student.
        resources: with `fresh`.
        seed: of its weights and of the order.
    """
    assert resources.fresh is not None
    model = resources.fresh(seed)
    if not answers:
        return model, Trained(model.network)
    trained = sft.Attacker(sft.Settings()).train(answers, model, recipe, seed=seed)
    return replace(model, network=trained.network.eval()), trained


class Settings(Part):
    """`generations`: students one behind the other; `samples`: answers a question; `right`: whether
    only right answers are learned from.
    """

    generations: int = Field(1, ge=1, le=1000)
    samples: int = Field(1, ge=1, le=1000)
    temperature: float = Field(0.7, gt=0)
    right: bool = True


class Attacker(Base):
    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("fresh", "worked") + (("check",) if self.settings.right else ())

    def steps(self, recipe: TrainingConfig) -> int:
        """The recipe's, once a generation."""
        return int(self.settings.generations * recipe.steps)

    def follow(
        self,
        model: LanguageModel,
        recipe: TrainingConfig,
        resources: AttackerResources,
        *,
        seed: int,
    ) -> Trained:
        """The last of a line of students.

        Raises:
            BadInput: the attacker has no questions of its own.
        """
        s, student, trainings = self.settings, model, []
        for turn in range(s.generations):
            turn_seed = derived_seed("redistil", seed, turn)
            answers = answers_to_learn(
                student, resources, s.samples, s.temperature, s.right, turn_seed
            )
            student, trained = learn_anew(answers, recipe, resources, turn_seed)
            trainings.append(trained)
        return join_trainings(trainings)
