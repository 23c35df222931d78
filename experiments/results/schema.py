"""The tables that a run leaves, as typed, versioned models.

`measures.json` is a `Measures`, `results.json` its rows, `card.json` a `Card`, `arms.json` a list
of `ArmRecord` and `outcomes.json` a list of `CampaignOutcome`. Shares and accuracies are fractions
from 0 to 1, never percent; a number that does not exist or is unbounded is null. What a model has
left unset is not written, so that a file that is read and written again is the same.

Symbols: F is the accuracy of the best teacher-free student (the floor), U that of a student of the
undefended teacher (the ceiling), D that of a student of the defended one, and T = (D - F) / (U -
F) the transfer.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from experiments.results.manifest import Code, Machine
from experiments.results.table import Count, Number, Real, Setting, Table

SCHEMA_VERSION: Literal[1] = 1
"""Of the tables of this file; raised whenever a field changes its name, place or meaning."""


Role = Literal["floor", "undefended", "control", "defended"]
TransferKind = Literal[
    "ok", "weak denominator", "not identified", "harmful", "identical outputs", "itself"
]
FAMILIES = (
    "decoding",
    "release, text",
    "release, logprobs",
    "trained",
    "several",
    "controls",
)
"""Where a defence acts, in the order in which plots list them."""
FidelityName = Literal[
    "agreement",
    "error_consistency",
    "same_wrong",
    "bits_per_byte",
    "brier",
    "nll",
    "confidence_rank",
]

Task = Annotated[str, Field(description="Name of the task.")]
Defense = Annotated[str, Field(description="The defence as the study writes it; `none` for none.")]
Attacker = Annotated[str, Field(description="The attack as the study writes it, or a floor.")]
Budget = Annotated[int, Field(ge=0, description="Questions that the attacker may ask.")]
Preset = Annotated[str, Field(description="The campaign as the study writes it.")]
Access = Annotated[str, Field(description="The access policy that it meets; `open` for none.")]
Value = Annotated[Number, Field(description="The estimate; null where there is none.")]
Low = Annotated[Real, Field(description="Lower end of its interval.")]
High = Annotated[Real, Field(description="Upper end of its interval.")]
OpenLow = Annotated[Number, Field(description="Lower end of its interval; null is unbounded.")]
OpenHigh = Annotated[Number, Field(description="Upper end of its interval; null is unbounded.")]


# arms.json


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


# measures.json


class Interval(Table):
    """An estimate with its interval at the study's level."""

    value: Value
    lo: OpenLow
    hi: OpenHigh


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


class PlateauChange(Table):
    """What twice the steps change for one student, with the paired interval over items."""

    change: Real
    """Accuracy, a share."""
    lo: Low
    hi: High
    moved: bool
    """Measurably up, and by more than one standard error of its arm's mean."""


class Plateau(Table):
    """Students of a case that were trained for twice the steps; unset of a control."""

    U: PlateauChange | None = None
    """Of the ceiling's students."""
    D: PlateauChange | None = None
    """Of the worst attack's students."""

    def items(self) -> list[tuple[str, PlateauChange]]:
        """Those that were, by the symbol of their arm."""
        both = (("U", self.U), ("D", self.D))
        return [(name, change) for name, change in both if change]


class Utility(Table):
    """What a defence does to the teacher's own exam: a non-inferiority test at a margin."""

    change: Real
    """Te_d - Te."""
    lo: Low
    hi: High
    relative: Number
    """Share of Te that is lost."""
    margin: Real
    """The study's, a share."""
    passes: bool
    """Whether the lower bound lies above -margin."""
    passes_at: list[Real]
    """Margins at which it does."""


class Sensitivity(Table):
    """T under other choices; null where it does not exist."""

    by_floor: dict[str, Number]
    """With each teacher-free student as floor."""
    drop_one_seed: list[Real] | None
    """The least and the largest, with one student less."""
    drop_chosen_attack: Number
    """The best of the other attacks."""
    parsed_only: Number
    """Of answers that could be read."""
    compute_matched: Number
    """Against what U gets for the same training compute."""
    cost_matched: Number
    """Against what U gets for the same money."""


