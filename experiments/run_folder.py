"""What a study leaves in its folder: settings, manifest, grades, results, the HTML report, and its
wandb runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from distill.completions import BadInput, digest, read_completions, write_bytes
from distill.trainer import LOG_EVERY
from experiments import preregistration, provenance
from experiments.analysis import campaign_outcomes, card, summary
from experiments.analysis.exhibits import exhibits
from experiments.measure.contrast import NotMeasurable
from experiments.planning.arms import IDENTITY, Arm, is_floor, learning
from experiments.planning.plan import Plan
from experiments.report import card as card_page
from experiments.report import html
from experiments.results import archive, collect, grades_file
from experiments.results.manifest import (
    MANIFEST_SCHEMA,
    Code,
    Machine,
    Maker,
    Manifest,
    StageRecord,
    UnknownMaker,
)
from experiments.results.names import ANALYSIS, SEAL
from experiments.results.schema.measures import Measures
from experiments.results.schema.rows import Row
from experiments.results.table import Table, as_json, jsonable
from experiments.seeds import seed_for
from experiments.settings.schema import Study, parse_defense
from experiments.stages.files import TrainingReport
from experiments.stages.grades import read_grades
from experiments.stages.stage import Stage, canonical
from experiments.store import Record, Store, fingerprint
from experiments.tracking import Part, Run, Tracking, comparison

SENT = ("results.json", "measures.json", "card.md", "report.html", "grades.parquet")
PROJECT = "distill-resist"
NOTED = {"files", "seconds", "cpu_seconds", "inputs", "answer_seconds", "alike", "copied"}
LIBRARIES = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "wandb",
    "numpy",
    "scipy",
    "scikit-learn",
    "tokenizers",
)


def write(plan: Plan, store: Store, home: Path, old: Sequence[str] = ()) -> Measures:
    """Write everything; all but manifest and card are functions of the results alone.

    Args:
        old: what of the results other code made, in lines; every table is marked with it.

    Raises:
        BadInput: where the grades allow no comparison, or the frozen analysis was changed.
    """
    preregistration.freeze(plan, store, home)
    data, records = collect.collect(plan, store), collect.arms(plan, store)
    outcomes, graded = campaign_outcomes.collect(plan, store), grades_file.read(data)
    try:
        measures = summary.measure(plan.study, graded, records, outcomes, old)
    except NotMeasurable as error:
        raise BadInput(f"report {plan.study.name}: {error}") from error
    made = manifest(plan, store, old)
    files = {
        "config.json": published(plan.study).model_dump_json(indent=2).encode(),
        "grades.parquet": data,
        "arms.json": as_json(records),
        **({"outcomes.json": as_json(outcomes)} if measures.campaigns else {}),
        "measures.json": as_json(measures),
        "results.json": as_json(measures.rows),
        **html.pages(measures, exhibits(graded, plan.notes, made.fingerprint)),
    }
    seal, deviations = preregistration.read_seal(home), preregistration.deviations(plan, home)
    fields = card.card(plan, measures, made, seal, deviations)
    files |= {"card.json": as_json(fields), "card.md": card_page.markdown(fields).encode()}
    frozen = {name: (home / name).read_bytes() for name in (ANALYSIS, SEAL)}
    digests = {name: digest(content) for name, content in (files | frozen).items()}
    files["manifest.json"] = as_json(made.model_copy(update={"files": digests}))
    for name, content in files.items():
        write_bytes(home / name, content)
    for name in {*archive.SOMETIMES} - files.keys():  # of another study that had this name
        (home / name).unlink(missing_ok=True)
    return measures


def published(study: Study) -> Study:
    """The study as others get it: where its author sends runs to is nobody else's matter."""
    return study.model_copy(update={"tracking": Tracking.model_validate({"mode": "off"})})


def manifest(plan: Plan, store: Store, old: Sequence[str] = ()) -> Manifest:
    """What made these results: versions, code, machine, seeds by role, and each stage's digests and
    seconds.

    `made_by` lists what code, libraries and threads made results, once each; a stage says which of
    them it is. The digests of the files are added where they are written.
    """
    stages = [stage for stage in plan.stages if store.has(stage.kind, stage.key)]
    by_stage = [provenance.maker(_done(store, stage)) for stage in stages]
    makers = list({canonical(maker): maker for maker in by_stage}.values())
    return Manifest(
        schema=MANIFEST_SCHEMA,
        study=plan.study.name,
        fingerprint=fingerprint(store, stages),
        config_sha256=digest(published(plan.study).model_dump_json()),
        versions=versions(),
        lock=locked(),
        machine=machine(max((maker.get("threads", 1) for maker in makers), default=1)),
        code=code(),
        plugins=provenance.plugins(stages),
        seeds=seeds(plan),
        made_by=[Maker(**maker) if maker else UnknownMaker() for maker in makers],
        stages=[
            _stage_record(store, stage, makers.index(maker))
            for stage, maker in zip(stages, by_stage, strict=True)
        ],
        missing=[stage.key for stage in plan.stages if not store.has(stage.kind, stage.key)],
        old=[*old],
        files={},
    )


def _stage_record(store: Store, stage: Stage, maker: int) -> StageRecord:
    unrecorded = {"inputs": dict.fromkeys((needed.key for needed in stage.inputs), "")}
    return StageRecord(
        kind=stage.kind,
        key=stage.key,
        settings=json.loads(json.dumps(stage.settings)),
        **(unrecorded | noted(_done(store, stage))),
        made_by=maker,
    )


def seeds(plan: Plan) -> dict[str, Any]:
    """The seeds of a study by role."""
    study = plan.study
    return {
        "teacher": 0,
        "exam items": 0,
        "answers and students": study.seeds,
        "floors and undefended": {arm.task: study.baseline(arm.task) for arm in plan.arms},
        "selection": study.selection_seeds,
        "control/identity": [seed_for("control", seed) for seed in study.seeds],
    }


