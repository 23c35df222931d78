"""The arms of a study, each with what it is compared with: floor, ceiling and teachers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.measure import flags, verdict
from experiments.measure.scores import Arm, NotMeasurable, bounded
from experiments.measure.transfer import select
from experiments.planning.arms import CHOICES, IDENTITY, choices, is_floor, listed
from experiments.results.grades import Exams, Grades, Key
from experiments.results.schema.arms import FinishedStudent, MissingStudent, Preparation
from experiments.results.schema.words import Role
from experiments.seeds import seed_for
from experiments.settings.schema import Study

NOTHING_PREPARED = Preparation(matched=None, numbers={})
ROLES: tuple[Role, ...] = ("floor", "undefended", "control", "defended")
"""In the order in which tables list them."""


@dataclass(frozen=True, eq=False)
class GradedArms:
    """The grades of a study by arm: which arms there are.

    Args:
        study: what was planned, with the settings of the measurement.
        grades: the exams of each arm (S seeds x N items) and of each teacher.
        records: what each planned student took, finished or not.

    Arguments of its methods:
        task, defense: by their entries.
        budget: in exchanges.
        key: of an arm or of a teacher.

    Raises:
        NotMeasurable: if exams of one task and split hold other items, or a score is no share.
    """

    study: Study
    grades: Grades
    records: Sequence[FinishedStudent | MissingStudent]

    def __post_init__(self) -> None:
        _check_items(self.grades)
        for exams in self.grades.values():
            bounded(exams.right_SN)

    @property
    def alpha(self) -> float:
        return self.study.measure.alpha

    @property
    def rules(self) -> verdict.Rules:
        """The thresholds of the verdicts, as the study sets them."""
        m = self.study.measure
        return verdict.Rules(m.theta, m.ineffective, m.utility_margin, m.alpha, tuple(m.looks))

    @functools.cached_property
    def report(self) -> Grades:
        """The exams of the reported students."""
        return {k: exams for k, exams in self.grades.items() if k.split == "report" and k.attacker}

    @functools.cached_property
    def keys(self) -> list[Key]:
        """The reported arms in the order of the table."""
        return sorted(self.report, key=lambda k: (k.task, k.budget, ROLES.index(role(k))))

    @functools.cached_property
    def students(self) -> dict[Key, list[FinishedStudent | MissingStudent]]:
        """The planned students of each arm."""
        by_key: dict[Key, list[FinishedStudent | MissingStudent]] = {}
        for record in self.records:
            key = Key(*(getattr(record, name) for name in Key._fields))
            by_key.setdefault(key, []).append(record)
        return by_key

    def finished(self, key: Key) -> list[FinishedStudent]:
        """The finished students of an arm."""
        return [one for one in self.students.get(key, ()) if isinstance(one, FinishedStudent)]

    def tasks(self) -> list[str]:
        return list(dict.fromkeys(key.task for key in self.report))

    def budgets(self, task: str) -> list[int]:
        """Those of a task's reported students, rising."""
        return sorted({key.budget for key in self.report if key.task == task})

    def attackers(self, task: str, budget: int, defense: str) -> list[str]:
        """Those with a finished student, floors aside, in the order of the study, so that no number
        depends on the order of a file.
        """
        cell = (task, budget, defense)
        reported = {
            key.attacker
            for key in self.report
            if (key.task, key.budget, key.defense) == cell and not is_floor(key.attacker)
        }
        return listed(self.study, reported)

    def undefended(self, task: str, budget: int) -> list[str]:
        """The attackers with a ceiling.

        Raises:
            NotMeasurable: if there is none, as nothing can be compared then.
        """
        attackers = self.attackers(task, budget, "none")
        if not attackers:
            raise NotMeasurable(
                f"{task}: no undefended student finished at budget {budget}, so there is no ceiling"
            )
        return attackers


