"""The files of a run that follow from its settings, grades, arms and manifest: `report` writes
them, `verify` compares.

Nothing here opens the store, so that a stranger's run is computed again from what it holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from experiments.analysis import summary
from experiments.planning.arms import Arm
from experiments.planning.plan import Plan
from experiments.report import campaign_section, card, html
from experiments.results.collect import Grades
from experiments.settings.schema import Study, parse_defense

SOMETIMES = {"budgets.svg", "outcomes.json", "campaigns.svg"}  # where the study has such things


def as_json(value: Any) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode()


def tables(
    study: Study,
    graded: Grades,
    arms: list[dict[str, Any]],
    outcomes: list[dict[str, Any]],
    old: Sequence[str],
) -> dict[str, Any]:
    """What summary.json holds; `Refuse` where the grades allow no comparison."""
    held = summary.marked(summary.measure(study, graded, arms, outcomes), [*old])
    return dict(json.loads(as_json(held)))


def pages(plan: Plan, graded: Grades, held: dict[str, Any]) -> dict[str, bytes]:
    """What is read and drawn: the report and its plots, from the measures."""
    study, told = plan.study, held["campaigns"]
    campaigns = (
        campaign_section.section(study.campaigns, told, len(study.seeds))
        if study.campaigns and told
        else ""
    )
    drawn = html.plots(held)
    files = {
        "report.html": html.render(study, held, drawn, samples(graded), plan.notes, campaigns)
    } | drawn
    if campaigns:
        files["campaigns.svg"] = html.svg(campaign_section.frontier(told))
    return {name: text.encode() for name, text in files.items()}


def samples(graded: Grades) -> list[dict[str, str]]:
    """One question's clean and defended answer for each defence that changes text: the first on
    which they differ.
    """
    held = []
    for key, sat in graded.items():
        if key.attacker or key.split != "report" or key.defense == "none":
            continue
        if parse_defense(key.defense).chain.point == "logprobs":
            continue
        clean, guarded = graded[key._replace(defense="none")].exams[0], sat.exams[0]
        at = next(
            (
                i
                for i, both in enumerate(zip(clean.texts, guarded.texts, strict=True))
                if len({*both}) > 1
            ),
            0,
        )
        held.append(
            {
                "task": key.task,
                "defense": key.defense,
                "prompt": clean.prompts[at],
                "clean": clean.texts[at],
                "defended": guarded.texts[at],
            }
        )
    return held


def carded(
    plan: Plan,
    held: dict[str, Any],
    manifest: dict[str, Any],
    seal: dict[str, Any],
    deviations: list[str],
) -> dict[str, Any]:
    """The fields of the card; times are those that the manifest's stages took."""
    made = {stage["key"]: stage for stage in manifest["stages"]}
    fields = card.card(plan.study, held, manifest, seal, deviations)
    fields |= {
        "budget": _timed(plan, made, held["ledger"]),
        "utility": _answered(plan, made, held["teachers"]),
    }
    return dict(json.loads(as_json(fields)))


def _timed(plan: Plan, made: dict[str, Any], ledger: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ledger with the wall and CPU seconds of each arm's own answers, student and exam, means
    over its seeds.
    """
    spent: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for arm in plan.arms:
        if arm.split == "report" and arm.exam.key in made:
            spent.setdefault((arm.task, arm.defense, arm.attacker, arm.budget), []).append(
                took(arm, made)
            )
    held = []
    for row in ledger:
        times = spent[row["task"], row["defense"], row["attacker"], row["budget"]]
        wall, cpu = (sum(column) / len(times) for column in zip(*times, strict=True))
        held.append(row | {"wall_seconds": wall, "cpu_seconds": cpu})
    return held


def took(arm: Arm, made: dict[str, Any]) -> tuple[float, float]:
    """Wall and CPU seconds of an arm's own answers, student and exam."""
    done = [made[stage.key] for stage in (arm.answers, arm.student, arm.exam)]
    return sum(one["seconds"] for one in done), sum(one["cpu_seconds"] for one in done)


def _answered(
    plan: Plan, made: dict[str, Any], teachers: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What defences cost the honest user, with milliseconds an answer on this machine, in batches,
    and their ratio.
    """
    spent = {}
    for (task, defense, split), exams in plan.teachers.items():
        seconds = [made.get(stage.key, {}).get("answer_seconds", math.nan) for stage in exams]
        spent[task, defense, split] = 1000 * sum(seconds) / len(seconds) / plan.study.measure.items
    held = []
    for row in teachers:
        mine, clean = (
            spent[row["task"], defense, "report"] for defense in (row["defense"], "none")
        )
        held.append(
            row | {"answer_ms": summary.plain(mine), "answer_ratio": summary.plain(mine / clean)}
        )
    return held
