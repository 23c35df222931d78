"""Stage `follow`: what is done to a student once it is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from distill.folders import save
from experiments.settings.components import ComponentSpec, build
from experiments.stages.files import TrainingReport
from experiments.stages.means import Owned, means
from experiments.stages.opened import opened
from experiments.stages.stage import Inputs, Spec, TaskSpec
from experiments.stages.training import Shape, training

VERSION = 1
T = TypeVar("T")


class FollowSpec(Spec):
    """What follows a student's training, part after part."""

    STAGE: ClassVar[str] = "follow"
    task: TaskSpec
    shape: Shape
    seed: int
    follow: list[ComponentSpec]
    own: Owned


@dataclass(frozen=True)
class FollowInputs(Inputs[T]):
    student: T


def run(spec: FollowSpec, inputs: FollowInputs[Path], out: Path) -> None:
    """What the attacker does to the student once it is trained."""
    task, model = build("task", spec.task), opened(inputs.student)
    own = means(task, spec.own, spec.seed, **training(task, spec.shape))
    report = TrainingReport.read(inputs.student)
    for component in spec.follow:
        attacker = build("attacker", component)
        followed = attacker.follow(model, spec.shape.recipe, own, seed=spec.seed)
        model = replace(model, network=followed.network.eval())
        report = report.model_copy(
            update={
                "tokens": report.tokens + followed.tokens,
                "positions": report.positions + followed.positions,
                "steps": report.steps + followed.steps,
                "diverged": report.diverged or followed.diverged,
            }
        )
    save(model, out)
    report.write(out)
