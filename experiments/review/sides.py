"""Two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict, TypeAdapter

from experiments import preregistration
from experiments.results import read
from experiments.results.table import Table


class Shown(Table):
    """What of a row of results.json is shown; the rest is not read, so that versions may differ."""

    model_config = ConfigDict(extra="ignore")

    task: str
    attacker: str
    defense: str
    budget: int
    defended: float | None
    transfer: float | None
    transfer_lo: float | None
    transfer_hi: float | None
    verdict: str | None
    floor_wins: bool = False
    transfer_kind: str | None = None

    @property
    def name(self) -> str:
        return f"{self.task} {self.attacker} {self.defense} {self.budget}"


class Pair(NamedTuple):
    """An arm of two runs; None where a run has none of it."""

    name: str
    first: Shown | None
    second: Shown | None


class Difference(NamedTuple):
    """Two runs side by side: settings that differ, and results by arm."""

    settings: list[tuple[str, Any, Any]]
    results: list[Pair]


def difference(a: Path, b: Path) -> Difference:
    """Settings and results of two runs.

    Args:
        a: folder of the one run.
        b: folder of the other.

    Raises:
        BadInput: if a file is not of its form.
    """
    mapping, rows = TypeAdapter(dict[str, Any]), TypeAdapter(list[Shown])
    before, after = (read.shaped(home, "config.json", mapping) for home in (a, b))
    first, second = (
        {row.name: row for row in read.shaped(home, "results.json", rows)} for home in (a, b)
    )
    names = dict.fromkeys([*first, *second])
    pairs = [Pair(name, first.get(name), second.get(name)) for name in names]
    return Difference(preregistration.changed(before, after), pairs)
