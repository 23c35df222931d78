"""Which students are tested for a mark: all reported ones of a marked teacher, and as controls
those of the undefended teacher under the same attack, who never saw the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from defenses.marks import Mark, trigger
from distill.completions import BadInput
from experiments.planning.arms import Arm, MarkRun, is_floor
from experiments.planning.scope import Scope
from experiments.seeds import seed_for
from experiments.settings.components import ComponentSpec
from experiments.settings.defenses import parse_defense
from experiments.settings.entries import build_task
from experiments.settings.schema import Study
from experiments.stages.completions import TeacherInputs, TracesSpec
from experiments.stages.mark_test import MarkTestInputs, MarkTestSpec
from experiments.stages.post_training import PostTrainingSpec
from experiments.stages.stage import Stage
from experiments.stages.student import StudentInputs, StudentSpec


def parts_of(entry: str) -> list[tuple[str, Mark | trigger.Defense]]:
    """The marks of a defence with their names, those that do something; none of no defence or a
    control.

    Args:
        entry: of the defence.
    """
    return [(spec.name, part) for spec, part in _parts(entry)]


def marks_of(entry: str) -> list[ComponentSpec]:
    """The same as stages are told of them.

    Args:
        entry: of the defence.
    """
    return [spec for spec, _ in _parts(entry)]


def _parts(entry: str) -> list[tuple[ComponentSpec, Mark | trigger.Defense]]:
    if entry.startswith("control/"):
        return []
    defense = parse_defense(entry)
    return [
        (spec, part)
        for spec, part in zip(defense.spec, defense.chain.parts, strict=True)
        if isinstance(part, Mark | trigger.Defense) and not part.is_identity
    ]


def check_marks(study: Study) -> None:
    """Refuse a study that asks for tests of marks and has none, or whose teacher cannot be read.

    Args:
        study: with `measure.marks`.

    Raises:
        BadInput: it has no mark, or its teacher is no network.
    """
    entries = dict.fromkeys(one for block in study.blocks for one in block.defenses)
    if not any(map(marks_of, entries)):
        raise BadInput(
            "measure.marks: no defence of the study has a mark (there are: "
            "`distill-resist list defense`, marks/)"
        )
    if not study.teacher.capabilities.logits:
        raise BadInput(
            f"measure.marks: teacher {study.teacher.name!r} is no network in this process, so its "
            "tokens cannot be read"
        )


def mark_runs(study: Study, arms: Sequence[Arm], scopes: Mapping[str, Scope]) -> Iterator[MarkRun]:
    """A test of every reported student of a marked teacher, and of each undefended one beside.

    A control is tested for the mark on the text of the marked student of its own seed, or, where
    the undefended teacher has more students than the marked one, of the seeds in turn.

    Args:
        study: with `measure.marks`.
        arms: of its plan.
        scopes: by task.
    """
    reported = [arm for arm in arms if arm.split == "report" and not is_floor(arm.attacker)]
    for marked in _cells(reported):
        first = marked[0]
        controls = [
            arm
            for arm in reported
            if (arm.task, arm.attacker, arm.budget) == (first.task, first.attacker, first.budget)
            and arm.defense == "none"
        ]
        by_seed = {arm.seed: arm for arm in marked}
        for place, arm in enumerate([*marked, *controls]):
            turn = marked[place % len(marked)]
            sold = by_seed.get(arm.seed, turn).completions
            yield MarkRun(
                arm, first.defense, _stage(scopes[arm.task], arm, marks_of(first.defense), sold)
            )


def _cells(arms: Sequence[Arm]) -> list[list[Arm]]:
    """The students of each marked teacher that differ in their seeds alone."""
    cells: dict[tuple[str, str, str, int], list[Arm]] = {}
    for arm in arms:
        if marks_of(arm.defense):
            cells.setdefault((arm.task, arm.defense, arm.attacker, arm.budget), []).append(arm)
    return [*cells.values()]


def _stage(scope: Scope, arm: Arm, marks: list[ComponentSpec], sold: Stage) -> Stage:
    """The test of a student for marks."""
    student = arm.student
    if isinstance(student.spec, PostTrainingSpec):
        student = student.inputs[0]
    assert isinstance(student.spec, StudentSpec) and isinstance(student.needs, StudentInputs)
    spec = MarkTestSpec(task=scope.spec, defense=marks, student=student.spec)
    needs = MarkTestInputs(arm.student, student.needs, sold, clean(scope), scope.teacher)
    return Stage(spec, needs)


def clean(scope: Scope) -> Stage:
    """The undefended teacher's answers to questions of the training split, as many as an exam has:
    what students are asked and read.

    Args:
        scope: of the study and the task.

    Raises:
        BadInput: the task has no such questions.
    """
    if not build_task(scope.task).train_items(1, seed_for("marks")):
        raise BadInput(
            f"measure.marks: {scope.task} has no training questions, which students are asked"
        )
    spec = TracesSpec(
        task=scope.spec,
        budget=scope.study.measure.items,
        seed=seed_for("marks"),
        source="traces",
        skip=0,
    )
    return Stage(spec, TeacherInputs(scope.teacher))