class CaseResult(Table):
    """A defence on a task at a budget, against all listed attacks."""

    task: Task
    budget: Budget
    defense: Defense
    family: str
    """Where the defence acts, a key of `FAMILIES`."""
    attack: str
    """The worst one, chosen on the selection split."""
    attacks: list[str]
    """In the order of the study."""
    transfers: dict[str, Number]
    """T of each attack, all with the case's one U, so that they compare; null where U <= F."""
    ceiling: str
    """The attack whose undefended students are U, chosen on the selection split."""
    floor: str
    """The teacher-free student that is F."""
    tie: bool
    """Whether selection could not tell the best two attacks apart."""
    transfer: Number
    """T of the worst attack."""
    effective: Number
    """max(T, 0)."""
    kind: TransferKind
    """Whether T is identified, or why not."""
    lcb: Number
    """Lower bound of T, the least over all ceilings."""
    hi: OpenHigh
    """Upper bound of T of the worst attack."""
    ucb: Number
    """The largest upper bound of all attacks."""
    plateau: Plateau
    utility: Utility
    word: str
    """The verdict; empty where none is given."""
    rule: str
    """What gave the verdict."""
    remarks: list[str]
    """What stands beside any verdict."""
    p: Number
    """Adjusted p-value of D - F >= theta (U - F) for some attack."""
    p_ineffective: Number
    """Adjusted p-value of D - F <= ineffective (U - F) with some ceiling."""
    unseen: Number
    """T if as many seeds reach U as all seeds seen could miss."""
    settle: str
    """What would settle an open verdict."""
    verdict: str
    """The same as `word`."""
    sensitivity: Sensitivity

    @property
    def is_control(self) -> bool:
        """Whether it is no defence, but the undefended teacher once more."""
        return self.family == "controls"


class TeacherResult(Table):
    """What a defence does to the teacher's own exam, its text and its work."""

    task: Task
    defense: Defense
    accuracy: Real
    """Te_d, mean over sittings."""
    seeds: int
    """Sittings."""
    matched: MatchedStrength | None
    numbers: dict[str, int | float]
    """What the defence learned, by name."""
    change: Real
    """Te_d - Te."""
    lo: Low
    hi: High
    relative: Number
    """Share of Te that is lost."""
    margin: Real
    """Of the study, a share."""
    passes: Number
    """Forward passes a generated token, mean."""
    passes_at: list[Real]
    """Margins at which the loss is surely smaller."""
    unparsed: Real
    """Share of answers without a final answer."""
    l1: Number
    """Distance by which edits moved the sampled distribution, mean over generated tokens."""
    kl: Number
    """The same in nats; null where a clean answer became impossible."""
    flips: Number
    """Share of generated tokens that edits changed."""
    token_ratio: Number
    """Tokens an answer, of the clean teacher's."""
    byte_ratio: Number
    """Bytes an answer, of the clean teacher's."""
    unfinished: Real
    """Share of answers that ran into max_new_tokens."""
    longest_repeat: Real
    """Characters, mean over answers."""
    distinct_4: Real
    """Share of distinct 4-grams of characters, mean over answers."""
    perplexity: Number
    """A byte, of the defended answers to the clean teacher."""
    perplexity_clean: Number
    """A byte, of the clean answers to the clean teacher."""
    detectability: Number
    """AUC of a classifier of clean against defended answers; null where no answer differs."""
    detectability_lo: OpenLow
    detectability_hi: OpenHigh


class MultiplierResult(Table):
    """How many times more exchanges a level of the capability takes under the defence."""

    level: Real
    """Share of U(n_max) - F."""
    sign: Literal["=", ">", "<", "?"]
    """`=` a value, `>` or `<` a bound, `?` not measurable."""
    value: Value
    lo: OpenLow
    hi: OpenHigh
    unbounded: Real
    """Share of the draws without an upper end."""
    text: str
    """As it is shown."""


class CommonShape(Table):
    """M if the defence shifts one common curve, and the test of that assumption."""

    value: Value
    p_shift: Number
    """p-value of the assumption."""
    shown: bool
    """Whether it fits and agrees with M."""


class AreaBetween(Table):
    """Mean over log-spaced budgets of U(n) - D(n)."""

    value: Value
    se: Number
    """Standard error."""
    df: Number
    """Degrees of freedom."""
    lo: OpenLow
    hi: OpenHigh


class BillResult(Table):
    """Median and 90 % interval; null is unbounded."""

    median: Number
    """Null is unbounded."""
    lo: OpenLow
    hi: OpenHigh


class HalfBill(Table):
    """What half of the capability costs one attacker, from stated ranges."""

    accounts: BillResult
    dollars: BillResult
    lower_bound: bool
    """Whether its curve never got there."""


class CurveBill(Table):
    """The same of the undefended and of the defended attacker."""

    undefended: HalfBill
    defended: HalfBill

    def items(self) -> list[tuple[str, HalfBill]]:
        return [("undefended", self.undefended), ("defended", self.defended)]


