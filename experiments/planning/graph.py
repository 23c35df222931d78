"""From one arm to its stages: `path` is the main path, read it first; what it calls stands below
it.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from distill.completions import BadInput, Interface
from experiments.planning.arms import (
    IDENTITY,
    OWN_DATA,
    SELF,
    SHUFFLED,
    UNTRAINED,
    WEAKER,
    Cell,
    learning,
)
from experiments.planning.checks import check_traces
from experiments.planning.compatibility import check_tokenizer
from experiments.private import folder_digest
from experiments.seeds import seed_for
from experiments.settings.components import ComponentSpec
from experiments.settings.entries import build_task, resolve
from experiments.settings.schema import (
    AttackSpec,
    DefenseSpec,
    Network,
    Pretrained,
    Recipe,
    Recorded,
    Search,
    Study,
    parse_attack,
    parse_defense,
)
from experiments.stages.answers import (
    AskedInputs,
    AskedSpec,
    PublicSpec,
    ReleasedInputs,
    ReleasedSpec,
    SelfInputs,
    SelfSpec,
    TracesSpec,
)
from experiments.stages.exam import ExamSpec, StudentExamInputs, TeacherExamInputs
from experiments.stages.files import Trial
from experiments.stages.follow import FollowInputs, FollowSpec
from experiments.stages.guard import GuardInputs, GuardSpec, MatchSpec
from experiments.stages.guarded import ProviderInputs
from experiments.stages.means import Owned
from experiments.stages.search import SearchInputs, SearchSpec
from experiments.stages.stage import Stage, TaskSpec
from experiments.stages.student import ReleaseSpec, StudentInputs, StudentSpec
from experiments.stages.teacher import PretrainedTeacher, RecipeTeacher, RecordedTeacher
from experiments.stages.training import Shape

TOP_K = 20
PLAIN = "sft"  # how a student learns where nothing else is said: a pilot, a proxy


class Release(NamedTuple):
    """What a defended teacher is made of: the defence, and the results that it is handed."""

    defense: list[ComponentSpec]
    given: ProviderInputs[Stage]

    @property
    def names(self) -> list[str]:
        """What it is handed, by name."""
        return [name for name, stage in vars(self.given).items() if stage]


class Path(NamedTuple):
    """The stages of one arm, in the order in which they are made."""

    completions: Stage
    student: Stage
    followed: Stage  # the student itself where nothing follows its training
    exam: Stage


@dataclass(frozen=True, eq=False)
class Scope:
    """What all stages of a study on one task share.

    `known` is the SHA-256 of models and recordings by their path, of a stranger's study, for which
    none may be opened. `searches` holds each cell's search once.
    """

    study: Study
    task: str
    known: Mapping[str, str] | None = None
    searches: dict[Cell, Stage] = field(default_factory=dict)

    @functools.cached_property
    def spec(self) -> TaskSpec:
        """What stages are told of the task; data that it reads are part of the address."""
        spec = resolve("task", self.task).spec
        return TaskSpec(**spec.model_dump(), data=build_task(self.task).data)

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
    def shape(self) -> Shape:
        """What stages are told of a student."""
        return shape_of(self.study.student)


def path(scope: Scope, cell: Cell, seed: int, split: str, trial: Trial | None = None) -> Path:
    """The main path: teacher -> defended teacher -> completions -> attack -> student ->
    post-training -> exam.

    Args:
        seed: draws the questions, samples the teacher, starts and orders the student.
        split: what the student is examined on.
        trial: the recipe of a search's trial, which changes the study's own; its student is
            examined as soon as it is trained.
    """
    attack = learning(cell.attacker)
    if cell.defense == IDENTITY:
        cell, seed = cell._replace(defense="none"), seed_for("control", seed)
    trained = cell.attacker != UNTRAINED

    # The teacher behind its defence, and what the attacker gets from it.
    released = release(scope, cell.defense, attack.needs_interface)
    answers = completions(scope, cell, seed, released)

    # The student: what cleans its answers, how it learns, and for how long.
    (learner,), cleaning = parts(attack, "learn"), parts(attack, "clean", "repair")
    shape = scope.shape.model_copy(update=trial.changes if trial else {})
    if not trained:
        shape = shape.model_copy(update={"steps": 0})
    searched = bool(scope.study.search.trials and trained and trial is None)
    spec = StudentSpec(
        task=scope.spec,
        attacker=learner,
        shape=shape,
        seed=seed,
        more=scope.longest - attack.followed(scope.study.student) if trained else 0,
        searched=searched,
    )
    inputs = StudentInputs(answers, search=search(scope, cell) if searched else None)
    # What an attack has no use for is not told, so that the plain student is the same work in
    # every study.
    if cleaning or attack.needs or not attack.asks:
        spec = spec.model_copy(update={"clean": cleaning, "own": owned(scope, cell)})
    if {"teacher", "defense"} & {*attack.needs}:
        again = ReleaseSpec(defense=released.defense, given=[])
        if "teacher" in attack.needs:  # else the attacker has the defence alone
            again = again.model_copy(update={"given": ["teacher", *released.names]})
            inputs = replace(inputs, teacher=scope.teacher, given=released.given)
        spec = spec.model_copy(update={"released": again})
    student = Stage(spec, inputs)

    # What is done to the student once it is trained.
    followed = student
    if (following := parts(attack, "follow")) and trial is None:
        after = FollowSpec(
            task=scope.spec, shape=shape, seed=seed, follow=following, own=owned(scope, cell)
        )
        followed = Stage(after, FollowInputs(student))

    return Path(answers, student, followed, student_exam(scope, followed, split))


def parts(attack: AttackSpec, *kinds: str) -> list[ComponentSpec]:
    """What stages are told of an attack's parts of these kinds."""
    return [ComponentSpec(**part) for part in attack.of(*kinds)]


