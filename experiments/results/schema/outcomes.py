"""outcomes.json: what each simulated run of a campaign did."""

from __future__ import annotations

from typing import Literal

from pydantic import TypeAdapter

from experiments.results.schema.words import Access, Attacker, Defense, Preset, Task
from experiments.results.table import Count, Real, Table


class LeakedStudent(Table):
    """A student of exactly what a run leaked: right answers as 1, others as 0, item by item."""

    task: Task
    defense: Defense
    attacker: Attacker
    right: str
    """`1` for each right answer, `0` for each other one."""


class CampaignAccounts(Table):
    """What became of a campaign's accounts."""

    closed_D: list[Count]
    """By day."""
    done: dict[str, Count]
    """By measure of the policy."""
    opened: Count
    """Accounts."""
    opened_D: list[Count]
    """By day."""
    turned_away: Count
    """Accounts that were not opened."""
    verified: Count
    """Accounts that passed an identity check."""


class HonestAccounts(Table):
    """What honest accounts met, by segment."""

    accounts: list[Count]
    """In all."""
    closed: list[Count]
    """Accounts."""
    done: dict[str, list[Count]]
    """Accounts by measure of the policy."""
    limited: list[Count]
    """Accounts that a limit refused an exchange."""
    refused: list[Count]
    """Exchanges."""
    sent: list[Count]
    """Exchanges."""
    touched: list[Count]
    """Accounts that were worse off in any way."""
    reduced: list[Count] = []
    """Exchanges that were answered less."""
    downgraded: list[Count] = []
    """Accounts that were answered less, in some exchanges or in all."""


class Detected(Table):
    """What a detector found of a run at one rate."""

    customers: list[Count]
    """Honest ones, by segment."""
    days: dict[str, Count | None]
    """By share of the accounts, the day by which they were found; null is never."""
    false: list[Count]
    """Honest customers flagged, by segment."""
    found: Count
    """Accounts of the campaign."""
    leaked_C: list[Count]
    """Exchanges that had leaked by then, by capability."""
    of: Count
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
    seed: Count
    """Of the simulation."""
    split: Literal["report", "select"]
    """Whether it is reported, or only chooses the worst campaign."""
    students: list[LeakedStudent]
    bought: list[Count]
    """Exchanges, tokens sent, tokens received."""
    campaign: CampaignAccounts
    capabilities: list[str]
    """Names, in the order of the columns."""
    detectors: dict[str, list[Detected]] = {}
    """By name, a list by rate; under the open access alone."""
    events: Count
    """Simulated."""
    honest: HonestAccounts
    leaked_DC: list[list[Count]]
    """Exchanges by day and capability."""
    planned: Real
    """Exchanges that it wants."""
    reduced_DC: list[list[Count]]
    """Of those, answered by reduced accounts."""
    segments: list[str]
    """Names, in the order of the counts."""
    roc: dict[str, Roc] = {}
    """By detector; of reported runs under the open access."""
    fused: list[list[Count]] = []
    """By rate: accounts found, of all; honest customers flagged, of all."""


OUTCOMES: TypeAdapter[list[CampaignOutcome]] = TypeAdapter(list[CampaignOutcome])
