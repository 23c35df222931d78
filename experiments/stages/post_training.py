"""Stage `post_training`: what is done to a student once it is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from experiments.settings.components import ComponentSpec, build
from experiments.stages.files import TrainingReport
from experiments.stages.models import load_network
from experiments.stages.resources import Owned, attacker_resources
from experiments.stages.stage import Inputs, Spec, TaskSpec
from experiments.stages.training import FineTune, Shape, own_training, save_trained

VERSION = 1
T = TypeVar("T")


class PostTrainingSpec(Spec):
    """What follows a student's training, part after part."""

    STAGE: ClassVar[str] = "post_training"
    task: TaskSpec
    shape: Shape | FineTune
    seed: int
    follow: list[ComponentSpec]
    own: Owned


@dataclass(frozen=True)
class PostTrainingInputs(Inputs[T]):
    student: T


def run(spec: PostTrainingSpec, inputs: PostTrainingInputs[Path], out: Path) -> None:
    """What the attacker does to the student once it is trained."""
    task, model = build("task", spec.task), load_network(inputs.student)
    resources = attacker_resources(task, spec.own, spec.seed, **own_training(task, spec.shape))
    report = TrainingReport.read(inputs.student)
    for component in spec.follow:
        attacker = build("attacker", component)
        followed = attacker.follow(model, spec.shape.recipe, resources, seed=spec.seed)
        model = replace(model, network=followed.network.eval())
        report = report.model_copy(
            update={
                "tokens": report.tokens + followed.tokens,
                "positions": report.positions + followed.positions,
                "steps": report.steps + followed.steps,
                "diverged": report.diverged or followed.diverged,
            }
        )
    save_trained(model, spec.shape, out, report.diverged)
    report.write(out)
