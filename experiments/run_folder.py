"""What a study leaves in its folder: settings, manifest, grades, results, the HTML report, and its
wandb runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.completions import BadInput, digest, write_bytes
from experiments import environment, preregistration, provenance
from experiments.analysis import campaign_outcomes, card, marks, summary
from experiments.analysis.exhibits import exhibits
from experiments.measure.scores import NotMeasurable
from experiments.planning.plan import Plan
from experiments.private import note_places
from experiments.report import card as card_page
from experiments.report import html
from experiments.results import archive, collect, grades_file
from experiments.results.manifest import (
    MANIFEST_SCHEMA,
    Maker,
    Manifest,
    StageRecord,
    UnknownMaker,
)
from experiments.results.names import ANALYSIS, MANIFEST, SEAL
from experiments.results.schema.measures import Measures
from experiments.results.table import as_json
from experiments.seeds import seed_for
from experiments.settings.schema import Study
from experiments.settings.veil import places
from experiments.stages.stage import Stage, canonical
from experiments.store import Record, Store, fingerprint
from experiments.tracking import Tracking

NOTED = {"files", "seconds", "cpu_seconds", "inputs", "answer_seconds", "alike", "copied"}


def write(plan: Plan, store: Store, home: Path, old: Sequence[str] = ()) -> Measures:
    """Write everything; all but manifest and card are functions of the results alone.

    Args:
        plan: of a study.
        store: with what is made of it.
        home: the run's folder.
        old: what of the results other code made, in lines; every table is marked with it.

    Raises:
        BadInput: where the grades allow no comparison, or the frozen analysis was changed.
    """
    preregistration.freeze(plan, store, home)
    note_places(store.root, places(plan.study))
    data, records = collect.collect(plan, store), collect.arms(plan, store)
    outcomes, graded = campaign_outcomes.collect(plan, store), grades_file.read(data)
    marked = marks.collect(plan, store)
    try:
        measures = summary.measure(plan.study, graded, records, outcomes, old, marked)
    except NotMeasurable as error:
        raise BadInput(f"report {plan.study.name}: {error}") from error
    made = manifest(plan, store, old)
    files = {
        "config.json": published(plan.study).model_dump_json(indent=2).encode(),
        "grades.parquet": data,
        "arms.json": as_json(records),
        **({"outcomes.json": as_json(outcomes)} if measures.campaigns else {}),
        **({"marks.json": as_json(marked)} if marked else {}),
        "measures.json": as_json(measures),
        "results.json": as_json(measures.rows),
        **html.pages(measures, exhibits(graded, plan.notes, made.fingerprint)),
    }
    seal, deviations = preregistration.read_seal(home), preregistration.deviations(plan, home)
    fields = card.card(plan, measures, made, seal, deviations)
    files |= {"card.json": as_json(fields), "card.md": card_page.markdown(fields).encode()}
    frozen = {name: (home / name).read_bytes() for name in (ANALYSIS, SEAL)}
    digests = {name: digest(content) for name, content in (files | frozen).items()}
    files[MANIFEST] = as_json(made.model_copy(update={"files": digests}))
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

    Args:
        plan: of a study.
        store: with what is made of it; the rest is listed as missing.
        old: what of the results other code made, in lines.
    """
    stages = [stage for stage in plan.stages if store.has(stage.kind, stage.key)]
    by_stage = [provenance.maker(_done(store, stage)) for stage in stages]
    makers = list({canonical(maker): maker for maker in by_stage}.values())
    return Manifest(
        schema=MANIFEST_SCHEMA,
        study=plan.study.name,
        fingerprint=fingerprint(store, stages),
        config_sha256=digest(published(plan.study).model_dump_json()),
        versions=environment.versions(),
        lock=[*environment.locked()],
        machine=environment.machine(max((maker.get("threads", 1) for maker in makers), default=1)),
        code=environment.code(),
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


def noted(record: Record) -> dict[str, Any]:
    """What a manifest repeats of a stage's own record, beside who made it."""
    return record.model_dump(include=NOTED, exclude_none=True)


def _done(store: Store, stage: Stage) -> Record:
    return store.done(stage.kind, stage.key)
