"""Simulated campaigns: what leaked, what detectors found, and what honest accounts met."""

from __future__ import annotations

from experiments.results.schema.words import (
    Access,
    Attacker,
    Defense,
    High,
    Interval,
    Low,
    Preset,
    Task,
    Value,
)
from experiments.results.table import Number, Real, Table


class RateResult(Table):
    """A share of accounts, with its interval over runs."""

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
    measurable: bool
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
    """Worse off in any way: closed, asked for identity, slowed or answered less."""
    downgraded: RateResult | None = None
    """Answered less, in some exchanges or in all."""
    reduced: Real = 0.0
    """Share of exchanges that were answered less."""
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