def defense_parts(defense: DefenseSpec) -> list[ComponentSpec]:
    """What stages are told of a defence."""
    return [ComponentSpec(**part) for part in defense.spec]


def shape_of(network: Network) -> Shape:
    """What stages are told of a network that is trained here."""
    return Shape(**network.model_dump(include={*Shape.model_fields}))


# Teachers and what stands before them


def teacher(scope: Scope, model: Recipe | Pretrained | Recorded) -> Stage:
    """A teacher: trained here by recipe, from a folder or the hub, or recorded."""
    if isinstance(model, Recipe):
        spec = RecipeTeacher(task=scope.spec, shape=shape_of(model), items=model.items, seed=0)
        return Stage(spec)
    if scope.known is not None:
        sha256 = scope.known.get(model.path)
    else:
        # A name on the hub is not a folder here; its revision is transformers' matter.
        place = FilePath(model.path)
        sha256 = folder_digest(place) if place.exists() else None
    kind = PretrainedTeacher if isinstance(model, Pretrained) else RecordedTeacher
    return Stage(kind(**model.model_dump(exclude={"name"}), sha256=sha256 or None))


def release(scope: Scope, entry: str, interface: str) -> Release:
    """A defence with all that it must be handed, as far as it shows in what an interface
    releases.
    """
    defense = parse_defense(entry)
    if interface == "text" and defense.chain.traits.acts_on == "logprobs":
        defense = parse_defense("none")  # the same answers, so the same work
    needs = [need for need in defense.chain.traits.needs if need != "grade"]
    given = ProviderInputs(**{need: provided(scope, entry, need) for need in needs})
    released = Release(defense_parts(defense), given)
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
    spec = GuardSpec(task=scope.spec, defense=released.defense, given=released.names, match=match)
    guard = Stage(spec, GuardInputs(scope.teacher, given))
    return Release(released.defense, replace(given, guard=guard))


def provided(scope: Scope, defense: str, need: str) -> Stage:
    """A stage whose result the provider has beside its teacher; its proxy learns from its
    traces.
    """
    provider = scope.study.provider
    if need == "traces":
        return traces(scope, skip=provider.traces)
    model = getattr(provider, need)
    if model is None:
        raise BadInput(f"{defense}: needs a {need}; set provider.{need} (see configs/provider)")
    if need == "proxy":
        check_tokenizer(scope.study.teacher, model, defense, scope.known)
    if isinstance(model, Pretrained):
        return teacher(scope, model)
    # What the proxy learned from it knows too well: a gradient over other traces tells what a
    # student has to learn.
    return plain_student(scope, traces(scope, skip=0), shape_of(model), seed_for("provider"))


def traces(scope: Scope, skip: int) -> Stage:
    """Clean answers of the teacher to as many questions of its training split as the provider has,
    behind the first `skip` of them.
    """
    check_traces(scope.study, scope.task)
    spec = TracesSpec(
        task=scope.spec,
        budget=scope.study.provider.traces,
        seed=seed_for("provider"),
        source="traces",
        skip=skip,
        defense=defense_parts(parse_defense("none")),
        given=[],
        profile=Interface(),
    )
    return Stage(spec, ReleasedInputs(scope.teacher))


# What a student learns from


