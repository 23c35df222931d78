"""A study as wandb sees it: a run a reported arm, and one that compares them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from distill.completions import digest, read_completions
from distill.trainer import LOG_EVERY
from experiments import environment
from experiments.planning.arms import IDENTITY, Arm, is_floor, learning
from experiments.planning.plan import Plan
from experiments.results import collect
from experiments.results.schema.marks import MarkResult
from experiments.results.schema.measures import Measures
from experiments.results.schema.rows import Row
from experiments.results.table import Table, jsonable
from experiments.settings.defenses import parse_defense
from experiments.stages.files import TrainingReport
from experiments.stages.grades import read_grades
from experiments.stages.stage import Stage, canonical
from experiments.store import Store
from experiments.tracking import Part, Run

SENT = ("results.json", "measures.json", "card.md", "report.html", "grades.parquet")


def runs(plan: Plan, store: Store, measures: Measures, home: Path) -> Iterator[Run]:
    """The study as wandb sees it: one run a reported arm, and one that compares, campaigns with
    it.

    Args:
        plan: of a study.
        store: of results.
        measures: every number of the study.
        home: the run's folder, whose files are sent.
    """
    rows = {(row.task, row.attacker, row.budget, row.defense): row for row in measures.rows}
    whole = plan.study.model_dump(mode="json")
    group = f"{plan.study.name}-{digest(plan.study.model_dump_json())[:8]}"
    for arm in plan.arms:
        if arm.split == "report" and store.has(arm.exam.kind, arm.exam.key):
            row = rows[arm.task, arm.attacker, arm.budget, arm.defense]
            yield _arm_run(plan, store, arm, row, whole, group, mark_columns(measures.marks, arm))
    tables = {"compare": _flat(measures.rows)}
    if measures.campaigns and measures.campaigns.leaks:
        tables["campaigns"] = _flat(measures.campaigns.leaks)
    if measures.marks:
        tables["marks"] = _flat(measures.marks)
    yield Run(
        id=f"compare-{digest(canonical([s.key for s in plan.stages]))[:12]}",
        name=f"compare/{plan.study.name}",
        group=group,
        job="compare",
        tags=("compare",),
        config=whole | COMPARED,
        curves={},
        summary=_verdicts(measures),
        tables=tables,
        files=tuple(home / name for name in SENT),
        page=home / "report.html",
    )


def comparison(
    *,
    task: str,
    defense: str,
    attacker: str,
    student: str,
    budget: int,
    strength: float,
    adaptive: bool,
) -> dict[str, Any]:
    """The `cmp.*` columns of an arm: `cmp.cell` is all but the seed, so that it alone groups the
    seeds of a cell.

    Args:
        task: by its entry.
        defense: by its entry.
        attacker: by its entry.
        student: by its name.
        budget: in exchanges.
        strength: of the defence, 0 for none.
        adaptive: whether the attacker reacts to it.
    """
    return {
        "cmp.cell": f"{task}|{defense}|{attacker}|{student}|{budget}",
        "cmp.cell_label": f"{defense} vs {attacker} on {task}",
        "cmp.task": task,
        "cmp.defense": defense,
        "cmp.defense_family": defense.partition("/")[0],
        "cmp.strength": float(strength),
        "cmp.attacker": attacker,
        "cmp.attacker_adaptive": adaptive,
        "cmp.student": student,
        "cmp.query_budget": budget,
    }


COMPARED = comparison(
    task="all",
    defense="all",
    attacker="all",
    student="all",
    budget=0,
    strength=0.0,
    adaptive=False,
)
"""The columns of the run that compares all others."""


def _verdicts(measures: Measures) -> dict[str, Any]:
    """Word, T and its interval of every case, under `verdict/<task>/<defence>`."""
    summary: dict[str, Any] = {}
    for row in measures.rows:
        if row.verdict:
            place = f"{row.task}/{row.defense}/{row.attacker}/{row.budget}"
            summary |= {
                f"verdict/{place}": row.verdict,
                f"transfer/{place}": row.transfer,
                f"transfer_lo/{place}": row.transfer_lo,
                f"transfer_hi/{place}": row.transfer_hi,
            }
    return summary


def _flat(rows: Sequence[Table]) -> tuple[list[str], list[list[JsonValue]]]:
    """The single values of rows, as a table."""
    plain = [jsonable(row) for row in rows]
    names = [name for name, value in plain[0].items() if not isinstance(value, dict | list)]
    return names, [[row[name] for name in names] for row in plain]


def _arm_run(
    plan: Plan,
    store: Store,
    arm: Arm,
    row: Row,
    whole: dict[str, JsonValue],
    group: str,
    marks: dict[str, JsonValue],
) -> Run:
    columns = _columns(plan, store, arm)
    meta = {
        "meta.schema_version": 1,
        "meta.runkey": arm.exam.key,
        "meta.code": jsonable(environment.code()),
    }
    training = TrainingReport.read(store.open(arm.student.kind, arm.student.key))
    losses = enumerate(training.losses, 1)
    return Run(
        id=f"distill-{digest(canonical([group, list(columns.values()), arm.seed]))[:12]}",
        name=f"{arm.defense}/{arm.attacker}/{arm.task}/s{arm.seed}",
        group=group,
        job="distill",
        tags=(TAGS[row.role],),
        config=whole | {"seed": arm.seed, "inputs": _inputs(store, arm)} | columns | meta,
        curves={"distill/loss": [(LOG_EVERY * i, one) for i, one in losses if one is not None]},
        summary=_summary(store, arm, row, training) | marks,
        tables={"samples": (SAMPLE_COLUMNS, _samples(plan, store, arm))},
        files=(store.folder(arm.exam.kind, arm.exam.key) / "grades.parquet",),
        lineage=_lineage(store, arm),
    )


def mark_columns(rows: Sequence[MarkResult], arm: Arm) -> dict[str, JsonValue]:
    """What tests for marks say of an arm's own students, under `mark/<mark>/<test>/`.

    Args:
        rows: of a study.
        arm: of the plan.
    """
    columns: dict[str, JsonValue] = {}
    for row in rows:
        who = (row.task, row.defense, row.attacker, row.budget)
        if who == (arm.task, arm.defense, arm.attacker, arm.budget) and not row.control:
            place = f"mark/{row.mark}/{row.test}"
            columns |= {f"{place}/log10_p": row.log10_p, f"{place}/share": row.share}
            columns |= {f"{place}/found_{s.level:g}": s.value for s in row.shares}
    return columns


def _lineage(store: Store, arm: Arm) -> tuple[Part, ...]:
    """What the student was made from, inputs first, and the student that this run made."""
    return tuple(
        Part(stage.kind, stage.key, _files(store, stage), made=stage.key == arm.student.key)
        for stage in {stage.key: stage for stage in arm.student.walk()}.values()
    )


def _files(store: Store, stage: Stage) -> dict[str, str]:
    """SHA-256 of each file of a result."""
    return store.done(stage.kind, stage.key).files


TAGS = {
    "floor": "control:floor",
    "undefended": "control:ceiling",
    "control": "defended",
    "defended": "defended",
}
"""Of a run, by the role of its arm."""
SAMPLE_COLUMNS = ["prompt", "teacher_clean", "teacher_defended", "student", "outcome"]
SAMPLES = 50


def _columns(plan: Plan, store: Store, arm: Arm) -> dict[str, Any]:
    """The columns by which runs of several studies are compared."""
    preparation = collect.prepared(arm, store)
    matched = preparation.matched if preparation else None
    return comparison(
        task=arm.task,
        defense=arm.defense,
        attacker=arm.attacker,
        student=plan.study.student.name,
        budget=arm.budget,
        strength=strength(arm.defense) if matched is None else matched.value or 0.0,
        adaptive=not is_floor(arm.attacker) and learning(arm.attacker).adaptive,
    )


def _inputs(store: Store, arm: Arm) -> dict[str, Any]:
    """What the student was made of: the key and the digests of each stage, by kind."""
    return {
        stage.kind: {"key": stage.key, "files": _files(store, stage)}
        for stage in arm.student.walk()
    }


def _samples(plan: Plan, store: Store, arm: Arm) -> list[list[Any]]:
    """Questions with the clean, the defended and the student's answer."""
    defense = "none" if arm.defense == IDENTITY else arm.defense
    exams = [plan.teachers[arm.task, name, "report"][0] for name in ("none", defense)]
    graded = [read_grades(store.open(s.kind, s.key))[:SAMPLES] for s in (arm.exam, *exams)]
    return [
        [student.prompt, clean.text, defended.text, student.text, student.outcome]
        for student, clean, defended in zip(*graded, strict=False)
    ]