@dataclass(frozen=True, eq=False)
class ArmTable(GradedArms):
    """The arms of a study, each with what it is compared with. It answers and keeps nothing."""

    @functools.cache  # noqa: B019 (this object lives for one report)
    def floor(self, task: str, budget: int) -> str:
        """The best teacher-free student, chosen on the selection split.

        Returns:
            The floor's name.

        Raises:
            NotMeasurable: if the untrained or the own-data student is missing, or one of those
                that are there has no students on the selection split.
        """
        names = [n for n in choices(self.study) if _floor_key(task, n, budget) in self.grades]
        selection = [
            self.grades.get(_floor_key(task, n, budget)._replace(split="select")) for n in names
        ]
        complete = [exams for exams in selection if exams is not None]
        if not {*CHOICES[:2]} <= {*names} or len(complete) < len(names):
            raise NotMeasurable(
                f"{task}: the floors of budget {budget} are not complete; F0 and F1 must be there"
            )
        return names[select([exams.right_SN for exams in complete])]

    def floor_key(self, task: str, budget: int) -> Key:
        """The best floor's reported arm.

        Raises:
            NotMeasurable: as `floor`.
        """
        return _floor_key(task, self.floor(task, budget), budget)

    def ceiling(self, key: Key) -> Key:
        """The undefended arm of the same attacker; of a floor, of the task's first attacker.

        Raises:
            NotMeasurable: no undefended student finished.
        """
        first = self.undefended(key.task, key.budget)[0]
        attacker = first if is_floor(key.attacker) else key.attacker
        return key._replace(defense="none", attacker=attacker)

    def teacher_key(self, task: str, defense: str, split: str = "report") -> Key:
        """Whose exam a defence's teacher took; the identity control's teacher is the clean one.

        Args:
            split: `report` or `select`.
        """
        return Key(task, "none" if defense == IDENTITY else defense, "", 0, split)

    def teacher(self, task: str, defense: str) -> Exams:
        """The report exams of a defence's teacher."""
        return self.grades[self.teacher_key(task, defense)]

    # Its scores

    def exams(self, key: Key) -> Exams:
        """The exams of a reported arm.

        Raises:
            NotMeasurable: if none of its students finished.
        """
        if key not in self.report:
            raise NotMeasurable(
                f"{key.task}: no student of {key.attacker} against {key.defense} finished at "
                f"budget {key.budget}"
            )
        return self.report[key]

    def scores(self, key: Key) -> Arm:
        """The right answers of an arm (S x N) by its seeds, as they are paired.

        The seeds of the identity control are its own, and a teacher's are those of its
        sampling, which are no students' seeds.
        """
        exams = self.grades[key]
        return Arm(exams.right_SN, _paired_seeds(key, exams.seeds))

    def measured(self, key: Key, name: str) -> Arm | None:
        """Another measure of an arm's exams (S x N) by its seeds; None where an exam lacks it.

        Args:
            name: of a field of an exam with a value an item.
        """
        values_SN = self.grades[key].stacked(name)
        return None if values_SN is None else Arm(values_SN, self.scores(key).seeds)

    @functools.cache  # noqa: B019
    def clusters(self, task: str) -> np.ndarray | None:
        """Labels `[N]` of report items of one text or one declared cluster; None where every item
        is its own.
        """
        exam = self.teacher(task, "none").exams[0]  # there though no student finished
        labels = flags.clusters(exam.prompts, exam.clusters)
        return labels if len(set(labels)) < len(labels) else None

    def preparation(self, task: str, defense: str) -> Preparation:
        """What was found and learned for a defence on a task before it could defend."""
        records = (r for r in self.records if (r.task, r.defense) == (task, defense))
        prepared = (r.prepared for r in records if isinstance(r, FinishedStudent))
        return next((one for one in prepared if one), NOTHING_PREPARED)


def role(key: Key) -> Role:
    """What an arm is for.

    Args:
        key: of an arm, not of a teacher.
    """
    if is_floor(key.attacker):
        return "floor"
    by_defense: dict[str, Role] = {"none": "undefended", IDENTITY: "control"}
    return by_defense.get(key.defense, "defended")


def _floor_key(task: str, name: str, budget: int) -> Key:
    return Key(task, "none", name, budget, "report")


def _paired_seeds(key: Key, seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not key.attacker:
        return tuple(-1 - seed for seed in seeds)
    control = key.defense == IDENTITY
    return tuple(seed_for("control", seed) for seed in seeds) if control else seeds


def _check_items(grades: Grades) -> None:
    """NotMeasurable unless all exams of a task and split hold the same items in one order."""
    first: dict[tuple[str, str], tuple[str, ...]] = {}
    for key, exams in grades.items():
        items = first.setdefault((key.task, key.split), exams.exams[0].items)
        if any(exam.items != items for exam in exams.exams):
            raise NotMeasurable(
                f"{' '.join(map(str, key))}: not scored on the items of the other exams, in "
                "their order"
            )
