"""The grades of a study by what they are compared for: floors, ceilings, teachers, ledgers."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.measure import cost, flags, verdict
from experiments.measure.contrast import Arm, NotMeasurable, bounded
from experiments.measure.transfer import select
from experiments.planning.arms import CHOICES, IDENTITY, choices, is_floor, listed
from experiments.results.collect import Grades, Key, Sat
from experiments.seeds import seed_for
from experiments.settings.schema import Study

GPU_FLOPS = 1e14  # a stated price: FLOPs that a rented accelerator does in a second


@dataclass(eq=False)
class Compared:
    """The grades of a study, and what each arm is compared with; `flags` collects what is noticed
    on the way.
    """

    study: Study
    grades: Grades
    arms: list[dict[str, Any]]

    def __post_init__(self) -> None:
        self.flags: list[dict[str, Any]] = []
        self.alpha = self.study.measure.alpha
        self.report = {
            key: sat for key, sat in self.grades.items() if key.split == "report" and key.attacker
        }
        for key, sat in self.grades.items():
            if any(exam.items != self._first(key).items for exam in sat.exams):
                raise NotMeasurable(
                    f"{' '.join(map(str, key))}: not scored on the items of the other exams, in "
                    "their order"
                )
            bounded(sat.right_SN)
        for key, planned in self.by_key.items():
            if key not in self.grades and key.split == "report":
                self.flag("missing", key, f"0 of {len(planned)} students finished")

    def _first(self, key: Key) -> Any:
        return next(
            sat for at, sat in self.grades.items() if (at.task, at.split) == (key.task, key.split)
        ).exams[0]

    @functools.cache  # noqa: B019 (this object lives for one report)
    def floor(self, task: str, budget: int) -> str:
        """The best teacher-free student, chosen on the selection split."""
        there = [
            name
            for name in choices(self.study)
            if Key(task, "none", name, budget, "report") in self.grades
        ]
        chosen_on = [self.grades.get(Key(task, "none", name, budget, "select")) for name in there]
        if not {*CHOICES[:2]} <= {*there} or any(one is None for one in chosen_on):
            raise NotMeasurable(
                f"{task}: the floors of budget {budget} are not complete; F0 and F1 must be there"
            )
        return there[select([one.right_SN for one in chosen_on if one is not None])]

    def floor_key(self, task: str, budget: int) -> Key:
        """The best floor's reported arm."""
        return Key(task, "none", self.floor(task, budget), budget, "report")

    def floor_arm(self, task: str, budget: int) -> Sat:
        return self.grades[self.floor_key(task, budget)]

    def scores(self, key: Key) -> Arm:
        """The right answers of an arm by its seeds, as they are paired: those of the identity
        control are its own, and a teacher's are sittings, which are no students' seeds.
        """
        sat = self.grades[key]
        moved = sat.seeds
        if key.defense == IDENTITY:
            moved = tuple(seed_for("control", seed) for seed in sat.seeds)
        return Arm(sat.right_SN, moved if key.attacker else tuple(-1 - seed for seed in sat.seeds))

    def attackers(self, task: str, budget: int, defense: str) -> list[str]:
        """In the order of the study, so that no number depends on the order of a file."""
        at = (task, budget, defense)
        there = {
            key.attacker
            for key in self.report
            if (key.task, key.budget, key.defense) == at and not is_floor(key.attacker)
        }
        return listed(self.study, there)

    def undefended(self, task: str, budget: int) -> list[str]:
        """The attackers with a ceiling; Refuse if there is none, as nothing can be
        compared then.
        """
        there = self.attackers(task, budget, "none")
        if not there:
            raise NotMeasurable(
                f"{task}: no undefended student finished at budget {budget}, so there is no ceiling"
            )
        return there

    def told(self, key: Key) -> Sat:
        """The reported students of an arm; Refuse if none of them finished."""
        if key not in self.report:
            raise NotMeasurable(
                f"{key.task}: no student of {key.attacker} against {key.defense} finished at "
                f"budget {key.budget}"
            )
        return self.report[key]

    def teacher(self, task: str, defense: str, split: str = "report") -> Sat:
        return self.grades[self.teacher_key(task, defense, split)]

    def teacher_key(self, task: str, defense: str, split: str = "report") -> Key:
        return Key(task, "none" if defense == IDENTITY else defense, "", 0, split)

    @functools.cache  # noqa: B019
    def clusters(self, task: str) -> np.ndarray | None:
        """Labels of report items of one text or one declared cluster; None where every item is its
        own.
        """
        exam = next(sat for key, sat in self.report.items() if key.task == task).exams[0]
        labels = flags.clusters(exam.prompts, exam.clusters)
        return labels if len(set(labels)) < len(labels) else None

    def measured(self, key: Key, name: str) -> Arm | None:
        """Another measure of an arm's exams than right answers, by its seeds; None where an exam
        lacks it.
        """
        held = self.grades[key].stacked(name)
        return None if held is None else Arm(held, self.scores(key).seeds)

    def tasks(self) -> list[str]:
        return list(dict.fromkeys(key.task for key in self.report))

    def budgets(self, task: str) -> list[int]:
        return sorted({key.budget for key in self.report if key.task == task})

    @functools.cached_property
    def by_key(self) -> dict[Key, list[dict[str, Any]]]:
        """The planned students of each arm."""
        held: dict[Key, list[dict[str, Any]]] = {}
        for arm in self.arms:
            held.setdefault(Key(*(arm[name] for name in Key._fields)), []).append(arm)
        return held

    def prepared(self, task: str, defense: str) -> dict[str, Any]:
        """What was found and learned for a defence on a task before it could defend."""
        at = (task, defense)
        told = (
            arm["prepared"]
            for arm in self.arms
            if (arm["task"], arm["defense"]) == at and arm["finished"]
        )
        return next((one for one in told if one), {"matched": None, "numbers": {}})

    def planned(self, key: Key) -> int:
        return len(self.by_key.get(key, ()))

    def flag(self, kind: str, key: Any, evidence: str) -> None:
        one = {
            "flag": kind,
            "where": " ".join(str(part) for part in key if part not in ("", 0)),
            "evidence": evidence,
        }
        if evidence and one not in self.flags:
            self.flags.append(one)

    @property
    def rules(self) -> verdict.Rules:
        m = self.study.measure
        return verdict.Rules(m.theta, m.ineffective, m.utility_margin, m.alpha, tuple(m.looks))

    @functools.cached_property
    def ranked(self) -> list[Key]:
        """The reported arms in the order of the table."""
        order = {"floor": 0, "none": 1, "control": 2, "defense": 3}
        return sorted(self.report, key=lambda key: (key.task, key.budget, order[_group(key)]))

    def ceiling(self, key: Key) -> Key:
        """The undefended arm of the same attacker; floors are compared with the task's first
        attacker.
        """
        first = self.undefended(key.task, key.budget)[0]
        return key._replace(
            defense="none", attacker=first if is_floor(key.attacker) else key.attacker
        )

    def book(self, key: Key) -> dict[str, float]:
        """The ledger of an arm, means over its finished students; dollars at the middle of the
        stated ranges.
        """
        done = [arm for arm in self.by_key.get(key, ()) if arm["finished"]]
        names = (
            "exchanges",
            "tokens_in",
            "tokens_out",
            "student_tokens",
            "steps",
            "flops",
            "trials",
        )
        held = {
            name: float(np.mean([arm[name] or 0 for arm in done])) if done else 0.0
            for name in names
        }
        prices = {
            name: math.sqrt(low * high)
            for name, (low, high) in self.study.measure.prices.model_dump().items()
        }
        yielded = min(prices["rate_per_day"] * prices["days_until_ban"], prices["monthly_quota"])
        needed = float(cost.accounts(held["exchanges"], yielded))
        each = max(held["exchanges"], 1.0)
        paid = {name: price for name, price in prices.items() if name.startswith("price")}
        money = cost.dollars(
            held["exchanges"],
            held["tokens_in"] / each,
            held["tokens_out"] / each,
            needed,
            held["flops"] / GPU_FLOPS / 3600,
            **paid,
        )
        return held | {"accounts": needed, "dollars": money}


def _group(key: Key) -> str:
    if is_floor(key.attacker):
        return "floor"
    return {"none": "none", IDENTITY: "control"}.get(key.defense, "defense")
