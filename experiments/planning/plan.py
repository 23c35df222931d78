"""From a study to its plan: every component is built and checked here, and shared work is one
stage.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from distill.completions import BadInput
from experiments import provenance
from experiments.planning import checks, compatibility, edits, questions
from experiments.planning.arms import (
    IDENTITY,
    Arm,
    CampaignRun,
    Cell,
    MarkRun,
    PlateauRun,
    asking,
    defenses,
    floors,
    has_choice,
    is_floor,
    listed,
    seeds,
)
from experiments.planning.campaign_runs import (
    campaign_runs,
    check_reduced,
    leaked_student,
    shards_notes,
)
from experiments.planning.graph import path, pool
from experiments.planning.marks import check_marks, mark_runs
from experiments.planning.opened import pinned
from experiments.planning.scope import Scope, teacher_exam
from experiments.planning.texts import check_texts
from experiments.private import MARK
from experiments.settings.attacks import parse_attack
from experiments.settings.entries import build_task
from experiments.settings.models import Network, is_recording
from experiments.settings.schema import Block, Study
from experiments.stages.evaluation import EvaluationSpec, StudentEvaluationInputs
from experiments.stages.plateau import AttackInputs, PlateauAttack, PlateauInputs, PlateauSpec
from experiments.stages.post_training import PostTrainingSpec
from experiments.stages.stage import Stage
from experiments.stages.student import StudentInputs, StudentSpec
from experiments.store import Store

MOST = 10_000  # students of all kinds, with exams of teachers; planning takes seconds for them


class Due(NamedTuple):
    """Stages that are to be made, those whose results are old (see experiments/provenance.py), and
    in lines why.
    """

    stages: list[Stage]
    old: list[Stage]
    why: list[str]


@dataclass(frozen=True)
class Plan:
    """All arms of a study, the teacher's own exams by (task, defence, split), and what was left
    out.

    `opens`: false for a stranger's study, of which no model and no recording may be opened.
    `facts`: what is said on this machine alone, as of a recording; a report holds none of it, since
    it does not follow from the study.
    """

    study: Study
    arms: list[Arm] = field(default_factory=list)
    leaks: list[CampaignRun] = field(default_factory=list)
    plateaus: list[PlateauRun] = field(default_factory=list)
    marks: list[MarkRun] = field(default_factory=list)
    teachers: dict[tuple[str, str, str], list[Stage]] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)
    facts: list[str] = field(default_factory=list)
    opens: bool = True

    def note(self, what: str, *attackers: str) -> None:
        """Remember what is to be said, here and in the report, and of whom; attackers of whom the
        same is said share a line.

        Args:
            what: a sentence.
            *attackers: by their entries; none where it is said of the whole study.
        """
        named = self.remarks.setdefault(what, [])
        named += [attacker for attacker in attackers if attacker not in named]

    def tell(self, fact: str) -> None:
        """Remember what is to be said before the study runs, and nowhere else.

        Args:
            fact: which depends on this machine, or on what is opened on it.
        """
        if fact not in self.facts:
            self.facts.append(fact)

    @property
    def notes(self) -> list[str]:
        """A line for everything that was left out or has no effect."""
        return [f"{what}{': ' if of else ''}{', '.join(of)}" for what, of in self.remarks.items()]

    @functools.cached_property
    def stages(self) -> list[Stage]:
        """Every stage once, inputs before what needs them."""
        tops = [arm.exam for arm in self.arms]
        tops += [exam for exams in self.teachers.values() for exam in exams]
        for leak in self.leaks:
            tops += [leak.run, *(arm.exam for arm in leak.students)]
        tops += [longer.stage for longer in self.plateaus]
        tops += [tested.stage for tested in self.marks]
        return list({stage.key: stage for top in tops for stage in top.walk()}.values())

    def due(self, store: Store, threads: int | None = None, keep_old: bool = False) -> Due:
        """What is to be made: results that are not in the store, and old ones unless
        they are kept.

        Args:
            store: of results.
            threads: a worker; None where any number will do.
            keep_old: whether results by other code are left as they are.
        """
        states = provenance.states(self.stages, store, threads)
        words = ("missing",) if keep_old else ("missing", "waiting", "old")
        return Due(
            [stage for stage in self.stages if states[stage.key].word in words],
            [stage for stage in self.stages if states[stage.key].word == "old"],
            provenance.reasons(self.stages, states),
        )


def make(study: Study, opens: bool = True) -> Plan:
    """Expand a study's blocks into arms; floors, the undefended ceiling and the identity control
    come unasked.

    Args:
        study: as `settings.schema.load` gives it.
        opens: whether models and recordings are read; false for a stranger's study.

    Raises:
        BadInput: the study cannot be run.
    """
    _check_trials(study)
    if study.measure.marks:
        check_marks(study)
    study = pinned(study) if opens else study
    plan = Plan(study, leaks=campaign_runs(study), opens=opens)
    for note in [*shards_notes(study), *check_texts(study, opens)]:
        plan.note(note)
    tasks = dict.fromkeys(task for block in study.blocks for task in block.tasks)
    scopes = {task: Scope(study, task, opens) for task in tasks}
    for block in study.blocks:
        for task in block.tasks:
            _add(plan, block, scopes[task])
    distinct = {_arm_key(arm): arm for arm in plan.arms}
    plan.arms[:] = distinct.values()
    if all(is_floor(arm.attacker) for arm in plan.arms):
        why = "; ".join(plan.notes) or "no attacker asks the provider anything"
        raise BadInput(f"{study.name}: no cell is left to run; {why}")
    for note in (note for task in tasks for note in checks.check_steps(study, task)):
        plan.note(note)
    if study.measure.plateau:
        plan.plateaus.extend(_plateaus(plan))
    if study.measure.marks:
        plan.marks.extend(mark_runs(study, plan.arms, scopes))
    return plan


def _arm_key(arm: Arm) -> tuple[Any, ...]:
    return arm.task, arm.defense, arm.attacker, arm.budget, arm.seed, arm.split


def _add(plan: Plan, block: Block, scope: Scope) -> None:
    """The arms of one task in one block, its teachers' exams and the students of what leaked."""
    _check_task(plan, block, scope.task)
    for defense in defenses(block):
        _check_defense(plan, defense, scope.task)
        _add_teacher_exams(plan, block, scope, defense)
        for attacker in asking(block):
            if not compatibility.has_effect(defense, attacker):
                plan.note(
                    f"{defense} changes logprobs and has no effect on attackers that ask for text "
                    "alone",
                    attacker,
                )
            if _possible(plan, defense, attacker):
                for budget in block.budgets:
                    _add_arms(plan, block, scope, Cell(defense, attacker, budget))
    for budget in block.budgets:
        for attacker in asking(block):
            if _possible(plan, "none", attacker):
                _add_arms(plan, block, scope, Cell(IDENTITY, attacker, budget))
        for floor in floors(plan.study, block):
            _add_arms(plan, block, scope, Cell("none", floor, budget))
    if plan.study.campaigns:
        _add_leaked_students(plan, block, scope)


