"""From a study to its arms and stages: every component is built and checked here, and shared work is one stage."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distill.answers import BadInput
from experiments.config import Study, component
from experiments.store import Store, key

FLOORS = ("floor/untrained", "floor/own_data", "floor/shuffled")
SECONDS = {"teacher": 75.0, "answers": 3.0, "student": 12.0, "exam": 2.0}


@dataclass(frozen=True)
class Stage:
    """A function of its settings and the results of its inputs, with a content address."""

    kind: str
    settings: Any
    inputs: tuple[Stage, ...] = ()

    @functools.cached_property
    def key(self) -> str:
        return key(self.kind, self.settings, [stage.key for stage in self.inputs])

    def walk(self) -> Iterator[Stage]:
        """This stage and all that it needs, inputs first."""
        for stage in self.inputs:
            yield from stage.walk()
        yield self


@dataclass(frozen=True)
class Arm:
    """One trained student and its exam; floors carry defense `none`."""

    task: str
    defense: str
    attacker: str
    budget: int
    seed: int
    exam: Stage


@dataclass(frozen=True)
class Plan:
    """All arms of a study, the teacher's own exams by (task, defence), and the stages behind both."""

    study: Study
    arms: list[Arm]
    teachers: dict[tuple[str, str], Stage]
    samples: dict[tuple[str, str], Stage]

    @functools.cached_property
    def stages(self) -> list[Stage]:
        """Every stage once, inputs before what needs them."""
        tops = [arm.exam for arm in self.arms] + list(self.teachers.values()) + list(self.samples.values())
        return list({stage.key: stage for top in tops for stage in top.walk()}.values())

    def missing(self, store: Store) -> list[Stage]:
        """The stages whose results are not in the store yet."""
        return [stage for stage in self.stages if not store.has(stage.kind, stage.key)]


def make(study: Study) -> Plan:
    """Expand a study's blocks into arms, with the undefended ceiling and the floors added to every cell."""
    build = functools.cache(lambda group, name: component(group, name))
    arms: dict[tuple[Any, ...], Arm] = {}
    teachers: dict[tuple[str, str], Stage] = {}
    samples: dict[tuple[str, str], Stage] = {}
    for block in study.blocks:
        for task in block.tasks:
            spec = build("task", task)[0].model_dump(mode="json")
            teacher = Stage(
                "teacher",
                {
                    "task": spec,
                    "shape": study.teacher.model_dump(exclude={"name"}),
                    "items": study.teacher_items,
                    "seed": 0,
                },
            )
            for defense in dict.fromkeys(["none", *block.defenses]):
                guard = build("defense", defense)[0].model_dump(mode="json", exclude={"label"})
                exam = {"task": spec, "items": study.measure.items, "defense": guard, "seed": 0}
                teachers[task, defense] = Stage("exam", exam, (teacher,))
                samples[task, defense] = _answers(teacher, spec, guard, 4, 0, "teacher", "text")
                for attacker in block.attackers:
                    for budget in block.budgets:
                        _add(arms, study, teacher, spec, guard, (task, defense, attacker, budget), build)
            for floor in FLOORS:
                for budget in block.budgets:
                    none = build("defense", "none")[0].model_dump(mode="json", exclude={"label"})
                    _add(arms, study, teacher, spec, none, (task, "none", floor, budget), build)
    return Plan(study, list(arms.values()), teachers, samples)


def _add(
    arms: dict[tuple[Any, ...], Arm], study: Study, teacher: Stage, spec: Any, guard: Any, cell: Any, build: Any
) -> None:
    task, defense, attacker, budget = cell
    floor = attacker in FLOORS
    chosen, instance = build("attacker", "sft" if floor else attacker)
    if budget < 1:
        raise BadInput(f"budgets: must be at least 1, got {budget}")
    source = {"floor/own_data": "public", "floor/shuffled": "shuffled"}.get(attacker, "teacher")
    steps = 0 if attacker == "floor/untrained" else study.student.steps
    shape = study.student.model_copy(update={"steps": steps}).model_dump(exclude={"name"})
    for seed in study.seeds:
        answers = _answers(teacher, spec, guard, budget, seed, source, instance.needs_profile)
        attack = chosen.model_dump(mode="json", exclude={"label"})
        student = Stage("student", {"task": spec, "attacker": attack, "shape": shape, "seed": seed}, (answers,))
        exam = Stage("exam", {"task": spec, "items": study.measure.items, "defense": None, "seed": 0}, (student,))
        arms[*cell, seed] = Arm(task, defense, attacker, int(budget), seed, exam)


def _answers(teacher: Stage, spec: Any, guard: Any, budget: int, seed: int, source: str, profile: str) -> Stage:
    settings = {
        "task": spec,
        "defense": guard,
        "budget": int(budget),
        "seed": seed,
        "source": source,
        "profile": profile,
    }
    # What the attacker owns needs no teacher, so that the floors of two teachers are the same work.
    return Stage("answers", settings, () if source == "public" else (teacher,))
