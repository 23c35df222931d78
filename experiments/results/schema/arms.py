"""arms.json: what each student was trained on, what that took, and how training went."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from experiments.results.schema.words import Attacker, Budget, Defense, Task
from experiments.results.table import Count, Setting, Table


class MatchedStrength(Table):
    """The strength that was found for a defence which is set to what it costs the honest user."""

    knob: str
    """Name of the setting."""
    value: Setting
    """What it was set to."""
    points: float
    """Loss of the teacher's accuracy that was asked for, percentage points."""
    loss: float
    """Loss at that strength on the selection questions, percentage points."""


class Preparation(Table):
    """What was found and learned for a defence before it could defend."""

    matched: MatchedStrength | None
    """None where the strength is given."""
    numbers: dict[str, int | float]
    """What the defence learned, by name."""


class StudentRecord(Table):
    """Which student of a study it is."""

    task: Task
    defense: Defense
    attacker: Attacker
    budget: Budget
    split: Literal["report", "select"]
    """Whether it is reported, or only chooses among floors and attacks."""
    seed: Count
    """Of its questions, initial weights and batch order."""


class MissingStudent(StudentRecord):
    """A student that was planned and has not been trained and examined."""

    finished: Literal[False]
    """False."""


class FinishedStudent(StudentRecord):
    """A trained and examined student: what it was trained on, what that took, and how it went."""

    finished: Literal[True]
    """True."""
    exchanges: Count
    """Questions that were put to the teacher, those of later training included."""
    tokens_in: Count | None
    """Tokens sent to the teacher; None where they were not counted."""
    tokens_out: Count | None
    """Tokens that the teacher wrote; None where they were not counted."""
    student_tokens: Count
    """Tokens with loss in the student's training."""
    parameters: Count
    """Of the student."""
    flops: Annotated[int | float, Field(ge=0)]
    """6 a parameter and position, the search's trials included (Kaplan et al. 2020)."""
    trials: Count
    """Of the search for this student's hyper-parameters."""
    steps: Count
    """Optimiser steps."""
    learning_rate: float
    """Peak of its schedule."""
    cut: Annotated[float, Field(ge=0, le=1)]
    """Share of the training answers that were cut at max_length."""
    no_final: Annotated[float, Field(ge=0, le=1)]
    """Share of the training answers that hold no final answer."""
    diverged: bool
    """Whether its loss stopped being a number."""
    losses: list[float | None]
    """Training loss every so many steps, nats a token."""
    leaked: Count
    """Report questions that are among its queries."""
    prepared: Preparation | None
    """Of its defence; None where there was nothing to prepare."""


ArmRecord = Annotated[FinishedStudent | MissingStudent, Field(discriminator="finished")]
ARM_RECORDS: TypeAdapter[list[FinishedStudent | MissingStudent]] = TypeAdapter(list[ArmRecord])