def _check_task(plan: Plan, block: Block, task: str) -> None:
    """BadInput where the task cannot be asked what the block asks; a note where answers are cut."""
    study = plan.study
    models = (study.student, study.teacher)
    if any(isinstance(model, Network) and model.vocabulary for model in models):
        build_task(task).corpus()  # BadInput where there is no text to learn one from
    checks.check_exams(study, task)
    built = build_task(task)
    for note in [*built.notes, *checks.check_lengths(study, task)]:
        plan.note(note)
    # What a machine can do is no part of a report, and is not tried for a stranger's study.
    for fact in filter(None, [*built.facts, built.grader.note()] if plan.opens else []):
        plan.tell(fact)
    for attacker in block.attackers:
        compatibility.check_attacker(study, attacker)
        queries = pool(attacker) * max(block.budgets)
        checks.check_questions(task, "budget", "query", queries)
    if plan.opens:
        _open(plan, block, task)


def _open(plan: Plan, block: Block, task: str) -> None:
    """BadInput where a model or a recording does not fit the task; facts about them."""
    study = plan.study
    for fact in checks.check_opened_lengths(study, task):
        plan.tell(fact)
    for setting in ("teacher", "weaker_teacher"):
        model = getattr(study, setting)
        if is_recording(model):
            recording = questions.check_recording(study, task, setting, model, block)
            plan.tell(questions.about(setting, recording))


def _check_defense(plan: Plan, defense: str, task: str) -> None:
    """BadInput where a defence can do nothing to the teacher's answers; a note where it may: what a
    recording or a key leads to is a fact, since others have neither.
    """
    compatibility.check_defense(plan.study.teacher, defense)
    secret = is_recording(plan.study.teacher) or MARK in defense
    if secret and not plan.opens:
        return
    say = plan.tell if secret else plan.note
    for name, changed, answers in edits.acted(plan.study, defense, task):
        if changed < answers:
            line = f"{defense}: {name} changes {changed} of {answers} answers to {task}"
            say(line)


def _add_teacher_exams(plan: Plan, block: Block, scope: Scope, defense: str) -> None:
    """The defended teacher's own exams, on other questions as well if defences are compared
    there.
    """
    selects = has_choice(plan.study, scope.task, defense, block.budgets)
    for split in ("report", "select") if selects else ("report",):
        plan.teachers[scope.task, defense, split] = [
            teacher_exam(scope, defense, split, sampled)
            for sampled in range(plan.study.measure.teacher_seeds)
        ]
    _check_size(plan, scope)


