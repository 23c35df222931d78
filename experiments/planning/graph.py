"""From one arm to its stages: `path` is the main path, read it first; what it calls stands below
it.
"""

from __future__ import annotations

import functools
import math
import random
from dataclasses import dataclass, field, replace
from typing import NamedTuple

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
from experiments.planning.opened import identity
from experiments.private import by_contents
from experiments.seeds import seed_for
from experiments.settings.components import ComponentSpec
from experiments.settings.entries import build_task, resolve
from experiments.settings.grammar import split as split_entry
from experiments.settings.models import (
    FineTuned,
    FineTunedTeacher,
    Network,
    Pretrained,
    Recipe,
    Teacher,
)
from experiments.settings.schema import (
    AttackSpec,
    DefenseSpec,
    Search,
    Study,
    parse_attack,
    parse_defense,
)
from experiments.settings.served import PLACE, Served
from experiments.stages.completions import (
    AskedInputs,
    AskedSpec,
    EditedSpec,
    MadeInputs,
    PublicSpec,
    ReleasedInputs,
    ReleasedSpec,
    SelfInputs,
    SelfSpec,
    ShuffledSpec,
    TeacherInputs,
    TracesSpec,
)
from experiments.stages.defended import ProviderInputs
from experiments.stages.defense import MatchSpec, PrepareInputs, PrepareSpec
from experiments.stages.evaluation import (
    EvaluationSpec,
    StudentEvaluationInputs,
    TeacherEvaluationInputs,
)
from experiments.stages.files import Trial
from experiments.stages.post_training import PostTrainingInputs, PostTrainingSpec
from experiments.stages.resources import Owned
from experiments.stages.search import SearchInputs, SearchSpec
from experiments.stages.stage import Stage, TaskSpec
from experiments.stages.student import StudentInputs, StudentSpec
from experiments.stages.teacher import (
    PretrainedTeacher,
    RecipeTeacher,
    RecordedTeacher,
    ServedTeacher,
)
from experiments.stages.training import FineTune, Shape

TOP_K = 20
PLAIN = "sft"  # how a student learns where nothing else is said: a pilot, a proxy


class Release(NamedTuple):
    """What a defended teacher is made of: the defence, and the results that it is handed."""

    defense: list[ComponentSpec]
    given: ProviderInputs[Stage]


class Path(NamedTuple):
    """The stages of one arm, in the order in which they are made."""

    completions: Stage
    student: Stage
    final: Stage  # the student itself where nothing follows its training
    exam: Stage


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
    def shape(self) -> Shape | FineTune:
        """What stages are told of a student."""
        return shape_of(self, self.study.student)


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
    asked = completions(scope, cell, seed, released)

    # The student: what cleans its answers, how it learns, and for how long.
    (learner,), cleaning = parts(attack, "learn"), parts(attack, "clean", "repair")
    shape = scope.shape.model_copy(update=trial.changes if trial else {})
    if not trained:
        shape = shape.model_copy(update={"steps": 0})
    spec = StudentSpec(
        task=scope.spec,
        attacker=learner,
        shape=shape,
        seed=seed,
        more=scope.longest - attack.followed(scope.study.student) if trained else 0,
    )
    inputs = StudentInputs(asked)
    # What an attack has no use for is not told, so that the plain student is the same work in
    # every study.
    if cleaning or attack.needs or not attack.asks:
        spec = spec.model_copy(update={"clean": cleaning, "own": owned(scope, cell)})
    if {"teacher", "defense"} & {*attack.needs}:
        spec = spec.model_copy(update={"defense": released.defense})
    if "teacher" in attack.needs:  # else the attacker has the defence alone
        inputs = replace(inputs, teacher=scope.teacher, given=released.given)
    elif "tokenizer" in attack.needs:
        inputs = replace(inputs, teacher=scope.teacher)
    if scope.study.search.trials and trained and trial is None:
        inputs = replace(inputs, search=search(scope, cell))
    student = Stage(spec, inputs)

    # What is done to the student once it is trained.
    final = student
    if (following := parts(attack, "follow")) and trial is None:
        after = PostTrainingSpec(
            task=scope.spec, shape=shape, seed=seed, follow=following, own=owned(scope, cell)
        )
        final = Stage(after, PostTrainingInputs(student))

    return Path(asked, student, final, student_exam(scope, final, split))


def parts(attack: AttackSpec, *kinds: str) -> list[ComponentSpec]:
    """What stages are told of an attack's parts of these kinds."""
    return [ComponentSpec(**part) for part in attack.of(*kinds)]


def defense_parts(defense: DefenseSpec) -> list[ComponentSpec]:
    """What stages are told of a defence."""
    return [ComponentSpec(**part) for part in defense.spec]


def shape_of(scope: Scope, model: Network | FineTuned) -> Shape | FineTune:
    """What stages are told of a model that is trained here."""
    if isinstance(model, Network):
        return Shape(**model.model_dump(include={*Shape.model_fields}))
    shape = FineTune(**{name: getattr(model, name) for name in FineTune.model_fields})
    return shape.model_copy(update=identity(shape)) if scope.opens else shape


