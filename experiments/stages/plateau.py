"""Stage `plateau`: one student trained for twice the steps, to see whether more training would
change anything.

Of several attacks it is one of the attack that the selection split finds worst, as the report does;
which one that is is known only when their exams are there.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from experiments.stages import evaluation, post_training, student
from experiments.stages.evaluation import EvaluationSpec, StudentEvaluationInputs
from experiments.stages.files import TrainingReport, WorstAttack
from experiments.stages.grades import read_grades
from experiments.stages.post_training import PostTrainingInputs, PostTrainingSpec
from experiments.stages.stage import Inputs, Sparse, Spec
from experiments.stages.student import StudentInputs, StudentSpec

VERSION = 1
T = TypeVar("T")


class PlateauAttack(Sparse):
    """An attack's student, what follows its training, and how many steps that takes."""

    student: StudentSpec
    post_training: PostTrainingSpec | None = None
    followed: int


class PlateauSpec(Spec):
    """The attacks that the worst is chosen of, and the exam of its student."""

    STAGE: ClassVar[str] = "plateau"
    attacks: list[PlateauAttack]
    evaluation: EvaluationSpec


@dataclass(frozen=True)
class AttackInputs(Inputs[T]):
    """What an attack's student is made of, and the exams by which the attack is chosen."""

    student: StudentInputs[T]
    selection: tuple[T, ...]


@dataclass(frozen=True)
class PlateauInputs(Inputs[T]):
    """`clean` is the undefended teacher's exam."""

    attacks: tuple[AttackInputs[T], ...]
    clean: T


def run(spec: PlateauSpec, inputs: PlateauInputs[Path], out: Path) -> dict[str, float]:
    """The grades of the student, and which attack it is of; its weights are not kept."""
    right = [_right(attack.selection) for attack in inputs.attacks]
    place = right.index(max(right))
    attack, needed = spec.attacks[place], inputs.attacks[place]
    made = out / "student"
    made.mkdir()
    longer = attack.student.model_copy(update={"times": 2, "followed": attack.followed})
    student.run(longer, needed.student, made)
    if attack.post_training:
        after = out / "followed"
        after.mkdir()
        post_training.run(attack.post_training, PostTrainingInputs(made), after)
        made = after
    took = evaluation.run(spec.evaluation, StudentEvaluationInputs(made, inputs.clean), out)
    TrainingReport.read(made).write(out)
    WorstAttack(attack=place).write(out)
    for folder in (out / "student", out / "followed"):
        shutil.rmtree(folder, ignore_errors=True)
    for left in (*out.glob("*.checkpoint"), *out.glob("*.losses")):
        left.unlink()
    return took


def _right(exams: Sequence[Path]) -> float:
    """Mean over an attack's selection exams; nothing to choose by where there is one attack."""
    graded = [row.outcome == "right" for folder in exams for row in read_grades(folder)]
    return sum(graded) / len(graded) if graded else 0.0
