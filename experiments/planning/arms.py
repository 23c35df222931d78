"""Which students a study has: what its blocks name, the floors and controls that come unasked, and
their seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from experiments.settings.attacks import AttackSpec, parse_attack
from experiments.settings.schema import Block, Study
from experiments.stages.completions import CompletionsSpec, MadeInputs
from experiments.stages.stage import Stage

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
FEW = 3  # students of the shuffled floor, which is no choice of the attacker


class Cell(NamedTuple):
    """The students of one task that differ in their seeds alone."""

    defense: str
    attacker: str
    budget: int


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
    def completions(self) -> Stage:
        """What the student was trained on, before it was cleaned."""
        first = self.student
        while not isinstance(first.spec, CompletionsSpec):
            first = first.inputs[0]
        return first

    @property
    def own_stages(self) -> tuple[Stage, ...]:
        """The stages of this arm's own: its completions, with those that they were edited from;
        its student, and its exam.
        """
        made = self.completions
        completions = made.needs.completions if isinstance(made.needs, MadeInputs) else None
        return (*([completions] if completions else []), made, self.student, self.exam)


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


@dataclass(frozen=True)
class MarkRun:
    """A reported student's test for the marks of a defence: its own teacher's, or, of a control,
    who learned from the undefended teacher, another's.
    """

    arm: Arm
    defense: str
    stage: Stage

    @property
    def is_control(self) -> bool:
        return self.arm.defense != self.defense


def is_floor(attacker: str) -> bool:
    """Whether a student learns nothing from the teacher; besides the floors, an attack that asks
    nothing.

    Args:
        attacker: by its entry, or a floor's name.
    """
    return attacker in FLOORS or not parse_attack(attacker).asks


def choices(study: Study) -> list[str]:
    """What the best teacher-free student is chosen from."""
    return [*CHOICES, *filter(is_floor, named_attackers(study))]


def learning(attacker: str) -> AttackSpec:
    """How an arm's student learns: floors learn as the plain student does.

    Args:
        attacker: by its entry, or a floor's name.
    """
    return parse_attack("sft" if attacker in FLOORS else attacker)


def named_attackers(study: Study) -> list[str]:
    """The attackers of all blocks, once each, in the order of the study."""
    return list(dict.fromkeys(name for block in study.blocks for name in block.attackers))


def listed(study: Study, attackers: Iterable[str]) -> list[str]:
    """Attackers in the order of the study, so that no choice depends on the order of
    anything else.

    Args:
        study: whose blocks name them.
        attackers: by their entries; those that the study does not name come last.
    """
    named = named_attackers(study)
    return sorted(
        attackers, key=lambda name: (named.index(name) if name in named else len(named), name)
    )


def asking(block: Block) -> list[str]:
    """The block's attackers that ask the teacher; the others are floors."""
    return [attacker for attacker in block.attackers if not is_floor(attacker)]


def has_choice(study: Study, task: str, defense: str, budgets: Iterable[int]) -> bool:
    """Whether several attackers ask against a defence at one of these budgets, in one block or in
    several: then the worst is chosen on students and questions that are not reported. The
    identity control has no choice of its own.

    Args:
        study: whose blocks are looked through.
        task: by its entry.
        defense: by its entry, or `none`.
        budgets: questions of a student.
    """
    blocks = [block for block in study.blocks if task in block.tasks and defense in defenses(block)]
    return any(
        len({name for block in blocks if budget in block.budgets for name in asking(block)}) > 1
        for budget in budgets
    )


def defenses(block: Block) -> list[str]:
    """The undefended teacher, with which all are compared, and the block's defences.

    Args:
        block: of a study.
    """
    return list(dict.fromkeys(["none", *block.defenses]))


def floors(study: Study, block: Block) -> list[str]:
    """The block's teacher-free students: those that every study has, and those that it names.

    Args:
        study: which may have a weaker teacher.
        block: of the study.
    """
    listed = [attacker for attacker in block.attackers if is_floor(attacker)]
    unasked = [floor for floor in FLOORS if floor != WEAKER or study.weaker_teacher]
    return [*unasked, *listed]


def seeds(study: Study, task: str, cell: Cell) -> Iterator[tuple[int, str]]:
    """The seeds of a cell's students with the split that each is examined on.

    Args:
        study: with its reported and its selection seeds.
        task: by its entry.
        cell: whose students they are.
    """
    for seed in _reported(study, task, cell):
        yield seed, "report"
    if is_floor(cell.attacker):
        selected = cell.attacker != SHUFFLED
    else:
        selected = has_choice(study, task, cell.defense, [cell.budget])
    for seed in study.selection_seeds if selected else ():
        yield seed, "select"


def _reported(study: Study, task: str, cell: Cell) -> list[int]:
    """More seeds of what every defence is compared with, few of a diagnostic."""
    if cell.attacker == SHUFFLED:
        return study.seeds[:FEW]
    return study.baseline(task) if cell.defense == "none" else study.seeds
