"""card.json: what a reviewer asks, on one page."""

from __future__ import annotations

from experiments.results.manifest import Code, Machine
from experiments.results.schema.curves import CurveResult
from experiments.results.schema.defenses import CaseResult, FrontierResult, TeacherResult
from experiments.results.schema.measures import LedgerRow, RaisedFlag
from experiments.results.schema.rows import Components, MissingBounds, PassAt
from experiments.results.schema.words import Attacker, Budget, Defense, High, Interval, Low, Task
from experiments.results.table import Number, Real, Table


class CardIdentity(Table):
    """What the results are of, and what made them."""

    study: str
    """Its name."""
    config_sha256: str
    """Of its settings."""
    fingerprint: str
    """Over the digests of all results."""
    code: Code
    versions: dict[str, str]
    """Of the libraries that results may depend on."""
    machine: Machine
    stage_seconds: float
    """Wall time of all stages together."""
    teacher: str
    """Name of its settings."""
    student: str
    """Name of its settings."""
    old: list[str]
    """What of the results other code made, in lines."""


class CardClaim(Table):
    """What is claimed, against what, and how far."""

    question: str
    """What the study asks."""
    defenses: list[str]
    """That were judged."""
    attacker_sees: dict[str, str]
    """By attack, what of the teacher's output it sees."""
    batteries: list[str]
    """Whose attacks are all listed."""
    attacks: str
    """How many, and how hard each was tuned."""
    capabilities: list[str]
    """Tasks."""
    budgets: list[int]
    """Questions."""
    limits: str
    """What nothing is said of."""
    components: dict[str, str] = {}
    """What each part of a defence or an attack is: a paper's method, a port of one, or a rule."""


class CardPreregistration(Table):
    """The frozen analysis, and what was done otherwise."""

    sha256: str
    """Of the frozen analysis."""
    scored_before: int
    """Report exams that had been scored when it was frozen."""
    of: int
    """Report exams that were planned."""
    deviations: list[str]
    """One line a setting."""


class CardArm(Table):
    """A reported arm; the fields are those of its row."""

    task: Task
    defense: Defense
    attacker: Attacker
    budget: Budget
    seeds: int
    """Finished students."""
    planned: int
    """Planned students."""
    items: int
    """Questions of the exam."""
    defended: Real
    """Accuracy of its students."""
    defended_lo: Low
    defended_hi: High
    unparsed: Real
    """Share of answers without a final answer."""
    components: Components | None
    pass_at: list[PassAt] = []
    """Of the students' sampled answers, by k; empty where none were sampled."""


class TimedLedgerRow(LedgerRow):
    """With what an arm's own answers, students and exams took, means over its seeds."""

    wall_seconds: float
    """Of the clock."""
    cpu_seconds: float
    """Of processors."""


class TimedTeacherResult(TeacherResult):
    """With what an answer took on this machine, in batches."""

    answer_ms: Number
    """Milliseconds an answer."""
    answer_ratio: Number
    """Of the clean teacher's."""


class CardFidelity(Table):
    """How an attack's students copy, each minus the floor's; what cannot be had is unset."""

    task: Task
    defense: Defense
    attacker: Attacker
    budget: Budget
    agreement: Interval | None = None
    bits_per_byte: Interval | None = None
    brier: Interval | None = None
    nll: Interval | None = None
    error_consistency: Interval | None = None
    same_wrong: Interval | None = None
    confidence_rank: Interval | None = None


class CardMissing(Table):
    """An arm with fewer students than were planned."""

    task: Task
    defense: Defense
    attacker: Attacker
    planned: int
    """Students."""
    finished: int
    """Students."""
    bounds: MissingBounds | None


class Card(Table):
    """card.json: what a reviewer asks, on one page."""

    identity: CardIdentity
    claim: CardClaim
    preregistration: CardPreregistration
    arms: list[CardArm]
    budget: list[TimedLedgerRow]
    """Of the arms, in their order."""
    results: list[CaseResult]
    utility: list[TimedTeacherResult]
    frontier: list[FrontierResult]
    curves: list[CurveResult]
    fidelity: list[CardFidelity]
    missing: list[CardMissing]
    flags: list[RaisedFlag]
    prices: dict[str, list[float]]
    """Stated ranges, which were assumed and not measured; dollars."""