def completions(scope: Scope, cell: Cell, seed: int, released: Release) -> Stage:
    """What an arm's student is trained on.

    What the attacker owns needs no teacher, so that the floors of two teachers are the same work.
    """
    attack, drawn = learning(cell.attacker), _Drawn(scope.spec, cell.budget, seed)
    if cell.attacker in (UNTRAINED, OWN_DATA) or not attack.asks:
        return Stage(PublicSpec(**drawn._asdict(), source="public"))
    if cell.attacker == SELF:
        own = path(scope, cell._replace(attacker=OWN_DATA), seed, "report").followed
        return Stage(SelfSpec(**drawn._asdict(), source="self"), SelfInputs(own))
    asked: dict[str, Any] = {
        "defense": released.defense,
        "given": released.names,
        "profile": interface_of(attack.needs_interface),
    }
    if attack.made("ask"):
        spec = AskedSpec(
            **drawn._asdict(),
            **asked,
            source="teacher",
            ask=parts(attack, "ask"),
            own=owned(scope, cell),
        )
        needed = pilot(scope, cell, seed, attack)
        return Stage(spec, AskedInputs(scope.teacher, released.given, needed))
    model, source = scope.teacher, "shuffled" if cell.attacker == SHUFFLED else "teacher"
    if cell.attacker == WEAKER:
        assert scope.study.weaker_teacher
        model, source = teacher(scope, scope.study.weaker_teacher), "weaker"
    told = ReleasedSpec.model_validate(drawn._asdict() | asked | {"source": source})
    return Stage(told, ReleasedInputs(model, released.given))


class _Drawn(NamedTuple):
    """What all completions are told."""

    task: TaskSpec
    budget: int
    seed: int


def pilot(scope: Scope, cell: Cell, seed: int, attack: AttackSpec) -> Stage | None:
    """A plain student of the first answers, where an attack chooses with one what to ask next."""
    asking = [part for part in attack.made("ask") if "pilot" in part.needs]
    if not asking:
        return None
    first = Cell(cell.defense, PLAIN, asking[0].first(cell.budget))
    answers = completions(scope, first, seed, release(scope, cell.defense, "text"))
    return plain_student(scope, answers, scope.shape, seed)


def plain_student(scope: Scope, answers: Stage, shape: Shape, seed: int) -> Stage:
    """A student that learns the text of the answers and nothing else."""
    (learner,) = parts(parse_attack(PLAIN), "learn")
    spec = StudentSpec(task=scope.spec, attacker=learner, shape=shape, seed=seed)
    return Stage(spec, StudentInputs(answers))


def owned(scope: Scope, cell: Cell) -> Owned:
    """How much an attacker owns: final answers to as many questions as it may choose from, and
    worked solutions.
    """
    return Owned(budget=cell.budget, pool=pool(cell.attacker), worked=scope.study.own.worked)


def pool(attacker: str) -> int:
    """From how many times its budget an attack chooses its questions."""
    asking = learning(attacker).made("ask")
    return max((getattr(part.settings, "pool", 1) for part in asking), default=1)


def interface_of(kind: str) -> Interface:
    """What an interface of that kind releases."""
    return Interface("top_k", TOP_K) if kind == "top_k" else Interface(kind)  # type: ignore[arg-type]


# The search for a recipe


def search(scope: Scope, cell: Cell) -> Stage:
    """Equal trials for every trained arm, scored on the validation split with the first selection
    seed.
    """
    if cell not in scope.searches:
        seed, trials = scope.study.selection_seeds[0], recipes(scope.study.search)
        exams = tuple(path(scope, cell, seed, "validate", trial).exam for trial in trials)
        scope.searches[cell] = Stage(SearchSpec(recipes=trials), SearchInputs(exams))
    return scope.searches[cell]


def recipes(search: Search) -> list[Trial]:
    """The recipes that every arm tries: the study's own, then draws from the ranges."""
    rng = random.Random("search")
    trials = [Trial()]
    for _ in range(search.trials - 1):
        rate = math.exp(rng.uniform(*map(math.log, search.learning_rate)))
        steps = math.exp(rng.uniform(*map(math.log, search.steps)))
        trials.append(Trial(learning_rate=float(f"{rate:.4g}"), steps=round(steps)))
    return trials


# Exams


def student_exam(scope: Scope, student: Stage, split: str) -> Stage:
    """A student's exam; a reported one reads the clean teacher's text as well."""
    clean = scope.clean_exam if split == "report" else None
    return Stage(_exam(scope, split, None, [], 0), StudentExamInputs(student, clean))


def teacher_exam(scope: Scope, defense: str, split: str, sampled: int) -> Stage:
    """The exam of a teacher behind a defence, `sampled` anew."""
    released = release(scope, defense, "text")
    spec = _exam(scope, split, released.defense, released.names, sampled)
    return Stage(spec, TeacherExamInputs(scope.teacher, released.given))


def _exam(
    scope: Scope, split: str, defense: list[ComponentSpec] | None, given: list[str], seed: int
) -> ExamSpec:
    study = scope.study
    sizes = {"report": study.measure.items, "select": study.measure.selection_items}
    items = sizes.get(split, study.search.items)
    return ExamSpec(
        task=scope.spec, split=split, items=items, seed=seed, defense=defense, given=given
    )