def _summary(store: Store, arm: Arm, row: Row, training: TrainingReport) -> dict[str, Any]:
    """Results of one student, beside those of its arm."""
    graded = read_grades(store.open(arm.exam.kind, arm.exam.key))
    answers = read_completions(
        store.open(arm.completions.kind, arm.completions.key) / "completions.parquet"
    )
    stages = arm.own_stages
    right = sum(one.outcome == "right" for one in graded) / len(graded)
    gap = row.undefended - row.floor
    return {
        "result/student_acc": right,
        "result/uplift": right - row.floor,
        "result/transfer": (right - row.floor) / gap if gap > 0 else None,
        "result/valid": not training.diverged,
        "result/n_items": len(graded),
        **{f"cell/{name}": getattr(row, name) for name in CELL},
        "cell/utility_cost": row.teacher_clean - row.teacher_defended,
        "cost/queries": len(answers),
        "cost/tokens": training.tokens,
        "cost/wall_s": sum(store.done(stage.kind, stage.key).seconds for stage in stages),
    }


CELL = (
    "floor",
    "undefended",
    "defended",
    "defended_lo",
    "defended_hi",
    "transfer",
    "transfer_lo",
    "transfer_hi",
    "teacher_clean",
    "teacher_defended",
    "verdict",
    "rule",
)
"""Of a row, what every seed's run repeats of all of them."""


def strength(defense: str) -> float:
    """A defence's strength as a number: 0 for none, that of its first part that has one and sets it
    to a number, else 1 (on).

    Args:
        defense: by its entry.
    """
    if defense in ("none", IDENTITY):
        return 0.0
    parsed = parse_defense(defense)
    values = [
        getattr(component.settings, part.traits.strength.name)
        for component, part in zip(parsed.parts, parsed.chain.parts, strict=True)
        if part.traits.strength
    ]
    return next((float(value) for value in values if value is not None), 1.0)
