"""measures.json: every number of a report."""

from __future__ import annotations

from typing import Literal

from experiments.results.schema.campaigns import CampaignMeasures
from experiments.results.schema.curves import CurveResult
from experiments.results.schema.defenses import CaseResult, FrontierResult, TeacherResult
from experiments.results.schema.marks import MarkResult
from experiments.results.schema.rows import Row
from experiments.results.schema.words import Attacker, Budget, Defense, Task
from experiments.results.table import Real, Table

SCHEMA_VERSION: Literal[4] = 4
"""Of all tables of a run; raised whenever a field is added or removed, or changes its name, place,
kind or meaning.
"""


class LedgerRow(Table):
    """What a reported arm cost, means over its finished students."""

    task: Task
    defense: Defense
    attacker: Attacker
    budget: Budget
    split: str
    """`report`."""
    exchanges: Real
    """Questions that were put to the teacher."""
    tokens_in: Real
    """Sent to the teacher."""
    tokens_out: Real
    """Received from it."""
    student_tokens: Real
    """With loss in the student's training."""
    steps: Real
    """Of the optimiser."""
    flops: Real
    """Of training, the search included."""
    trials: Real
    """Of the search."""
    accounts: Real
    """At the middle of the stated ranges."""
    dollars: Real
    """At the middle of the stated ranges."""


class RaisedFlag(Table):
    """Something that a careful reviewer would ask about."""

    flag: str
    """Its kind, a key of `measure.flag_kinds.KINDS`."""
    where: str
    """Task, defence, attack, budget and split, as far as it is about one."""
    evidence: str
    """A sentence with the figure."""


class AttackFacts(Table):
    """A listed attack."""

    name: str
    """As the study writes it."""
    parts: str
    """The list of parts that a battery's name stands for; the name itself of all others."""
    interface: str
    """What of the teacher's output it sees."""

    @property
    def is_battery(self) -> bool:
        return self.parts != self.name


class StudyFacts(Table):
    """What a reader must know of the study to read its tables."""

    name: str
    """Of the study."""
    question: str
    """What the study asks."""
    seeds: int
    """Students an arm."""
    items: int
    """Questions of the report exam."""
    looks: list[int]
    """Numbers of seeds at which verdicts are given."""
    alpha: float
    """Two-sided level of all intervals."""
    exchanges_per_question: float | None
    """Of simulated campaigns: exchanges that teach what a question teaches."""

    @property
    def level(self) -> str:
        """Of the intervals, in percent."""
        return f"{100 * (1 - self.alpha):g}"


class Measures(Table):
    """measures.json: every number of a report; a function of the study, its grades and its arms."""

    schema_version: Literal[4] = SCHEMA_VERSION
    """Of these tables."""
    study: StudyFacts
    attacks: list[AttackFacts]
    rows: list[Row]
    cases: list[CaseResult]
    teachers: list[TeacherResult]
    curves: list[CurveResult]
    frontier: list[FrontierResult]
    ledger: list[LedgerRow]
    flags: list[RaisedFlag]
    campaigns: CampaignMeasures | None
    marks: list[MarkResult]
    """Tests of students for marks; empty where the study asks for none."""
    old: list[str]
    """What of the results other code made, in lines."""
