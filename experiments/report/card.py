"""The result card: what a reviewer asks, on one page, as JSON and as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.measure import flags
from experiments.planning.arms import IDENTITY, is_floor
from experiments.report.terminal import bound, kept, measured, points, set_to, signed, times, two
from experiments.settings.schema import Study, batteries, parse_attack

TEMPLATE = Path(__file__).with_name("card.md")


def card(
    study: Study,
    held: dict[str, Any],
    manifest: dict[str, Any],
    seal: dict[str, Any],
    deviations: list[str],
) -> dict[str, Any]:
    """The fields of the card; numbers are those of measures.json."""
    attackers = sorted({row["attacker"] for row in held["rows"] if not is_floor(row["attacker"])})
    seconds = sum(stage["seconds"] for stage in manifest["stages"])
    return {
        "identity": {
            "study": study.name,
            "config_sha256": manifest["config_sha256"],
            "fingerprint": manifest["fingerprint"],
            "code": manifest["code"],
            "versions": manifest["versions"],
            "machine": manifest["machine"],
            "stage_seconds": seconds,
            "teacher": study.teacher.name,
            "student": study.student.name,
            "old": manifest.get("old", []),
        },
        "claim": {
            "question": study.question,
            "defenses": [c["defense"] for c in held["cases"] if c["defense"] != IDENTITY],
            "attacker_sees": {name: parse_attack(name).needs_interface for name in attackers},
            "batteries": batteries(attackers),
            "attacks": (
                f"worst of {len(attackers)} listed attacks, {max(study.search.trials, 1)} "
                "trial(s) each"
            ),
            "capabilities": sorted({row["task"] for row in held["rows"]}),
            "budgets": sorted({row["budget"] for row in held["rows"]}),
            "limits": "budgets, tasks and students of this study; nothing is said of larger ones",
        },
        "preregistration": seal | {"deviations": deviations},
        "arms": [
            {
                name: row[name]
                for name in (
                    "task",
                    "defense",
                    "attacker",
                    "budget",
                    "seeds",
                    "planned",
                    "items",
                    "defended",
                    "defended_lo",
                    "defended_hi",
                    "unparsed",
                    "components",
                )
            }
            for row in held["rows"]
        ],
        "budget": held["ledger"],
        "results": held["cases"],
        "utility": held["teachers"],
        "frontier": held["frontier"],
        "curves": held["curves"],
        "fidelity": [
            {
                "task": r["task"],
                "defense": r["defense"],
                "attacker": r["attacker"],
                "budget": r["budget"],
                **r["fidelity"],
            }
            for r in held["rows"]
            if not is_floor(r["attacker"])
        ],
        "missing": [
            {
                "task": r["task"],
                "defense": r["defense"],
                "attacker": r["attacker"],
                "planned": r["planned"],
                "finished": r["seeds"],
                "bounds": r["missing_bounds"],
            }
            for r in held["rows"]
            if r["seeds"] < r["planned"]
        ],
        "flags": held["flags"],
        "prices": study.measure.prices.model_dump(),
    }


def markdown(fields: dict[str, Any]) -> str:
    """The card for readers."""
    from jinja2 import Environment

    page = Environment().from_string(TEMPLATE.read_text(encoding="utf-8"))
    curved = [row for row in fields["curves"] if {"multipliers", "no_multiplier"} & {*row}]
    return (
        page.render(
            c=fields,
            pct=points,
            pts=signed,
            two=two,
            times=times,
            set_to=set_to,
            bound=bound,
            t=measured,
            kept=kept,
            kinds=flags.KINDS,
            curved=curved,
        )
        + "\n"
    )
