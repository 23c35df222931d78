"""From a study to its arms and stages: every component is built and checked here, and shared work
is one stage.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from distill.completions import BadInput, Interface
from distill.folders import tokenizer_digest
from distill.recordings import RecordedModel, read_recorded
from experiments import provenance
from experiments.measure.curves import too_far
from experiments.private import folder_digest, shown
from experiments.settings import campaigns
from experiments.settings.catalog import cached
from experiments.settings.entries import build_task, resolve
from experiments.settings.schema import (
    AttackSpec,
    Block,
    Pretrained,
    Proxy,
    Recipe,
    Recorded,
    Search,
    Study,
    kind_of,
    parse_attack,
    parse_defense,
)
from experiments.stages.guarded import PROVIDER
from experiments.stages.stage import Stage
from experiments.store import Store
from experiments.tasks import Split

# Teacher-free students: F0 untrained, F1 own data, F2 its own verified answers or a weaker public
# teacher, F3 answers to other prompts, which shows what form alone gives and is no choice of the
# attacker.
UNTRAINED, OWN_DATA, SELF, WEAKER, SHUFFLED = (
    f"floor/{name}"
    for name in ("untrained", "own_data", "self_distilled", "weaker_teacher", "shuffled")
)
FLOORS = (UNTRAINED, OWN_DATA, SELF, WEAKER, SHUFFLED)
CHOICES = (UNTRAINED, OWN_DATA, SELF, WEAKER)
# Undefended once more, with answers and students of fresh seeds: T must cover 1.
IDENTITY = "control/identity"
FRESH = 1000
FEW = 3  # students of the shuffled floor, which is no choice of the attacker
TOP_K = 20
LOOKED_AT = 200  # training questions whose worked solutions are measured before anything runs
# Rough costs on one core of the embedded default; they order the queue and are the estimate.
SECONDS = {
    "teacher": 45.0,
    "calibration": 40.0,
    "guard": 30.0,
    "campaign": 8.0,
    "answers": 1.5,
    "student": 6.0,
    "follow": 6.0,
    "plateau": 14.0,
    "exam": 1.0,
    "search": 0.1,
}


def seconds(stage: Stage) -> float:
    """About how long a stage takes; simulations grow with honest accounts and days."""
    honest = stage.settings.get("honest")
    return SECONDS[stage.kind] * (
        honest["accounts"] / 30_000 * stage.settings["days"] / 44 if honest else 1.0
    )


def is_floor(attacker: str) -> bool:
    """Whether a student learns nothing from the teacher; besides the floors, an attack that asks
    nothing.
    """
    return attacker in FLOORS or not parse_attack(attacker).asks


def choices(study: Study) -> list[str]:
    """What the best teacher-free student is chosen from."""
    named = [attacker for block in study.blocks for attacker in block.attackers]
    return [*CHOICES, *dict.fromkeys(one for one in named if is_floor(one))]


def learning(attacker: str) -> AttackSpec:
    """How an arm's student learns: floors learn as the plain student does."""
    return parse_attack("sft" if attacker in FLOORS else attacker)


@dataclass(frozen=True)
class Arm:
    """One trained student and its exam; floors carry defence `none`.

    `split` is `report`, or `select` for the students that only choose among floors and attacks.
    """

    task: str
    defense: str
    attacker: str
    budget: int
    seed: int
    split: str
    exam: Stage

    @property
    def student(self) -> Stage:
        """The trained student, with what followed its training."""
        return self.exam.inputs[0]

    @property
    def answers(self) -> Stage:
        first = self.student
        while first.kind != "answers":
            first = first.inputs[0]
        return first


@dataclass(frozen=True)
class CampaignRun:
    """A campaign's run against an access, and the students of exactly what it got (arms of split
    `leaked`).

    `split` is `report`, or `select` for runs that only choose which campaign gains most.
    """

    preset: str
    access: str
    seed: int
    split: str
    run: Stage
    students: list[Arm]