def _possible(plan: Plan, defense: str, attacker: str) -> bool:
    """Whether the attack can be made on what this defence releases; a note says why not."""
    why = compatibility.why_not(plan.study, defense, attacker)
    if why:
        plan.note(f"skipped against {defense}, as {why}", attacker)
    return not why


def _add_arms(plan: Plan, block: Block, scope: Scope, cell: Cell) -> None:
    for seed, split in seeds(plan.study, scope.task, cell):
        exam = path(scope, cell, seed, split).exam
        plan.arms.append(Arm(scope.task, *cell, seed, split, exam))
    _check_size(plan, scope)


def _check_size(plan: Plan, scope: Scope) -> None:
    """BadInput where a study is too large to be planned while somebody waits."""
    trials = len(scope.searches) * plan.study.search.trials
    leaked = sum(1 + len(leak.students) for leak in plan.leaks)
    if len(plan.arms) + trials + leaked + sum(map(len, plan.teachers.values())) > MOST:
        raise BadInput(
            f"{plan.study.name}: its blocks, seeds and search trials make more than {MOST} "
            "students and exams; divide it into studies"
        )


def _check_trials(study: Study) -> None:
    """BadInput where a search tries too many students, each with an exam, before any is made."""
    cells = sum(
        len(block.tasks)
        * len(block.budgets)
        * (len(asking(block)) * (len(defenses(block)) + 1) + len(floors(study, block)))
        for block in study.blocks
    )
    if 2 * cells * study.search.trials > MOST:
        raise BadInput(
            f"{study.name}: {study.search.trials} search trials in each of {cells} cells make more "
            f"than {MOST} students and exams; divide it into studies"
        )


def _add_leaked_students(plan: Plan, block: Block, scope: Scope) -> None:
    """The students of exactly what campaigns got; they learn as the first attacker does that
    asks.
    """
    simulated, attackers = plan.study.campaigns, asking(block)
    assert simulated
    check_reduced(simulated)
    _check_defense(plan, simulated.reduced, scope.task)
    if not simulated.students or not attackers:
        return
    reported = [leak for leak in plan.leaks if leak.split == "report"]
    for defense in defenses(block):
        if not _possible(plan, defense, attackers[0]):
            continue
        for leak in reported:
            arm = leaked_student(scope, leak, defense, attackers[0])
            # Another block may have made it already.
            if _arm_key(arm) not in map(_arm_key, leak.students):
                leak.students.append(arm)
        _check_size(plan, scope)


def _plateaus(plan: Plan) -> Iterator[PlateauRun]:
    """For undefended students and every defence, at each task's largest budget."""
    study, seed = plan.study, plan.study.seeds[0]
    arms: dict[tuple[str, str], dict[str, list[Arm]]] = {}
    for arm in plan.arms:
        largest = arm.budget == study.most(arm.task)
        if largest and arm.defense != IDENTITY and not is_floor(arm.attacker):
            by_attacker = arms.setdefault((arm.task, arm.defense), {})
            by_attacker.setdefault(arm.attacker, []).append(arm)
    for (task, defense), by_attacker in arms.items():
        attackers = tuple(listed(study, by_attacker))
        stage = _plateau(study, seed, {name: by_attacker[name] for name in attackers})
        yield PlateauRun(task, defense, attackers, study.most(task), seed, stage)


def _plateau(study: Study, seed: int, arms: Mapping[str, list[Arm]]) -> Stage:
    """The stage that trains the worst of these attackers' students for twice the steps."""
    attacks, inputs = [], []
    for attacker, students in arms.items():
        arm = next(arm for arm in students if (arm.split, arm.seed) == ("report", seed))
        selected = tuple(one.exam for one in students if one.split == "select")
        followed = arm.student.spec if isinstance(arm.student.spec, PostTrainingSpec) else None
        student = arm.student.inputs[0] if followed else arm.student
        assert isinstance(student.spec, StudentSpec) and isinstance(student.needs, StudentInputs)
        attacks.append(
            PlateauAttack(
                student=student.spec,
                post_training=followed,
                followed=parse_attack(attacker).followed(study.student),
            )
        )
        inputs.append(AttackInputs(student.needs, selected))
    exam = arm.exam
    assert isinstance(exam.spec, EvaluationSpec) and isinstance(exam.needs, StudentEvaluationInputs)
    assert exam.needs.clean
    spec = PlateauSpec(attacks=attacks, evaluation=exam.spec)
    return Stage(spec, PlateauInputs(tuple(inputs), exam.needs.clean))
