"""What all arms of a study on one task share: its teacher, its defences with what they are handed,
and the exams of its teachers.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from distill.completions import BadInput
from experiments.planning.arms import Cell, asking, defenses, learning
from experiments.planning.checks import check_traces
from experiments.planning.compatibility import check_tokenizer, why_not
from experiments.planning.opened import identity
from experiments.private import by_contents
from experiments.seeds import seed_for
from experiments.settings.attacks import INTERFACES, parse_attack
from experiments.settings.components import ComponentSpec
from experiments.settings.defenses import parse_defense
from experiments.settings.entries import build_task, resolve
from experiments.settings.grammar import split as split_entry
from experiments.settings.models import (
    FineTuned,
    FineTunedTeacher,
    Network,
    Pretrained,
    Recipe,
    Teacher,
    base_of,
)
from experiments.settings.schema import Study
from experiments.settings.served import PLACE, Served
from experiments.stages.completions import TeacherInputs, TracesSpec
from experiments.stages.defended import ProviderInputs
from experiments.stages.defense import MatchSpec, PrepareInputs, PrepareSpec
from experiments.stages.evaluation import EvaluationSpec, TeacherEvaluationInputs
from experiments.stages.stage import Stage, TaskSpec
from experiments.stages.student import StudentInputs, StudentSpec
from experiments.stages.teacher import (
    PretrainedTeacher,
    RecipeTeacher,
    RecordedTeacher,
    ServedTeacher,
)
from experiments.stages.training import FineTune, Shape

PLAIN = "sft"  # how a student learns where nothing else is said: a pilot, a proxy


def asked_behind(entry: str) -> tuple[str, int]:
    """What of a defence a teacher must be asked behind, as the parts behind it only edit finished
    completions.

    Args:
        entry: of a defence.

    Returns:
        The first parts as an entry, `none` where there are none, and how many they are; all of them
        where a strength that is found, or what is learned, is of the whole defence.
    """
    defense = parse_defense(entry)
    names, before = split_entry(entry, "+"), len(defense.parts)
    for part in reversed(defense.chain.parts):
        if part.traits.acts_on not in ("text", "logprobs") or part.traits.requires_logits:
            break
        before -= 1
    matched = defense.match is not None and defense.match.part < before
    if matched or any(part.traits.learns for part in defense.chain.parts[:before]):
        before = len(names)
    return " + ".join(names[:before]) or "none", before


class Release(NamedTuple):
    """What a defended teacher is made of: the defence, and the results that it is handed."""

    defense: list[ComponentSpec]
    provider: ProviderInputs[Stage]


@dataclass(frozen=True, eq=False)
class Scope:
    """What all stages of a study on one task share.

    `opens`: false for a stranger's study, of which no model and no recording may be opened.
    `searches` holds each cell's search once.
    """

    study: Study
    task: str
    opens: bool = True
    searches: dict[Cell, Stage] = field(default_factory=dict)

    @functools.cached_property
    def spec(self) -> TaskSpec:
        """What stages are told of the task; data that it reads are part of the address."""
        spec = resolve("task", self.task).spec
        data = build_task(self.task).data
        return TaskSpec(name=spec.name, settings=by_contents(spec.settings), data=data)

    @functools.cached_property
    def teacher(self) -> Stage:
        return teacher(self, self.study.teacher)

    @functools.cached_property
    def clean_exam(self) -> Stage:
        """The undefended teacher's exam; its answers are the text that students' bits per byte are
        measured on.
        """
        return teacher_exam(self, "none", "report", 0)

    @functools.cached_property
    def longest(self) -> int:
        """The most steps that any attack on the task takes after its student's training: all train
        as long as it.
        """
        blocks = [block for block in self.study.blocks if self.task in block.tasks]
        attackers = {attacker for block in blocks for attacker in block.attackers}
        return max(learning(attacker).followed(self.study.student) for attacker in attackers)

    @functools.cached_property
    def interfaces(self) -> dict[str, str]:
        """The widest interface that any attack of the task needs of what is asked behind each
        defence.
        """
        widest: dict[str, str] = {}
        for block in self.study.blocks:
            if self.task not in block.tasks:
                continue
            for defense, attacker in itertools.product(defenses(block), asking(block)):
                attack, (behind, _) = parse_attack(attacker), asked_behind(defense)
                if not attack.askers and not why_not(self.study, defense, attacker):
                    both = (widest.get(behind, "text"), attack.needs_interface)
                    widest[behind] = max(both, key=INTERFACES.index)
        return widest

    @functools.cached_property
    def shape(self) -> Shape | FineTune:
        """What stages are told of a student."""
        return shape_of(self, self.study.student)


def teacher(scope: Scope, model: Teacher) -> Stage:
    """A teacher: trained here by recipe, from a folder or the hub, recorded, or behind a server.

    Args:
        scope: of the study and the task.
        model: its settings.
    """
    if isinstance(model, Recipe | FineTunedTeacher):
        shape = shape_of(scope, model)
        recipe = RecipeTeacher(
            kind="recipe", task=scope.spec, shape=shape, items=model.items, seed=0
        )
        return Stage(recipe)
    fields = model.model_dump(exclude={"name"})
    if isinstance(model, Pretrained):
        return Stage(PretrainedTeacher(**fields | (identity(model) if scope.opens else {})))
    fields = by_contents(fields) if scope.opens else fields
    if isinstance(model, Served):
        return Stage(ServedTeacher(**{n: v for n, v in fields.items() if n not in PLACE[1:]}))
    return Stage(RecordedTeacher(**fields))


def release(scope: Scope, entry: str, interface: str) -> Release:
    """A defence with all that it must be handed, as far as it shows in what an interface
    releases.

    Args:
        scope: of the study and the task.
        entry: of the defence.
        interface: `text`, `top_k` or `full`.
    """
    defense = parse_defense(entry)
    if interface == "text" and defense.chain.traits.acts_on == "logprobs":
        defense = parse_defense("none")  # the same answers, so the same work
    needs = [need for need in defense.chain.traits.needs if need != "grade"]
    handed = ProviderInputs(**{need: provided(scope, entry, need) for need in needs})
    released = Release(defense.spec, handed)
    if not (defense.match or defense.chain.traits.learns):
        return released
    match = None
    if defense.match:
        measure = scope.study.measure
        match = MatchSpec(
            part=defense.match.part,
            points=defense.match.points,
            items=measure.selection_items,
            seeds=measure.teacher_seeds,
        )
    spec = PrepareSpec(task=scope.spec, defense=released.defense, match=match)
    prepared = Stage(spec, PrepareInputs(scope.teacher, handed))
    return Release(released.defense, replace(handed, prepared=prepared))


def provided(scope: Scope, defense: str, need: str) -> Stage:
    """A stage whose result the provider has beside its teacher; its proxy learns from its
    traces.

    Args:
        scope: of the study and the task.
        defense: its entry, for messages.
        need: a name in `ProviderInputs`.

    Raises:
        BadInput: the study names no such model, or one of another tokenizer.
    """
    provider = scope.study.provider
    if need == "traces":
        return traces(scope, skip=provider.traces)
    if need in ("weaker_teacher", "base"):
        return teacher(scope, weaker(scope.study, defense, need))
    model = getattr(provider, need)
    if model is None:
        raise BadInput(f"{defense}: needs a {need}; set provider.{need} (see configs/provider)")
    if need == "proxy":
        check_tokenizer(scope.study.teacher, model, defense, scope.opens)
    if isinstance(model, Pretrained):
        return teacher(scope, model)
    # What the proxy learned from it knows too well: a gradient over other traces tells what a
    # student has to learn.
    return plain_student(scope, traces(scope, skip=0), shape_of(scope, model), seed_for("provider"))


def weaker(study: Study, defense: str, need: str) -> Teacher:
    """The weaker model that a defence answers with.

    Args:
        study: with its teachers.
        defense: by its entry, for messages.
        need: `base`, what the teacher was trained from, or `weaker_teacher`.

    Raises:
        BadInput: the study has none.
    """
    if need == "base":
        if (base := base_of(study.teacher)) is None:
            raise BadInput(
                f"{defense}: teacher {study.teacher.name!r} has no base: it is no pretrained model "
                "with an adapter, nor one that is trained further here; write to=weaker_teacher"
            )
        return base
    if study.weaker_teacher is None:
        raise BadInput(
            f"{defense}: needs a weaker teacher; set weaker_teacher, as "
            "configs/study/downgrade.yaml does"
        )
    return study.weaker_teacher


def traces(scope: Scope, skip: int) -> Stage:
    """Clean answers of the teacher to as many questions of its training split as the provider has,
    behind the first `skip` of them.

    Args:
        scope: of the study and the task.
        skip: questions that are left to others.
    """
    check_traces(scope.study, scope.task)
    spec = TracesSpec(
        task=scope.spec,
        budget=scope.study.provider.traces,
        seed=seed_for("provider"),
        source="traces",
        skip=skip,
    )
    return Stage(spec, TeacherInputs(scope.teacher))


def plain_student(scope: Scope, answers: Stage, shape: Shape | FineTune, seed: int) -> Stage:
    """A student that learns the text of the answers and nothing else.

    Args:
        scope: of the study and the task.
        answers: that it learns from.
        shape: of the student, with its recipe.
        seed: of its weights and the order.
    """
    (learner,) = parse_attack(PLAIN).specs("learn")
    spec = StudentSpec(task=scope.spec, attacker=learner, shape=shape, seed=seed)
    return Stage(spec, StudentInputs(answers))


def shape_of(scope: Scope, model: Network | FineTuned) -> Shape | FineTune:
    """What stages are told of a model that is trained here.

    Args:
        scope: of a task, which says whether models may be opened.
        model: of a study.
    """
    if isinstance(model, Network):
        return Shape(**model.model_dump(include={*Shape.model_fields}))
    shape = FineTune(**{name: getattr(model, name) for name in FineTune.model_fields})
    return shape.model_copy(update=identity(shape)) if scope.opens else shape


# Their exams


def teacher_exam(scope: Scope, defense: str, split: str, sampled: int) -> Stage:
    """The exam of a teacher behind a defence, `sampled` anew: it is asked behind each, as what an
    honest user waits is measured there.

    Args:
        scope: of the study and the task.
        defense: its entry.
        split: `report` or `select`.
        sampled: seed of the teacher's sampling.
    """
    released = release(scope, defense, "text")
    spec = evaluation(scope, split, sampled, released.defense)
    return Stage(spec, TeacherEvaluationInputs(scope.teacher, released.provider))


def sampled(scope: Scope, spec: EvaluationSpec) -> EvaluationSpec:
    """A reported student's exam, with the answers that it samples for pass@k.

    Args:
        scope: of the study and the task.
        spec: of the exam without them.
    """
    measure = scope.study.measure
    if not measure.samples:
        return spec
    more = {"samples": measure.samples, "temperature": measure.sample_temperature}
    return spec.model_copy(update=more)


def evaluation(
    scope: Scope, split: str, seed: int, defense: list[ComponentSpec] | None = None
) -> EvaluationSpec:
    """What an exam is: questions of a split, and the defence that an examined teacher is behind.

    Args:
        scope: of the study and the task.
        split: `report`, `select` or `validate`.
        seed: of the examined model's sampling.
        defense: parts of the defence; None of a student.
    """
    study = scope.study
    sizes = {"report": study.measure.items, "select": study.measure.selection_items}
    items = sizes.get(split, study.search.items)
    return EvaluationSpec(task=scope.spec, split=split, items=items, seed=seed, defense=defense)