@dataclass(frozen=True)
class PlateauRun:
    """One student trained for twice the steps, of the attack that is chosen among `attackers`; by
    task and defence.
    """

    task: str
    defense: str
    attackers: tuple[str, ...]
    budget: int
    seed: int
    stage: Stage


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

    `known`: the SHA-256 of models and recordings by their path, of a stranger's study, for which
    none may be opened.
    """

    study: Study
    arms: list[Arm] = field(default_factory=list)
    leaks: list[CampaignRun] = field(default_factory=list)
    plateaus: list[PlateauRun] = field(default_factory=list)
    teachers: dict[tuple[str, str, str], list[Stage]] = field(default_factory=dict)
    told: dict[str, list[str]] = field(default_factory=dict)
    known: Mapping[str, str] | None = None

    def note(self, what: str, *attackers: str) -> None:
        """Remember what is to be said, and of whom; attackers of whom the same is said share a
        line.
        """
        held = self.told.setdefault(what, [])
        held += [one for one in attackers if one not in held]

    @property
    def notes(self) -> list[str]:
        """A line for everything that was left out or has no effect."""
        return [f"{what}{': ' if of else ''}{', '.join(of)}" for what, of in self.told.items()]

    @functools.cached_property
    def stages(self) -> list[Stage]:
        """Every stage once, inputs before what needs them."""
        teachers = [exam for exams in self.teachers.values() for exam in exams]
        leaks = [
            top for leak in self.leaks for top in (leak.run, *(arm.exam for arm in leak.students))
        ]
        longer = [one.stage for one in self.plateaus]
        tops = [arm.exam for arm in self.arms] + teachers + leaks + longer
        return list({stage.key: stage for top in tops for stage in top.walk()}.values())

    def due(self, store: Store, threads: int | None = None, keep_old: bool = False) -> Due:
        """What is to be made: results that are not in the store, and old ones unless
        they are kept.
        """
        held = provenance.states(self.stages, store, threads)
        words = ("missing",) if keep_old else ("missing", "waiting", "old")
        return Due(
            [one for one in self.stages if held[one.key].word in words],
            [one for one in self.stages if held[one.key].word == "old"],
            provenance.told(self.stages, held),
        )


def make(study: Study, known: Mapping[str, str] | None = None) -> Plan:
    """Expand a study's blocks into arms; floors, the undefended ceiling and the identity control
    come unasked.

    With `known` (see `Plan`) no model and no recording is opened; BadInput where the study cannot
    be run.
    """
    plan = Plan(study, leaks=_leaks(study), known=known)
    for block in study.blocks:
        for task in block.tasks:
            _Cells(plan, block, task).add()
    seen = {_arm_key(arm): arm for arm in plan.arms}
    plan.arms[:] = seen.values()
    if all(is_floor(arm.attacker) for arm in plan.arms):
        why = "; ".join(plan.notes) or "no attacker asks the provider anything"
        raise BadInput(f"{study.name}: no cell is left to run; {why}")
    if study.measure.plateau:
        plan.plateaus.extend(_plateaus(plan))
    return plan


def listed(study: Study, attackers: Iterable[str]) -> list[str]:
    """Attackers in the order of the study, so that no choice depends on the order of
    anything else.
    """
    named = [attacker for block in study.blocks for attacker in block.attackers]
    return sorted(
        attackers, key=lambda one: (named.index(one) if one in named else len(named), one)
    )


def _plateaus(plan: Plan) -> Iterator[PlateauRun]:
    """For undefended students and every defence, at each task's largest budget."""
    study, seed = plan.study, plan.study.seeds[0]
    held: dict[tuple[str, str, str], list[Arm]] = {}
    for arm in plan.arms:
        if (
            not is_floor(arm.attacker)
            and arm.defense != IDENTITY
            and arm.budget == study.most(arm.task)
        ):
            held.setdefault((arm.task, arm.defense, arm.attacker), []).append(arm)
    for task, defense in dict.fromkeys((task, defense) for task, defense, _ in held):
        attackers = listed(study, [a for t, d, a in held if (t, d) == (task, defense)])
        told: list[dict[str, Any]] = []
        inputs: list[Stage] = []
        for attacker in attackers:
            mine = held[task, defense, attacker]
            arm = next(one for one in mine if (one.split, one.seed) == ("report", seed))
            selected = [one.exam for one in mine if one.split == "select"]
            top = arm.student
            student = top.inputs[0] if top.kind == "follow" else top
            told.append(
                {
                    "student": student.settings,
                    "follow": top.settings if top.kind == "follow" else None,
                    "followed": parse_attack(attacker).followed(study.student),
                    "inputs": len(student.inputs),
                    "selection": len(selected),
                }
            )
            inputs += [*student.inputs, *selected]
        settings = {"attacks": told, "exam": arm.exam.settings}
        stage = Stage("plateau", settings, (*inputs, arm.exam.inputs[1]))
        yield PlateauRun(task, defense, tuple(attackers), study.most(task), seed, stage)