def locked() -> list[str]:
    """What this project needs of what is installed, however deep, with versions; all else is its
    owner's own.
    """
    waiting = _needed(PROJECT, "") or [(name, "") for name in LIBRARIES]
    pins = dict[tuple[str, str], str]()
    while waiting:
        needed = waiting.pop()
        if needed not in pins:
            installed = distribution(needed[0])
            pins[needed] = f"{installed.metadata['Name']}=={installed.version}"
            waiting += _needed(*needed)
    return sorted({*pins.values()})


def _needed(name: str, extra: str) -> list[tuple[str, str]]:
    """The installed distributions, each with an extra or none, that one needs on this machine."""
    from packaging.requirements import Requirement

    requirements = [
        Requirement(line) for line in (requires(name) if _is_installed(name) else None) or []
    ]
    meant = [
        one for one in requirements if one.marker is None or one.marker.evaluate({"extra": extra})
    ]
    return [
        (one.name, more)
        for one in meant
        if _is_installed(one.name)
        for more in ("", *sorted(one.extras))
    ]


def _is_installed(name: str) -> bool:
    try:
        return bool(distribution(name))
    except PackageNotFoundError:
        return False


def noted(record: Record) -> dict[str, Any]:
    """What a manifest repeats of a stage's own record, beside who made it."""
    return record.model_dump(include=NOTED, exclude_none=True)


def _done(store: Store, stage: Stage) -> Record:
    return store.done(stage.kind, stage.key)


def versions() -> dict[str, str]:
    """The libraries that results may depend on."""
    return {name: version(name) for name in LIBRARIES}


def machine(threads: int = 1) -> Machine:
    """What bitwise repetition depends on beside versions: processor, capability, threads a worker,
    device.
    """
    import torch

    return Machine(
        python=platform.python_version(),
        platform=platform.platform(),
        cores=os.cpu_count(),
        threads=threads,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    )


def code() -> Code:
    """Revision of the checkout where there is one, and the SHA-256 of the sources as they are."""
    root = Path(__file__).parents[1]
    packages = ("distill", "defenses", "experiments")
    sources = sorted(path for name in packages for path in (root / name).rglob("*.py"))
    state = hashlib.sha256()
    for path in sources:
        state.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return Code(revision=_revision(root), sources_sha256=state.hexdigest())


def _revision(root: Path) -> str | None:
    """Of the checkout whose root it is; None where it is none, or a folder of another one."""
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        folder, revision = done.stdout.split()
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None
    return revision if Path(folder) == root else None


def runs(plan: Plan, store: Store, measures: Measures, home: Path) -> Iterator[Run]:
    """The study as wandb sees it: one run a reported arm, and one that compares, campaigns with
    it.
    """
    rows = {(row.task, row.attacker, row.budget, row.defense): row for row in measures.rows}
    whole = plan.study.model_dump(mode="json")
    group = f"{plan.study.name}-{digest(plan.study.model_dump_json())[:8]}"
    for arm in plan.arms:
        if arm.split == "report" and store.has(arm.exam.kind, arm.exam.key):
            row = rows[arm.task, arm.attacker, arm.budget, arm.defense]
            yield _arm_run(plan, store, arm, row, whole, group)
    tables = {"compare": _flat(measures.rows)}
    if measures.campaigns and measures.campaigns.leaks:
        tables["campaigns"] = _flat(measures.campaigns.leaks)
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
    plan: Plan, store: Store, arm: Arm, row: Row, whole: dict[str, JsonValue], group: str
) -> Run:
    columns = _columns(plan, store, arm)
    meta = {
        "meta.schema_version": 1,
        "meta.runkey": arm.exam.key,
        "meta.code": jsonable(code()),
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
        summary=_summary(store, arm, row, training),
        tables={"samples": (SAMPLE_COLUMNS, _samples(plan, store, arm))},
        files=(store.folder(arm.exam.kind, arm.exam.key) / "grades.parquet",),
        lineage=_lineage(store, arm),
    )


def _lineage(store: Store, arm: Arm) -> tuple[Part, ...]:
    """What the student was made from, inputs first, and the student that this run made."""
    return tuple(
        Part(stage.kind, stage.key, _done(store, stage).files, made=stage.key == arm.student.key)
        for stage in {stage.key: stage for stage in arm.student.walk()}.values()
    )


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
        stage.kind: {"key": stage.key, "files": _done(store, stage).files}
        for stage in arm.student.walk()
    }


def _samples(plan: Plan, store: Store, arm: Arm) -> list[list[Any]]:
    """Questions with the clean, the defended and the student's answer."""
    defense = "none" if arm.defense == IDENTITY else arm.defense
    exams = [plan.teachers[arm.task, name, "report"][0] for name in ("none", defense)]
    graded = [read_grades(store.open(s.kind, s.key))[:SAMPLES] for s in (arm.exam, *exams)]
    return [
        [student["prompt"], clean["text"], defended["text"], student["text"], student["outcome"]]
        for student, clean, defended in zip(*graded, strict=False)
    ]


def _summary(store: Store, arm: Arm, row: Row, training: TrainingReport) -> dict[str, Any]:
    """Results of one student, beside those of its arm."""
    graded = read_grades(store.open(arm.exam.kind, arm.exam.key))
    answers = read_completions(
        store.open(arm.completions.kind, arm.completions.key) / "completions.parquet"
    )
    stages = arm.own_stages
    right = sum(one["outcome"] == "right" for one in graded) / len(graded)
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
        "cost/wall_s": sum(_done(store, stage).seconds for stage in stages),
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
