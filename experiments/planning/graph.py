"""From one arm to its stages: `path` is the main path, read it first. What it calls stands below
it; what all arms of a task share is in `scope`.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import NamedTuple

from distill.completions import Interface
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
from experiments.planning.scope import (
    PLAIN,
    Release,
    Scope,
    asked_behind,
    evaluation,
    plain_student,
    release,
    sampled,
    teacher,
)
from experiments.seeds import seed_for
from experiments.settings.attacks import AttackSpec
from experiments.settings.defenses import parse_defense
from experiments.settings.entries import build_task
from experiments.settings.grammar import split as split_entry
from experiments.settings.schema import Search
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
)
from experiments.stages.evaluation import StudentEvaluationInputs
from experiments.stages.files import Trial
from experiments.stages.post_training import PostTrainingInputs, PostTrainingSpec
from experiments.stages.resources import Owned
from experiments.stages.search import SearchInputs, SearchSpec
from experiments.stages.stage import Stage, TaskSpec
from experiments.stages.student import StudentInputs, StudentSpec

TOP_K = 20


class Path(NamedTuple):
    """The stages of one arm, in the order in which they are made."""

    completions: Stage
    student: Stage
    final: Stage  # the student itself where nothing follows its training
    exam: Stage


def path(scope: Scope, cell: Cell, seed: int, split: str, trial: Trial | None = None) -> Path:
    """The main path: teacher -> defended teacher -> completions -> attack -> student ->
    post-training -> exam.

    Args:
        scope: of a task.
        cell: defence, attacker and budget.
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
    (learner,), cleaning = attack.specs("learn"), attack.specs("clean", "repair")
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
    inputs = StudentInputs(answers)
    # What an attack has no use for is not told, so that the plain student is the same work in
    # every study.
    if cleaning or attack.needs or not attack.asks:
        spec = spec.model_copy(update={"clean": cleaning, "own": owned(scope, cell)})
    if {"teacher", "defense"} & {*attack.needs}:
        spec = spec.model_copy(update={"defense": released.defense})
    if "teacher" in attack.needs:  # else the attacker has the defence alone
        inputs = replace(inputs, teacher=scope.teacher, given=released.provider)
    elif "tokenizer" in attack.needs:
        inputs = replace(inputs, teacher=scope.teacher)
    if scope.study.search.trials and trained and trial is None:
        inputs = replace(inputs, search=search(scope, cell))
    student = Stage(spec, inputs)

    # What is done to the student once it is trained.
    final = student
    if (following := attack.specs("follow")) and trial is None:
        after = PostTrainingSpec(
            task=scope.spec, shape=shape, seed=seed, follow=following, own=owned(scope, cell)
        )
        final = Stage(after, PostTrainingInputs(student))

    return Path(answers, student, final, student_exam(scope, final, split))


# What a student learns from


def completions(scope: Scope, cell: Cell, seed: int, released: Release) -> Stage:
    """What an arm's student is trained on.

    What the attacker owns needs no teacher, so that the floors of two teachers are the same work.

    Args:
        scope: of the study and the task.
        cell: defence, attacker and budget.
        seed: draws the questions and samples the teacher.
        released: the teacher behind its defence.
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
        return Stage(weaker, ReleasedInputs(model, released.provider))
    if not attack.askers:
        return teacher_completions(scope, drawn, cell.defense, attack.needs_interface)
    spec = AskedSpec(
        **drawn._asdict(),
        source="asked",
        defense=released.defense,
        interface=interface_of(attack.needs_interface),
        ask=attack.specs("ask"),
        own=owned(scope, cell),
    )
    needed = pilot(scope, cell, seed, attack)
    return Stage(spec, AskedInputs(scope.teacher, released.provider, needed))


def teacher_completions(scope: Scope, drawn: _Drawn, entry: str, interface: str) -> Stage:
    """A defended teacher's completions. It is asked behind what changes its scores, once for all
    interfaces and for all defences that only edit what is finished, and released and edited from
    there.

    Args:
        scope: of the study and the task.
        drawn: task, budget and seed.
        entry: of the defence.
        interface: `text`, `top_k` or `full`.
    """
    if interface == "text" and parse_defense(entry).chain.traits.acts_on == "logprobs":
        entry = "none"
    # Behind an edited turn the next is another.
    once = build_task(scope.task).turns == 1
    behind, after = asked_behind(entry) if once else (entry, len(split_entry(entry, "+")))
    widest = scope.interfaces.get(behind, interface) if once else interface
    first = release(scope, behind, widest)
    spec = ReleasedSpec(
        **drawn._asdict(),
        source="teacher",
        defense=first.defense,
        interface=interface_of(widest),
    )
    sold = Stage(spec, ReleasedInputs(scope.teacher, first.provider))
    if (behind, widest) == (entry, interface):
        return sold
    released = release(scope, entry, interface)
    edited = EditedSpec(
        **drawn._asdict(),
        source="edited",
        defense=released.defense,
        after=after,
        interface=interface_of(interface),
    )
    return Stage(edited, MadeInputs(scope.teacher, released.provider, sold))


class _Drawn(NamedTuple):
    """What all completions are told."""

    task: TaskSpec
    budget: int
    seed: int


def pilot(scope: Scope, cell: Cell, seed: int, attack: AttackSpec) -> Stage | None:
    """A plain student of the first answers, where an attack chooses with one what to ask next.

    Args:
        scope: of the study and the task.
        cell: defence, attacker and budget.
        seed: of the arm.
        attack: the cell's attacker.
    """
    asking = [part for part in attack.askers if "pilot" in part.needs]
    if not asking:
        return None
    first = Cell(cell.defense, PLAIN, asking[0].first(cell.budget))
    answers = completions(scope, first, seed, release(scope, cell.defense, "text"))
    return plain_student(scope, answers, scope.shape, seed)


def owned(scope: Scope, cell: Cell) -> Owned:
    """How much an attacker owns: final answers to as many questions as it may choose from, and
    worked solutions.

    Args:
        scope: of a task.
        cell: whose attacker it is.
    """
    return Owned(budget=cell.budget, pool=pool(cell.attacker), worked=scope.study.own.worked)


def pool(attacker: str) -> int:
    """From how many times its budget an attack chooses its questions.

    Args:
        attacker: by its entry, or a floor's name.
    """
    asking = learning(attacker).askers
    return max((part.pool for part in asking), default=1)


def interface_of(kind: str) -> Interface:
    """What an interface of that kind releases.

    Args:
        kind: `text`, `top_k` or `full`.
    """
    return Interface("top_k", TOP_K) if kind == "top_k" else Interface(kind)  # type: ignore[arg-type]


# The search for a recipe


def search(scope: Scope, cell: Cell) -> Stage:
    """Equal trials for every trained arm, scored on the validation split with the first selection
    seed.

    Args:
        scope: of the study and the task.
        cell: defence, attacker and budget.
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


# The exam


def student_exam(scope: Scope, student: Stage, split: str) -> Stage:
    """A student's exam; a reported one reads the clean teacher's text as well.

    Args:
        scope: of the study and the task.
        student: whose exam it is.
        split: `report`, `select` or `validate`.
    """
    spec = evaluation(scope, split, 0)
    if split != "report":
        return Stage(spec, StudentEvaluationInputs(student))
    return Stage(sampled(scope, spec), StudentEvaluationInputs(student, scope.clean_exam))