def _leaks(study: Study) -> list[CampaignRun]:
    """Every campaign against every access, a run a seed; what leaks is the same whatever it
    teaches.
    """
    held = study.campaigns
    if held is None:
        return []
    if all(len(block.budgets) < 2 for block in study.blocks):
        raise BadInput(
            f"{study.name}: campaigns are read through the query curve; a block needs two "
            "budgets or more"
        )
    for block in study.blocks:
        if why := too_far(block.budgets, "the query curve that campaigns are read through"):
            raise BadInput(f"{study.name}: {why}, got {sorted(block.budgets)}")
    told = held.model_dump(mode="json", include={"honest", "days", "release"})
    watching = [campaigns.detector(entry).model_dump(mode="json") for entry in held.detectors]
    for one in watching:
        one["settings"] |= {"release": held.release} if one["name"] == "pivot" else {}
    told |= {"detectors": watching}
    clean = Stage("calibration", told | {"clean": held.clean})
    leaks = []
    seeds = [(seed, "report") for seed in study.seeds]
    seeds += [(seed, "select") for seed in study.selection_seeds if len(held.presets) > 1]
    for preset, access, (seed, split) in itertools.product(held.presets, held.access, seeds):
        settings = {
            "campaign": campaigns.campaign(preset).model_dump(mode="json"),
            "access": campaigns.told(access),
        }
        run = Stage("campaign", told | settings | {"rates": held.rates, "seed": seed}, (clean,))
        leaks.append(CampaignRun(preset, access, seed, split, run, []))
    return leaks


def _arm_key(arm: Arm) -> tuple[Any, ...]:
    return arm.task, arm.defense, arm.attacker, arm.budget, arm.seed, arm.split


