"""What report.html shows beside the measures."""

from __future__ import annotations

from experiments.results.schema.words import Attacker, Budget, Defense, Task
from experiments.results.table import Real, Table


class Sample(Table):
    """A clean and a defended answer to one question."""

    task: Task
    defense: Defense
    prompt: str
    """As it was asked."""
    clean: str
    """The clean teacher's answer."""
    defended: str
    """The defended teacher's answer."""


class StudentAccuracies(Table):
    """The students of a reported arm, one by one."""

    task: Task
    defense: Defense
    attacker: Attacker
    budget: Budget
    accuracies: list[Real]
    """Share of right answers of each, in the order of their seeds."""


class Exhibits(Table):
    """What a reader sees that is no measure."""

    samples: list[Sample]
    students: list[StudentAccuracies]
    notes: list[str]
    """What the plan left out, and why."""
    fingerprint: str
    """Over the digests of all results."""