# Teachers and what stands before them


def teacher(scope: Scope, model: Teacher) -> Stage:
    """A teacher: trained here by recipe, from a folder or the hub, recorded, or behind a server."""
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
    """
    defense = parse_defense(entry)
    if interface == "text" and defense.chain.traits.acts_on == "logprobs":
        defense = parse_defense("none")  # the same answers, so the same work
    needs = [need for need in defense.chain.traits.needs if need != "grade"]
    handed = ProviderInputs(**{need: provided(scope, entry, need) for need in needs})
    released = Release(defense_parts(defense), handed)
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
    """
    provider = scope.study.provider
    if need == "traces":
        return traces(scope, skip=provider.traces)
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
    )
    return Stage(spec, TeacherInputs(scope.teacher))


# What a student learns from


def completions(scope: Scope, cell: Cell, seed: int, released: Release) -> Stage:
    """What an arm's student is trained on.

    What the attacker owns needs no teacher, so that the floors of two teachers are the same work.
    """
    attack, drawn = learning(cell.attacker), _Drawn(scope.spec, cell.budget, seed)
    if cell.attacker in (UNTRAINED, OWN_DATA) or not attack.asks:
        return Stage(PublicSpec(**drawn._asdict(), source="public"))
    if cell.attacker == SELF:
        student = path(scope, cell._replace(attacker=OWN_DATA), seed, "report").final
        return Stage(SelfSpec(**drawn._asdict(), source="self"), SelfInputs(student))
    if cell.attacker == SHUFFLED:
        made = teacher_completions(scope, drawn, cell.defense, "text")
        inputs = MadeInputs(scope.teacher, completions=made)
        return Stage(ShuffledSpec(**drawn._asdict(), source="shuffled"), inputs)
    if cell.attacker == WEAKER:
        assert scope.study.weaker_teacher
        weaker = ReleasedSpec(
            **drawn._asdict(), source="weaker", defense=released.defense, interface=Interface()
        )
        model = teacher(scope, scope.study.weaker_teacher)
        return Stage(weaker, ReleasedInputs(model, released.given))
    if not attack.made("ask"):
        return teacher_completions(scope, drawn, cell.defense, attack.needs_interface)
    spec = AskedSpec(
        **drawn._asdict(),
        source="asked",
        defense=released.defense,
        interface=interface_of(attack.needs_interface),
        ask=parts(attack, "ask"),
        own=owned(scope, cell),
    )
    needed = pilot(scope, cell, seed, attack)
    return Stage(spec, AskedInputs(scope.teacher, released.given, needed))


def teacher_completions(scope: Scope, drawn: _Drawn, entry: str, interface: str) -> Stage:
    """A defended teacher's completions: asked for behind what changes its scores, which is once
    for all defences that only edit finished text, and then edited.
    """
    released = release(scope, entry, interface)
    names = split_entry(entry, "+")
    # Behind an edited turn the next is another.
    once = build_task(scope.task).turns == 1
    edits = trailing_edits(entry) if interface == "text" and once else 0
    if not edits:
        spec = ReleasedSpec(
            **drawn._asdict(),
            source="teacher",
            defense=released.defense,
            interface=interface_of(interface),
        )
        return Stage(spec, ReleasedInputs(scope.teacher, released.given))
    after = len(names) - edits
    before = teacher_completions(scope, drawn, " + ".join(names[:after]) or "none", interface)
    edited = EditedSpec(**drawn._asdict(), source="edited", defense=released.defense, after=after)
    return Stage(edited, MadeInputs(scope.teacher, released.given, before))


def trailing_edits(entry: str) -> int:
    """How many of a defence's last parts only edit finished text, where those before them are the
    same without them.
    """
    defense = parse_defense(entry)
    edits = 0
    for part in reversed(defense.chain.parts):
        if part.traits.acts_on != "text" or part.traits.requires_logits:
            break
        edits += 1
    before = len(defense.parts) - edits
    # A strength that is found, or what is learned, is of the whole defence.
    matched = defense.match is not None and defense.match.part < before
    learns = any(part.traits.learns for part in defense.chain.parts[:before])
    return 0 if matched or learns else edits


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


def plain_student(scope: Scope, answers: Stage, shape: Shape | FineTune, seed: int) -> Stage:
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
    return Stage(_evaluation(scope, split, 0), StudentEvaluationInputs(student, clean))


def teacher_exam(scope: Scope, defense: str, split: str, sampled: int) -> Stage:
    """The exam of a teacher behind a defence, `sampled` anew."""
    released = release(scope, defense, "text")
    spec = _evaluation(scope, split, sampled, released.defense)
    return Stage(spec, TeacherEvaluationInputs(scope.teacher, released.given))


def _evaluation(
    scope: Scope, split: str, seed: int, defense: list[ComponentSpec] | None = None
) -> EvaluationSpec:
    study = scope.study
    sizes = {"report": study.measure.items, "select": study.measure.selection_items}
    items = sizes.get(split, study.search.items)
    return EvaluationSpec(task=scope.spec, split=split, items=items, seed=seed, defense=defense)