@dataclass(frozen=True)
class _Cells:
    """The arms of one task in one block."""

    plan: Plan
    block: Block
    task: str

    @functools.cached_property
    def spec(self) -> Any:
        """What stages are told of the task; data that it reads are part of the address."""
        spec, data = resolve("task", self.task).spec, build_task(self.task).data
        return spec.model_dump(mode="json") | ({"data": data} if data else {})

    @functools.cached_property
    def train_items(self) -> int:
        """How many training questions the task has, as far as the provider's traces and its proxy's
        need them.
        """
        return len(build_task(self.task).train_items(2 * self.plan.study.provider.traces, PROVIDER))

    @functools.cached_property
    def examples(self) -> list[Any]:
        """A few training questions with their worked solutions."""
        return list(build_task(self.task).train_items(20, PROVIDER))

    @functools.cached_property
    def asking(self) -> list[str]:
        """The block's attackers that ask the teacher; the others are floors."""
        return [one for one in self.block.attackers if not is_floor(one)]

    @functools.cached_property
    def longest(self) -> int:
        """The most steps that any attack on the task takes after its student's training: all train
        as long as it.
        """
        study = self.plan.study
        attackers = {
            one for block in study.blocks if self.task in block.tasks for one in block.attackers
        }
        return max(learning(one).followed(study.student) for one in attackers)

    @functools.cached_property
    def teacher(self) -> Stage:
        return self._teacher(self.plan.study.teacher)

    @functools.cached_property
    def clean(self) -> Stage:
        """The undefended teacher's exam; its answers are the text that students' bits per byte are
        measured on.
        """
        return self._exam("none", (self.teacher,))

    def add(self) -> None:
        study = self.plan.study
        if any(getattr(one, "vocabulary", 0) for one in (study.student, study.teacher)):
            build_task(self.task).corpus()  # BadInput where there is no text to learn one from
        self._check_exams()
        self._check_lengths()
        for attacker in self.block.attackers:
            self._check_attacker(attacker)
        for defense in dict.fromkeys(["none", *self.block.defenses]):
            self._check_point(defense)
            self._sit(defense)
            for attacker in self.asking:
                self._cell(defense, attacker)
        for budget in self.block.budgets:
            for attacker in self.asking:
                if self._possible("none", attacker):
                    self._arms(IDENTITY, attacker, budget)
            for floor in [*FLOORS, *(one for one in self.block.attackers if is_floor(one))]:
                if floor != WEAKER or self.plan.study.weaker_teacher:
                    self._arms("none", floor, budget)
        for leak in (one for one in self.plan.leaks if one.split == "report" and self.reduced):
            for defense in dict.fromkeys(["none", *self.block.defenses]):
                self._learned_from(leak, defense)

    def _learned_from(self, leak: CampaignRun, defense: str) -> None:
        """The student of exactly what a campaign got; it learns as the first attacker does that
        asks.
        """
        held, budget = self.plan.study.campaigns, self.plan.study.most(self.task)
        if (
            held is None
            or not held.students
            or not self.asking
            or not self._possible(defense, self.asking[0])
        ):
            return
        attacker, mounted = self.asking[0], parse_attack(self.asking[0])
        plain = [kind_of(part.name) for part in mounted.parts] == ["learn"] and not mounted.needs
        if not plain or mounted.needs_interface != "text":
            raise BadInput(
                f"{attacker}: campaigns.students trains on what leaked, so the block's first "
                "attacker must "
                "be a plain learner of text, such as sft"
            )
        if any(
            (arm.task, arm.defense, arm.attacker) == (self.task, defense, attacker)
            for arm in leak.students
        ):
            return  # another block's already
        spec, given = self._guard(defense, "text")
        settings = {
            "task": self.spec,
            "budget": budget,
            "seed": leak.seed,
            "source": "leaked",
            "profile": {"kind": "text", "k": 0},
            "defense": spec,
            "given": [*given],
            "reduced": self.reduced,
            "stands_for": held.stands_for,
            "per_question": held.per_question(leak.preset, budget),
        }
        inputs: tuple[Stage, ...] = (
            Stage("answers", settings, (self.teacher, *given.values(), leak.run)),
        )
        shape = self.plan.study.student.model_dump(mode="json", exclude={"name"})
        told = {
            "task": self.spec,
            "attacker": mounted.of("learn")[0],
            "shape": shape,
            "seed": leak.seed,
            "leaked": True,
        }
        if self.plan.study.search.trials:
            told |= {"searched": True}
            inputs += (self._search(defense, attacker, budget),)
        exam = self._exam(None, (Stage("student", told, inputs), self.clean))
        leak.students.append(Arm(self.task, defense, attacker, budget, leak.seed, "leaked", exam))

    @functools.cached_property
    def reduced(self) -> Any:
        """What answers of reduced accounts pass behind the defence in force."""
        assert self.plan.study.campaigns
        entry = self.plan.study.campaigns.reduced
        chosen = parse_defense(entry)
        edits = (
            all(part.name.startswith("release/") for part in chosen.parts)
            and chosen.chain.point == "text"
        )
        if not edits or chosen.chain.needs or chosen.match:
            raise BadInput(
                f"campaigns.reduced: {entry} must edit finished answers and need nothing, as "
                "release/answer_only does"
            )
        self._check_point(entry)
        return chosen.spec

    def _sit(self, defense: str) -> None:
        """The defended teacher's own exams, on other questions as well if defences are compared
        there.
        """
        for split in ("report", "select") if len(self.asking) > 1 else ("report",):
            self.plan.teachers[self.task, defense, split] = [
                self._exam(defense, (self.teacher,), split, sampled)
                for sampled in range(self.plan.study.measure.teacher_seeds)
            ]

    def _cell(self, defense: str, attacker: str) -> None:
        if (
            parse_defense(defense).chain.point == "logprobs"
            and parse_attack(attacker).needs_interface == "text"
        ):
            self.plan.note(
                f"{defense} changes logprobs and has no effect on attackers that ask for text "
                "alone",
                attacker,
            )
        if self._possible(defense, attacker):
            for budget in self.block.budgets:
                self._arms(defense, attacker, budget)

    def _possible(self, defense: str, attacker: str) -> bool:
        """Whether the attack can be made on what this defence releases; a note says why not."""
        chain, mounted, study = (
            parse_defense(defense).chain,
            parse_attack(attacker),
            self.plan.study,
        )
        sees, needs = mounted.needs_interface, mounted.needs
        recorded = isinstance(study.teacher, Recorded)
        why = (
            "it releases no logprobs"
            if sees != "text" and chain.point == "text"
            else "the provider's interface lets nobody begin an answer (provider.prefill)"
            if {"prefill", "teacher"} & {*needs} and not study.provider.prefill
            else "a recorded teacher answers nothing new"
            if {"prefill", "teacher"} & {*needs} and recorded
            else "who sees answers alone cannot rebuild a defence that learns or reads scores"
            if "defense" in needs and (chain.learns or any(one.scores for one in chain.parts))
            else ""
        )
        if why:
            self.plan.note(f"skipped against {defense}, as {why}", attacker)
        return not why

    def _arms(self, defense: str, attacker: str, budget: int) -> None:
        study = self.plan.study
        for seed in self._seeds(defense, attacker):
            student = self._student(defense, attacker, budget, seed + FRESH * (defense == IDENTITY))
            exam = self._exam(None, (student, self.clean))
            self.plan.arms.append(Arm(self.task, defense, attacker, budget, seed, "report", exam))
        # Where there is a choice, it is made on students and questions that are not reported.
        chosen = (
            attacker != SHUFFLED
            if is_floor(attacker)
            else defense != IDENTITY and len(self.asking) > 1
        )
        if chosen:
            for seed in study.selection_seeds:
                exam = self._exam(None, (self._student(defense, attacker, budget, seed),), "select")
                self.plan.arms.append(
                    Arm(self.task, defense, attacker, budget, seed, "select", exam)
                )

    def _seeds(self, defense: str, attacker: str) -> list[int]:
        """The reported seeds of an arm: more of what every defence is compared with, few of a
        diagnostic.
        """
        study = self.plan.study
        if attacker == SHUFFLED:
            return study.seeds[:FEW]
        return study.baseline(self.task) if defense == "none" else study.seeds

    def _student(self, defense: str, attacker: str, budget: int, seed: int) -> Stage:
        """A student, with the recipe that the study's search finds for its cell if there is one."""
        search = None
        if self.plan.study.search.trials and attacker != UNTRAINED:
            search = self._search(defense, attacker, budget)
        student = self._trained(defense, attacker, budget, seed, {}, search)
        following = learning(attacker).of("follow")
        if not following:
            return student
        told = {name: student.settings[name] for name in ("task", "shape", "seed")}
        return Stage(
            "follow", told | {"follow": following, "own": self._own(attacker, budget)}, (student,)
        )

    def _trained(
        self,
        defense: str,
        attacker: str,
        budget: int,
        seed: int,
        recipe: dict[str, Any],
        search: Stage | None = None,
    ) -> Stage:
        mounted = learning(attacker)
        inputs: tuple[Stage, ...] = (self._asked(defense, attacker, budget, seed),)
        shape = self.plan.study.student.model_dump(mode="json", exclude={"name"}) | recipe
        shape |= {"steps": 0} if attacker == UNTRAINED else {}
        (learner,), cleaning = mounted.of("learn"), mounted.of("clean", "repair")
        settings = {"task": self.spec, "attacker": learner, "shape": shape, "seed": seed}
        more = self.longest - mounted.followed(self.plan.study.student)
        if more and attacker != UNTRAINED:
            settings |= {"more": more}
        # What an attack has no use for is not told, so that the plain student is the same work in
        # every study.
        if cleaning or mounted.needs or not mounted.asks:
            settings |= {"clean": cleaning, "own": self._own(attacker, budget)}
        if {"teacher", "defense"} & {*mounted.needs}:
            spec, given = self._guard(
                "none" if defense == IDENTITY else defense, mounted.needs_interface
            )
            given = {"teacher": self.teacher, **given} if "teacher" in mounted.needs else {}
            settings |= {"released": {"defense": spec, "given": [*given]}}
            inputs += tuple(given.values())
        if search:
            settings, inputs = settings | {"searched": True}, (*inputs, search)
        return Stage("student", settings, inputs)

    def _own(self, attacker: str, budget: int) -> dict[str, int]:
        """How much an attacker owns: final answers to as many questions as it may choose from, and
        worked solutions.
        """
        return {
            "budget": budget,
            "pool": self._pool(attacker),
            "worked": self.plan.study.own.worked,
        }

    @staticmethod
    def _pool(attacker: str) -> int:
        """From how many times its budget an attack chooses its questions."""
        return max(
            (getattr(one.settings, "pool", 1) for one in learning(attacker).made("ask")), default=1
        )

    def _search(self, defense: str, attacker: str, budget: int) -> Stage:
        """Equal trials for every trained arm, scored on the validation split with the first
        selection seed.
        """
        study, search = self.plan.study, self.plan.study.search
        seed, exams, trials = study.selection_seeds[0], [], recipes(search)
        for recipe in trials:
            student = self._trained(defense, attacker, budget, seed, recipe)
            exams.append(self._exam(None, (student,), "validate"))
        return Stage("search", {"recipes": trials}, tuple(exams))

    def _asked(self, defense: str, attacker: str, budget: int, seed: int) -> Stage:
        """What an arm's student is trained on."""
        sources = {
            UNTRAINED: "public",
            OWN_DATA: "public",
            SELF: "self",
            SHUFFLED: "shuffled",
            WEAKER: "weaker",
        }
        mounted, asked = learning(attacker), "none" if defense == IDENTITY else defense
        if not mounted.asks:
            return self._answers(asked, budget, seed, "public", "text")
        source = sources.get(attacker, "teacher")
        return self._answers(asked, budget, seed, source, mounted.needs_interface, attacker)

    def _answers(
        self,
        defense: str,
        budget: int,
        seed: int,
        source: str,
        interface: str,
        attacker: str = "sft",
    ) -> Stage:
        released: dict[str, Any] = {"kind": interface, "k": TOP_K if interface == "top_k" else 0}
        settings = {"task": self.spec, "budget": budget, "seed": seed, "source": source}
        mounted = learning(attacker)
        asking = mounted.made("ask")
        # What the attacker owns needs no teacher, so that the floors of two teachers are the same
        # work.
        if source == "public":
            return Stage("answers", settings)
        if source == "self":
            return Stage("answers", settings, (self._student("none", OWN_DATA, budget, seed),))
        if source == "weaker":
            assert self.plan.study.weaker_teacher
            teacher = self._teacher(self.plan.study.weaker_teacher)
        else:
            teacher = self.teacher
        spec, given = self._guard(defense, interface)
        told = settings | {"defense": spec, "given": [*given], "profile": released}
        inputs = (teacher, *given.values())
        if asking:
            told |= {"ask": mounted.of("ask"), "own": self._own(attacker, budget)}
        pilots = [one for one in asking if "pilot" in one.needs]
        if pilots:
            first = self._answers(defense, pilots[0].first(budget), seed, source, "text")
            shape = self.plan.study.student.model_dump(mode="json", exclude={"name"})
            plain = parse_attack("sft").of("learn")[0]
            inputs += (
                Stage(
                    "student",
                    {"task": self.spec, "attacker": plain, "shape": shape, "seed": seed},
                    (first,),
                ),
            )
        return Stage("answers", told, inputs)

    def _exam(
        self,
        defense: str | None,
        inputs: tuple[Stage, ...],
        split: str = "report",
        sampled: int = 0,
    ) -> Stage:
        study = self.plan.study
        spec, given = (None, {}) if defense is None else self._guard(defense, "text")
        sizes = {"report": study.measure.items, "select": study.measure.selection_items}
        items = sizes.get(split, study.search.items)
        settings = {
            "task": self.spec,
            "split": split,
            "items": items,
            "defense": spec,
            "given": [*given],
        }
        return Stage("exam", settings | {"seed": sampled}, (*inputs, *given.values()))

    def _guard(self, defense: str, interface: str) -> tuple[list[Any], dict[str, Stage]]:
        """What a stage is told of a defence, and by name the results that this defence must be
        handed.
        """
        chosen = parse_defense(defense)
        if interface == "text" and chosen.chain.point == "logprobs":
            chosen = parse_defense("none")  # the same answers, so the same work
        given = {
            need: self._provided(defense, need) for need in chosen.chain.needs if need != "grade"
        }
        if chosen.match or chosen.chain.learns:
            settings = {"task": self.spec, "defense": chosen.spec, "given": [*given], "match": None}
            if chosen.match:
                measure = self.plan.study.measure
                searched = {"items": measure.selection_items, "seeds": measure.teacher_seeds}
                settings["match"] = chosen.match.model_dump() | searched
            given["guard"] = Stage("guard", settings, (self.teacher, *given.values()))
        return chosen.spec, given

    def _provided(self, defense: str, need: str) -> Stage:
        """A stage whose result the provider has beside its teacher; its proxy learns from its
        traces.
        """
        provider = self.plan.study.provider
        if need == "traces":
            return self._traces(provider.traces)
        model = getattr(provider, need)
        if model is None:
            raise BadInput(f"{defense}: needs a {need}; set provider.{need} (see configs/provider)")
        if need == "proxy":
            self._check_tokenizer(defense, model)
        if isinstance(model, Pretrained):
            return self._teacher(model)
        shape = model.model_dump(mode="json", exclude={"name", "kind"})
        settings = {
            "task": self.spec,
            "attacker": parse_attack("sft").of("learn")[0],
            "shape": shape,
            "seed": PROVIDER,
        }
        # What the proxy learned from it knows too well: a gradient over other traces tells what a
        # student has to learn.
        return Stage("student", settings, (self._traces(0),))

    def _traces(self, skip: int) -> Stage:
        """Clean answers of the teacher to as many questions of its training split, behind the first
        `skip` of them.
        """
        n = self.plan.study.provider.traces
        if self.train_items < 2 * n:
            raise BadInput(
                f"provider.traces: {n} and as many for a proxy are too many; {self.task} has "
                f"{self.train_items} "
                "training questions"
            )
        asked = {"task": self.spec, "budget": n, "skip": skip, "seed": PROVIDER}
        plain = {
            "defense": parse_defense("none").spec,
            "given": [],
            "profile": {"kind": "text", "k": 0},
        }
        return Stage("answers", asked | plain | {"source": "traces"}, (self.teacher,))

    def _check_tokenizer(self, defense: str, proxy: Proxy | Pretrained) -> None:
        """A proxy must spell as the teacher does, before anything runs; with_proxy compares the
        files themselves.
        """
        teacher = self.plan.study.teacher
        if (
            isinstance(teacher, Recipe)
            and isinstance(proxy, Proxy)
            and teacher.vocabulary == proxy.vocabulary
        ):
            return
        if isinstance(teacher, Pretrained) and isinstance(proxy, Pretrained):
            if self.plan.known is not None:
                return
            names = {one.path: tokenizer_digest(shown(one.path)) for one in (teacher, proxy)}
            if len(set(names.values())) == 1:
                return
        raise BadInput(
            f"{defense}: the proxy {proxy.name!r} has another tokenizer than the teacher "
            f"{teacher.name!r}; scores of "
            "one vocabulary mean nothing in another (a pretrained teacher needs a pretrained "
            "proxy with its tokenizer)"
        )

    def _check_lengths(self) -> None:
        """Worked solutions must fit into `max_length` beside their question, and into
        `max_new_tokens`.

        A note where some do not, as answers will be cut; BadInput where none does.
        """
        study = self.plan.study
        names = {
            "student": study.student,
            "teacher": study.teacher if isinstance(study.teacher, Recipe) else None,
        }
        for name, shape in names.items():
            if shape is None:
                continue
            spelled = _spelled(self.task, shape.vocabulary)
            for setting, most, sizes in (
                ("max_length", shape.max_length, spelled.whole),
                ("max_new_tokens", shape.max_new_tokens, spelled.answers),
            ):
                over = sum(size > most for size in sizes)
                told = f"{name}.{setting}: {most} tokens"
                if over == len(sizes):
                    raise BadInput(
                        f"{told} are too few for every worked solution of {self.task}, the "
                        "shortest takes "
                        f"{min(sizes)}"
                    )
                if over:
                    self.plan.note(
                        f"{told} cut {100 * over / len(sizes):.0f} % of worked solutions of "
                        f"{self.task}, "
                        f"the longest takes {max(sizes)}"
                    )

    def _check_attacker(self, attacker: str) -> None:
        """BadInput where the study lacks what an attack needs whatever it is made on."""
        study, mounted = self.plan.study, parse_attack(attacker)
        if mounted.needs_interface != "text" and study.student.vocabulary:
            raise BadInput(
                f"{attacker}: needs a student with the teacher's tokenizer; student.vocabulary "
                "must be 0"
            )
        if "worked" in mounted.needs and not study.own.worked:
            raise BadInput(
                f"{attacker}: needs worked solutions; own.worked must be above 0 (see configs/own)"
            )
        self._check_questions("budget", "query", self._pool(attacker) * max(self.block.budgets))

    def _check_exams(self) -> None:
        """BadInput where an exam has more questions than the task's split."""
        study = self.plan.study
        self._check_questions("measure.items", "report", study.measure.items)
        self._check_questions("measure.selection_items", "select", study.measure.selection_items)
        self._check_questions("own.worked", "query", study.own.worked)
        if study.search.trials:
            self._check_questions("search.items", "validate", study.search.items)

    def _check_questions(self, setting: str, split: Split, n: int) -> None:
        there = build_task(self.task).available(split, n)
        if there < n:
            raise BadInput(
                f"{setting}: {self.task}: {n} {split} items asked for, only {there} available"
            )

    def _check_point(self, defense: str) -> None:
        chain, teacher = parse_defense(defense).chain, self.plan.study.teacher
        mark = build_task(self.task).mark
        for name, part in zip(chain.names, chain.parts, strict=True):
            told = getattr(part.settings, "marker", None)
            if told is not None and mark not in told and not part.off:
                raise BadInput(
                    f"{name}: marker {told!r} is not what final answers of {self.task} begin "
                    "with; write "
                    f"{name}(marker={mark!r})"
                )
        told = [
            (name, getattr(part.settings, "separator", None))
            for name, part in zip(chain.names, chain.parts, strict=True)
            if not part.off
        ]
        for name, separator in told:
            if separator and not any(separator in item.solution for item in self.examples):
                self.plan.note(
                    f"{name}: separator {separator!r} is in no worked solution of {self.task}; "
                    "it does "
                    "nothing to answers without steps"
                )
        wants = [name for name, part in zip(chain.names, chain.parts, strict=True) if part.scores]
        if isinstance(teacher, Recorded) and wants:
            raise BadInput(
                f"{wants[0]}: needs the teacher's scores; teacher {teacher.name!r} is recorded "
                "and can only "
                "be edited"
            )
        warm = getattr(teacher, "temperature", 0)
        for name, part in zip(chain.names, chain.parts, strict=True):
            cooled = getattr(part.settings, "temperature", None)
            warm = warm if cooled is None else cooled
            if part.draws and not warm and not part.off:
                raise BadInput(
                    f"{name}: acts through sampling; teacher {teacher.name!r} decodes greedily, "
                    "so write "
                    f"'decoding/temperature + {name}'"
                )

    def _check_recording(self, teacher: Recorded) -> None:
        """Every prompt that this study will ask must be in the recording, before anything runs."""
        exam, study = build_task(self.task), self.plan.study
        recording = _recording(shown(teacher.path), teacher.prompt, teacher.answer)
        asked = exam.items("report", study.measure.items, 0)
        guards = [parse_defense(defense) for defense in self.block.defenses]
        if len(self.asking) > 1 or any(one.match for one in guards):
            asked += exam.items("select", study.measure.selection_items, 0)
        pool = max(map(self._pool, self.asking), default=1)
        fresh = [seed + FRESH for seed in study.seeds]
        for seed in [*study.baseline(self.task), *study.selection_seeds, *fresh]:
            asked += exam.items("query", pool * max(self.block.budgets), seed)
        if any("traces" in one.chain.needs for one in guards):
            asked += exam.train_items(2 * study.provider.traces, PROVIDER)
        recording.generate([item.prompt for item in asked], seed=0, interface=Interface())

    def _teacher(self, teacher: Recipe | Pretrained | Recorded) -> Stage:
        if isinstance(teacher, Recipe):
            shape = teacher.model_dump(mode="json", exclude={"name", "kind", "items"})
            return Stage(
                "teacher", {"task": self.spec, "shape": shape, "items": teacher.items, "seed": 0}
            )
        settings = teacher.model_dump(mode="json", exclude={"name"})
        if self.plan.known is not None:
            told = self.plan.known.get(teacher.path)
            return Stage("teacher", settings | ({"sha256": told} if told else {}))
        path = Path(teacher.path)
        if isinstance(teacher, Recorded):
            self._check_recording(teacher)
        # A name on the hub is not a folder here; its revision is transformers' matter.
        return Stage(
            "teacher", settings | ({"sha256": folder_digest(path)} if path.exists() else {})
        )