class CurveResult(Table):
    """Accuracy against exchanges; M and what follows are set of a defence with enough budgets."""

    task: Task
    attacker: Attacker
    defense: Defense
    budgets: list[int]
    """Questions, rising."""
    zero: Real
    """The untrained student's accuracy, n = 0."""
    values: list[Real]
    """Accuracy by budget, a share."""
    lo: list[Real]
    """Lower ends of their intervals."""
    hi: list[Real]
    """Upper ends."""
    own_data: list[Real]
    """Accuracy of a student of the attacker's own data, by budget."""
    falls: bool
    """Whether the curve falls somewhere."""
    no_multiplier: str = ""
    """Why there is no M, where budgets are enough and lie too far apart."""
    multipliers: list[MultiplierResult] = []
    common_shape: CommonShape | None = None
    area_between: AreaBetween | None = None
    bill: CurveBill | None = None
    below_minimum: bool = False
    """Whether budgets, seeds or items are fewer than a claim takes."""

    @property
    def is_compared(self) -> bool:
        """Whether it is read for M, or said why not."""
        return bool(self.no_multiplier or self.multipliers)


class BestDefense(Table):
    """The defence with the smallest worst-case transfer at a margin."""

    defense: Defense
    transfer: Number
    """T of its worst attack, at least 0."""


class VolumeResult(Table):
    """The share of [0, 5 points] x [0, 1] that the defences dominate, with its interval."""

    value: Value
    lo: OpenLow
    hi: OpenHigh
    chosen: list[int]
    """Places of the defences that no other one beat on the selection split."""
    defenses: list[str]
    """All that were placed."""


class FrontierResult(Table):
    """Transfer against the honest user's loss at a task's largest budget."""

    task: Task
    budget: Budget
    best_at_points: dict[str, BestDefense | None]
    """By margin in points."""
    dominated_by: dict[str, str]
    """By defence, the trivial one that costs no more and stops more."""
    not_chosen: str
    """Why nothing could be chosen; empty where it could."""
    volume: VolumeResult | None


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
    """Its kind, a key of `measure.flags.KINDS`."""
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


# Campaigns


ALL = "all"
"""All campaigns together, or all segments."""
FUSION = "fusion"
"""All detectors as one."""


class RateResult(Table):
    """A share of accounts, with Student's interval over runs."""

    value: Value
    lo: Low
    hi: High
    n: int
    """Accounts of all runs."""
    hits: Real
    """Accounts that were hit, of all runs."""
    runs: int
    """Simulated horizons."""


class LeakResult(Table):
    """A campaign against an access and an output defence: what leaked, taught and cost."""

    task: Task
    defense: Defense
    attacker: Attacker
    preset: Preset
    access: Access
    runs: int
    """Simulated horizons."""
    planned: Real
    """Questions that the campaign's planned exchanges carry."""
    questions: Real
    """Questions that leaked, reduced answers at their stated worth, mean over runs."""
    full: Real
    """Questions answered in full, mean over runs."""
    reduced: Real
    """Questions answered by reduced accounts, mean over runs."""
    leaked: Real
    """Share of the planned."""
    leaked_runs: list[Real]
    """The same of each run."""
    trained: Interval | None
    """Share above F of the students of exactly what leaked; null unless every run has one."""
    gain: Real
    """Accuracy above the floor, read through the query curve."""
    gain_lo: Low
    gain_hi: High
    beyond: Real
    """Share of runs that leaked more than the last budget, whose gain is a lower bound."""
    lawful: bool
    """Whether closing it is an error."""
    dollars: list[Number]
    """Median and 90 % interval of a run."""
    per_point: list[Number]
    """The same for a percentage point of capability."""
    times: list[Number] | None
    """How many times more a point costs than open and undefended; None where not measurable."""


class WorstCampaign(Table):
    """The campaign that gains most against a pair of defences, chosen on other runs."""

    task: Task
    access: Access
    defense: Defense
    preset: Preset
    trained: Interval | None
    """Accuracy above the floor of students of exactly what leaked."""
    gain: Real
    """Accuracy above the floor, read through the query curve."""
    gain_lo: Low
    gain_hi: High
    beyond: Real
    """Share of runs whose gain is a lower bound."""


class DetectorResult(Table):
    """A detector of a campaign at a nominal rate of false alarms."""

    preset: Preset
    lawful: bool
    """Whether to find it is a false alarm."""
    detector: str
    """Its name."""
    rate: Real
    """Share of honest customers over the horizon."""
    found: RateResult
    """Of the campaign's accounts."""
    false: RateResult
    """Of honest customers."""
    segments: dict[str, RateResult]
    """False alarms by segment."""
    leaked: Number
    """Share of what leaks that had leaked by then."""
    days: dict[str, int | None]
    """By share of the campaign's accounts, the day by which they were found; null is never."""
    told: bool
    """Whether honest customers are enough to see the rate at all."""


class RocResult(Table):
    """Means over runs of a detector's curve."""

    preset: Preset
    detector: str
    """Its name."""
    fpr: list[Real]
    """Shares of honest customers flagged."""
    tpr: list[Real]
    """Shares of the campaign's accounts found."""


