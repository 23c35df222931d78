"""Two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict

from experiments import preregistration
from experiments.review import form


class Row(form.Form):
    """What of a row of results.json is shown; the rest is not read."""

    model_config = ConfigDict(extra="ignore", strict=True)

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


class Difference(NamedTuple):
    """Two runs side by side: settings that differ, and results by arm."""

    settings: list[tuple[str, Any, Any]]
    results: list[tuple[str, dict[str, Any] | None, dict[str, Any] | None]]


def difference(a: Path, b: Path) -> Difference:
    """Settings and results of two runs; arms that only one has are None in the other.

    BadInput if a file is not of its form.
    """
    settings = preregistration.changed(
        *(form.shaped(one, "config.json", dict[str, Any]) for one in (a, b))
    )
    rows = [form.shaped(one, "results.json", list[Row]) for one in (a, b)]
    named = [
        {f"{r['task']} {r['attacker']} {r['defense']} {r['budget']}": r for r in one}
        for one in rows
    ]
    names = dict.fromkeys([*named[0], *named[1]])
    return Difference(settings, [(name, named[0].get(name), named[1].get(name)) for name in names])