def recipes(search: Search) -> list[dict[str, Any]]:
    """The recipes that every arm tries: the study's own, then draws from the ranges."""
    rng = random.Random("search")
    drawn = [
        {
            name: math.exp(rng.uniform(*map(math.log, getattr(search, name))))
            for name in ("learning_rate", "steps")
        }
        for _ in range(search.trials - 1)
    ]
    return [
        {},
        *(
            {"learning_rate": float(f"{one['learning_rate']:.4g}"), "steps": round(one["steps"])}
            for one in drawn
        ),
    ]


class _Spelled(NamedTuple):
    """Tokens of training questions with their worked solutions and ends, and of the solutions with
    ends alone.
    """

    whole: list[int]
    answers: list[int]


@cached
def _spelled(task: str, vocabulary: int) -> _Spelled:
    """Under a student's own tokenizer: a token a character, or byte pairs learned from the task's
    public text.
    """
    exam = build_task(task)
    length: Callable[[str], int] = len
    if vocabulary:
        from distill.embedded import byte_pair_tokenizer

        tokenizer = byte_pair_tokenizer(exam.corpus(), vocabulary)
        length = lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)  # noqa: E731
    items = exam.train_items(LOOKED_AT, PROVIDER)
    answers = [length(item.solution) + 1 for item in items]
    return _Spelled(
        [length(item.prompt.text) + n for item, n in zip(items, answers, strict=True)], answers
    )


@cached
def _recording(path: str, prompt: str, answer: str) -> RecordedModel:
    return read_recorded(Path(path), prompt, answer)
