"""What is said of a defence: against all its attacks, of the teacher behind it, at its price."""

from __future__ import annotations

from experiments.results.schema.arms import MatchedStrength
from experiments.results.schema.words import (
    Budget,
    Defense,
    High,
    Low,
    OpenHigh,
    OpenLow,
    Task,
    TransferKind,
    Value,
)
from experiments.results.table import Number, Real, Table


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
    """Te_d, mean over its exams."""
    seeds: int
    """Exams, each sampled anew."""
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
    changed: Real
    """Share of answers that differ from the clean teacher's: a defence that acts on finished text
    was released undefended in the others."""
    noticed_after: Number
    """Questions with known answers after which an attacker has noticed the loss with a probability
    of 90 %, at 5 % false alarms however long it asks; null where no loss is measured, or beyond
    10,000."""
    noticed_after_lo: Number
    """The same at the largest loss of the interval."""
    noticed_after_hi: Number
    """The same at its smallest."""
    detectability: Number
    """AUC of a classifier of clean against defended answers; null where no answer differs."""
    detectability_lo: OpenLow
    detectability_hi: OpenHigh


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
