"""marks.json: whether each student carries a mark; and of measures.json, the same by arm."""

from __future__ import annotations

from pydantic import TypeAdapter

from experiments.results.schema.words import Attacker, Budget, Defense, High, Low, Task
from experiments.results.table import Count, Number, Real, Table


class MarkLook(Table):
    """What a test said of the first distinct draws."""

    scored: Count
    """Distinct draws."""
    repeats: Count
    """Draws that were there before, and were left out."""
    statistic: Number
    """What was counted."""
    expected: Number
    """What is usual without the mark."""
    log10_p: Number
    """Decimal logarithm of the p-value, exact over keys; null where there is none."""
    note: str = ""
    """Why there is none."""


class MarkTestResult(Table):
    """A test of one mark on one student."""

    mark: str
    """Name of the mark."""
    test: str
    """What it reads, one of `stages.mark_test.TESTS`."""
    looks: list[MarkLook]
    """At ever more draws, all of them last."""


class MarkedStudent(Table):
    """marks.json: a reported student that was tested for the marks of a defence."""

    task: Task
    defense: Defense
    attacker: Attacker
    budget: Budget
    seed: Count
    """Of the student."""
    control: bool
    """Whether it learned from the undefended teacher, and so never saw the key."""
    tokens: Count
    """Of the answers that it learned from, each once."""
    marked_tokens: Count
    """Of those, in answers of the marked teacher that stayed as they were sold."""
    vocabulary: Count
    """Tokens of the marked model's vocabulary."""
    tests: list[MarkTestResult]


class DetectedShare(Table):
    """How many students are found at a level."""

    level: Real
    """p at most."""
    value: Real
    """Share of all students, those without a p-value too."""
    lo: Low
    hi: High


class MarkPoint(Table):
    """A test after so many draws."""

    scored: Count
    """Distinct draws; at the last point the median over students of all that they have."""
    students: Count
    """That have so many, and a p-value there."""
    log10_p: Real
    """Median over these students."""


class MarkResult(Table):
    """A test of a mark on the students of an arm, or on their controls."""

    task: Task
    defense: Defense
    attacker: Attacker
    budget: Budget
    control: bool
    """Whether the students learned from the undefended teacher: what is found there is a false
    alarm."""
    mark: str
    """Name of the mark."""
    test: str
    """What it reads."""
    students: Count
    """That were tested."""
    with_p: Count
    """Of those, with a p-value."""
    scored: Real
    """Distinct draws, median over students."""
    repeats: Real
    """Draws left out, median over students."""
    share: Real
    """Of the tokens of the answers that a student learned from, those as the marked teacher said
    them; mean over students."""
    marked_tokens: Real
    """How many these are, mean over students."""
    log10_p: Number
    """Median over students with a p-value; null where none has one."""
    shares: list[DetectedShare]
    """Of students found, by level."""
    curve: list[MarkPoint]
    """p against draws."""
    note: str
    """Why a student has no p-value; empty where all have one."""


MARKED_STUDENTS: TypeAdapter[list[MarkedStudent]] = TypeAdapter(list[MarkedStudent])