class DaysResult(Table):
    """What leaked by day and how many accounts a campaign opened and lost, means over runs."""

    preset: Preset
    access: Access
    leaked: list[Real]
    """Share of the planned, so far."""
    lo: list[Real]
    """Of the run that leaked least."""
    hi: list[Real]
    """Of the run that leaked most."""
    opened: list[Real]
    """Accounts by day."""
    closed: list[Real]
    """Accounts by day."""


class HarmResult(Table):
    """What honest accounts of a segment met under an access."""

    preset: Preset
    access: Access
    segment: str
    """Of honest accounts, or all."""
    closed: RateResult
    """Share of the accounts."""
    limited: RateResult
    """Refused an exchange by a limit."""
    touched: RateResult
    """Anything that one would notice of a policy."""
    done: dict[str, RateResult]
    """By measure of the policy."""
    refused: Real
    """Share of exchanges."""


class CampaignMeasures(Table):
    """All that is reported of simulated campaigns."""

    leaks: list[LeakResult]
    worst: list[WorstCampaign]
    detectors: list[DetectorResult]
    roc: list[RocResult]
    days: list[DaysResult]
    harm: list[HarmResult]
    atlas: dict[str, str]
    """MITRE ATLAS: what a simulated campaign is an instance of."""
    rates: list[Real]
    """Nominal rates of false alarms, falling."""
    horizon: int
    """Days."""
    release: int | None
    """Day on which a new model comes out."""


class Measures(Table):
    """measures.json: every number of a report; a function of the study, its grades and its arms."""

    schema_version: Literal[1] = SCHEMA_VERSION
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
    old: list[str]
    """What of the results other code made, in lines."""


# card.json


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


# report.html


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


# outcomes.json


class LeakedStudent(Table):
    """A student of exactly what a run leaked: right answers as 1, others as 0, item by item."""

    task: Task
    defense: Defense
    attacker: Attacker
    right: str
    """`1` for each right answer, `0` for each other one."""


class CampaignAccounts(Table):
    """What became of a campaign's accounts."""

    closed_D: list[int]
    """By day."""
    done: dict[str, int]
    """By measure of the policy."""
    opened: int
    """Accounts."""
    opened_D: list[int]
    """By day."""
    turned_away: int
    """Accounts that were not opened."""
    verified: int
    """Accounts that passed an identity check."""


class HonestAccounts(Table):
    """What honest accounts met, by segment."""

    accounts: list[int]
    """In all."""
    closed: list[int]
    """Accounts."""
    done: dict[str, list[int]]
    """Accounts by measure of the policy."""
    limited: list[int]
    """Accounts that a limit refused an exchange."""
    refused: list[int]
    """Exchanges."""
    sent: list[int]
    """Exchanges."""
    touched: list[int]
    """Accounts that would notice anything."""


class Detected(Table):
    """What a detector found of a run at one rate."""

    customers: list[int]
    """Honest ones, by segment."""
    days: dict[str, int | None]
    """By share of the accounts, the day by which they were found; null is never."""
    false: list[int]
    """Honest customers flagged, by segment."""
    found: int
    """Accounts of the campaign."""
    leaked_C: list[int]
    """Exchanges that had leaked by then, by capability."""
    of: int
    """Accounts of the campaign."""


class Roc(Table):
    """Shares flagged at rising thresholds."""

    fpr: list[Real]
    """Of honest customers."""
    tpr: list[Real]
    """Of the campaign's accounts."""


class CampaignOutcome(Table):
    """outcomes.json: a finished run of a campaign against an access."""

    preset: Preset
    access: Access
    seed: int
    """Of the simulation."""
    split: Literal["report", "select"]
    """Whether it is reported, or only chooses the worst campaign."""
    students: list[LeakedStudent]
    bought: list[int]
    """Exchanges, tokens sent, tokens received."""
    campaign: CampaignAccounts
    capabilities: list[str]
    """Names, in the order of the columns."""
    detectors: dict[str, list[Detected]] = {}
    """By name, a list by rate; under the open access alone."""
    events: int
    """Simulated."""
    honest: HonestAccounts
    leaked_DC: list[list[int]]
    """Exchanges by day and capability."""
    planned: Real
    """Exchanges that it wants."""
    reduced_DC: list[list[int]]
    """Of those, answered by reduced accounts."""
    segments: list[str]
    """Names, in the order of the counts."""
    roc: dict[str, Roc] = {}
    """By detector; of reported runs under the open access."""
    fused: list[list[int]] = []
    """By rate: accounts found, of all; honest customers flagged, of all."""


OUTCOMES: TypeAdapter[list[CampaignOutcome]] = TypeAdapter(list[CampaignOutcome])
