"""outcomes.json: what each simulated run of a campaign did."""

from __future__ import annotations

from typing import Literal

from pydantic import TypeAdapter

from experiments.results.schema.words import Access, Attacker, Defense, Preset, Task
from experiments.results.table import Real, Table


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
