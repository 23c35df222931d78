"""results.json: a row a reported arm, its students against their own floor and ceiling."""

from __future__ import annotations

from experiments.results.schema.words import (
    Attacker,
    Budget,
    Defense,
    FidelityName,
    High,
    Interval,
    Low,
    OpenHigh,
    OpenLow,
    Role,
    Task,
    TransferKind,
)
from experiments.results.table import Count, Number, Real, Table


class Components(Table):
    """Variance components of U - D (seed x item layout), in squared shares but for the SD."""

    seed_sd: Real
    """Standard deviation of a student's accuracy between seeds."""
    item_variance: Real
    """Between questions."""
    residual_variance: Real
    """What is left, seed x item."""
    smallest_change: Number
    """The difference U - D that this design sees with probability 0.8; null is none."""


class MissingBounds(Table):
    """T as finished, and if every missing student had scored as F or as U."""

    available: Number
    """T of the finished students."""
    as_floor: Number
    """T if the missing ones had scored F."""
    as_undefended: Number
    """T if the missing ones had scored U."""


class PassAt(Table):
    """How often at least one of k sampled answers is right."""

    k: Count
    """Sampled answers that are looked at."""
    value: Real
    """pass@k, mean over students and questions."""
    lo: Low
    hi: High


class RowArm(Table):
    """Which arm a row is of, and how much its students learned from."""

    task: Task
    defense: Defense
    attacker: Attacker
    student: str
    """Name of the student's settings."""
    budget: Budget
    role: Role
    """`floor` learns nothing from the teacher, `control` is undefended once more."""
    seeds: int
    """Finished students."""
    planned: int
    """Planned students."""
    items: int
    """Questions of the exam."""
    steps: Real
    """Optimiser steps, mean over students."""
    student_tokens: Real
    """Tokens with loss, mean over students."""


class RowAccuracy(Table):
    """Accuracies of an arm's students, and their differences."""

    floor: Real
    """F."""
    floor_arm: str
    """The teacher-free student that is the floor, chosen on the selection split."""
    undefended: Real
    """U: the same attacker's undefended students; of a floor, the task's first attacker's."""
    defended: Real
    """D: accuracy of this arm's students, whatever its role."""
    defended_lo: Low
    defended_hi: High
    uplift: Number
    """D - F."""
    uplift_lo: OpenLow
    uplift_hi: OpenHigh
    harm: Number
    """U - D."""
    harm_lo: OpenLow
    harm_hi: OpenHigh
    over_first: Number
    """What the attack gains over the study's first one against the same defence."""
    over_first_lo: OpenLow
    over_first_hi: OpenHigh
    pass_at: list[PassAt] = []
    """Of the students' sampled answers, by k; empty where none were sampled."""


class RowTransfer(Table):
    """What is transferred, and the teacher's own accuracy."""

    floor_wins: bool
    """T is below 0, so an attacker does better to abstain."""
    twice: Number
    """Change of accuracy at twice the training steps, of one student; null where none was."""
    transfer: Number
    """T; null where U - F is not measurably above 0."""
    transfer_lo: OpenLow
    transfer_hi: OpenHigh
    transfer_kind: TransferKind
    """Whether T is identified, or why not."""
    t_den: Number
    """U - F in standard errors."""
    effective: Number
    """max(T, 0)."""
    gap_recovered: Number
    """(D - F) / (Te - F) with the clean teacher's accuracy Te."""
    gap_recovered_lo: OpenLow
    gap_recovered_hi: OpenHigh
    teacher_clean: Real
    """The clean teacher's accuracy, Te."""
    teacher_defended: Real
    """The same behind the defence."""


class RowVerdict(Table):
    """What is said of the arm's defence."""

    verdict: str | None
    """Of the defence, at the largest budget; null of a floor and a control."""
    rule: str
    """What gave the verdict."""
    remarks: list[str]
    """What stands beside any verdict."""
    settle: str
    """What would settle an open verdict."""


class RowText(Table):
    """How the students write and copy, and what the design can see."""

    unparsed: Real
    """Share of answers without a final answer."""
    bits_per_byte: Number
    """Of the undefended teacher's text on the exam's prompts, as the student predicts it."""
    bits_saved: Number
    """Bits per byte below those of the floor that predicts the text best."""
    bits_saved_lo: OpenLow
    bits_saved_hi: OpenHigh
    fidelity: dict[FidelityName, Interval]
    """How the students copy, each minus the floor's; what cannot be had is left out."""
    components: Components | None
    """None below two seeds."""
    missing_bounds: MissingBounds | None
    """None where no student is missing or U is not above F."""
    old: bool
    """Whether results that other code made are among those of this study."""


# The fields of the last base come first.
class Row(RowText, RowVerdict, RowTransfer, RowAccuracy, RowArm):
    """A reported arm: its students against their own floor and ceiling."""

    @property
    def is_baseline(self) -> bool:
        """Whether it is there to compare with: no attack on a defence, nor one on none."""
        return self.role in ("floor", "control")
