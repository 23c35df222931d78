"""Verify: everything that follows from a run's grades, arms and settings is computed again; nothing
is trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from distill.completions import BadInput, digest, file_digest
from experiments import preregistration, provenance, run_folder
from experiments.planning import plan as planning
from experiments.planning.plan import Plan
from experiments.private import MARK, PLACES
from experiments.results import archive, read
from experiments.results.manifest import StageRecord
from experiments.results.names import ANALYSIS, MANIFEST
from experiments.review import (
    Check,
    Word,
    beside,
    exams,
    form,
    guarded,
    made,
    recomputed,
    same,
    short,
    sign,
    spelled,
)
from experiments.review.form import Run
from experiments.review.recomputed import difference, unlike
from experiments.settings.catalog import shipped
from experiments.settings.components import load_module
from experiments.settings.entries import build_task, existing
from experiments.settings.grammar import parse_entry
from experiments.settings.schema import Study, load
from experiments.stages.stage import Stage, canonical
from experiments.store import Store

UNSHOWN = (
    "that these students were trained, these campaigns simulated and no others, what trainings, "
    "simulations and machines wrote down of themselves, and that the analysis was frozen before"
)


def verify(home: Path, store: Store | None, signed: Check | None = None) -> list[Check]:
    """Form, digests, seal, completeness and all that can be computed again; with a store beside,
    its records too.

    A run whose files or settings are not what they say ends there, as all else would follow from
    what is not so; card and report are looked at where all else holds.

    Args:
        home: the run's folder.
        store: that it was made in, where it is here.
        signed: the check of its signature, where there was one.
    """
    run, checks = _read(home)
    checks = [*([signed] if signed else []), *_digests(home), *checks]
    if run is None:
        return checks
    config = digest(run.study.model_dump_json())
    checks.append(same("config is the manifest's", run.manifest.config_sha256, config))
    checks += spelled.checks(run)
    if any(check.word == "FAIL" for check in checks if check.claim.startswith("config")):
        return checks
    planned, plan_checks = _planned(run)
    checks += [*plan_checks, *_seal(run, planned), *made.code(run.manifest, planned)]
    checks += guarded(made.FOLLOWS, lambda: made.follows(run, planned))
    checks += exams.checks(run, planned) if planned else [exams.named(run), _unseen()]
    checks += recomputed.aggregates(run)
    # What is shown follows from all of it.
    if all(check.word != "FAIL" for check in checks):
        checks += _shown(run, planned)
    return checks + (_beside(run, planned, store) if store is not None else [])


def _shown(run: Run, planned: Plan | None) -> list[Check]:
    """The card and the report, as far as they follow where nothing can be planned."""
    claim = "card.json follows from the run"
    return [
        *(guarded(claim, lambda: [recomputed.carded(run, planned)]) if planned else []),
        *guarded("card.md is card.json, written out", lambda: [recomputed.written(run)]),
        *guarded("the report follows from the run", lambda: recomputed.pages(run, planned)),
    ]


def _beside(run: Run, planned: Plan | None, store: Store) -> list[Check]:
    """What the store holds, where it is beside the run; gathered again where all of it is there."""
    checks = [*beside.artifacts(store, run.manifest), *beside.records(store, run.manifest)]
    if planned and all(check.word == "PASS" for check in checks):
        claim = "the run holds what the store holds"
        checks += guarded(claim, lambda: beside.collected(run, planned, store))
    return checks


def _unseen() -> Check:
    """What is left where nothing can be planned."""
    claim = "every grade is the grader's, card.json and the report's notes follow from the run"
    return Check(claim, "INCONCLUSIVE", "the same", "they were not looked at")


def about(home: Path) -> str:
    """What was verified, in one line: any settings may have the name of a study that one knows."""
    try:
        manifest = read.manifest_of(home)
    except BadInput:
        return "no run, as its manifest is none"
    line = (
        f"study {manifest.study}, settings {manifest.config_sha256[:12]}, "
        f"fingerprint {manifest.fingerprint[:12]}"
    )
    if manifest.study not in shipped("study"):
        return line
    settings = digest(run_folder.published(load(manifest.study, [])).model_dump_json())
    same_settings = settings == manifest.config_sha256
    return line + ("" if same_settings else "; these are not the settings of the shipped study")


def shows(home: Path, signed: bool) -> str:
    """What no PASS can show, in one line.

    Args:
        home: the run's folder.
        signed: whether a signature was checked, and passed.
    """
    why = (
        "its signature was not checked"
        if (home / archive.SIGNATURE).is_file()
        else "it is not signed"
    )
    return f"A PASS does not show {UNSHOWN}" + ("" if signed else f", nor who made this: {why}")


# The files


def _digests(home: Path) -> list[Check]:
    """The list of files is closed, and each is the one that the manifest names."""
    try:
        named = read.manifest_of(home).files
    except BadInput as error:
        return [Check("manifest.json is a manifest", "FAIL", "its schema", str(error))]
    ours = (name for name in named if name in archive.ALLOWED)
    digests = [_digest(home, name, named[name]) for name in ours]
    return [_closed(home, named), *digests, *_signature(home)]


def _signature(home: Path) -> list[Check]:
    """That of the manifest, where there is one; nothing else has its digest."""
    path = home / archive.SIGNATURE
    return [sign.whole(home)] if path.exists() or path.is_symlink() else []


def _closed(home: Path, named: Mapping[str, str]) -> Check:
    """No file is missing and none is there that the manifest does not name; what is beside a run,
    and no part of it, is told.
    """
    names = {path.name for path in home.iterdir()}
    beside = {name for name in names if name.startswith(".")} | names & archive.KEPT
    files = names - beside
    unnamed = {MANIFEST, archive.LOCK, archive.SIGNATURE}
    faults = (
        (files - archive.ALLOWED, "is no file of a run"),
        ({*archive.ALWAYS} - files, "missing"),
        # `-` binds closer than `&`, and that closer than `^`.
        (named.keys() ^ files & archive.ALLOWED - unnamed, "is not both there and in the manifest"),
    )
    wrong = [f"{provenance.listed(sorted(some))} {why}" for some, why in faults if some]
    got = f"{len(named)} files"
    if beside:
        got += f"; beside them, and not looked at, {provenance.listed(sorted(beside))}"
    word: Word = "FAIL" if wrong else "PASS"
    claim = "the files are those of a run"
    return Check(claim, word, f"{len(named)} files", short("; ".join(wrong) or got, 160))


def _digest(home: Path, name: str, expected: str) -> Check:
    claim = f"{name} is as it was written"
    try:
        got = file_digest(read.own_file(home, name, archive.LARGEST))
    except BadInput as error:
        return Check(claim, "FAIL", expected[:16], str(error))
    return Check(claim, "PASS" if got == expected else "FAIL", expected[:16], got[:16])


def _read(home: Path) -> tuple[Run | None, list[Check]]:
    """The run, or each file that is not of its form."""
    parts, checks = dict[str, Any](), list[Check]()
    for name in form.FILES:
        try:
            parts[name] = form.PARTS[name](home)
        except BadInput as error:
            claim = {
                "study": "config.json is a study",
                "manifest": "manifest.json is a manifest",
            }.get(name, f"{form.FILES[name]} is of its form")
            if claim != "manifest.json is a manifest":  # said already
                checks.append(Check(claim, "FAIL", "its schema", short(str(error), 200)))
    return (None if len(parts) < len(form.FILES) else Run(home, **parts)), checks


# The settings


def _planned(run: Run) -> tuple[Plan | None, list[Check]]:
    """Plan the study again: its stages must be those of the manifest, and nothing else is opened
    for that.
    """
    claim, manifest = "the settings lead to the stages that were run", run.manifest
    theirs: dict[str, StageRecord | None] = {**manifest.by_key, **dict.fromkeys(manifest.missing)}
    if lost := _lacking(run.study):
        return None, [
            Check(
                claim,
                "INCONCLUSIVE",
                f"{len(theirs)} stages",
                short(f"cannot plan here: {lost}", 200),
            )
        ]
    try:
        planned = planning.make(run.study, opens=False)
        ours = {stage.key: stage for stage in planned.stages}
    except Exception as error:  # settings of a stranger, which lead nowhere
        return None, [
            Check(claim, "FAIL", f"{len(theirs)} stages", short(f"cannot be planned: {error}", 200))
        ]
    if ours.keys() != theirs.keys():
        return None, [Check(claim, "FAIL", f"{len(theirs)} stages", _difference(ours, theirs))]
    recorded = [
        _asks(stage.kind, stage.key, stage.settings, stage.inputs) for stage in manifest.stages
    ]
    planned_stages = [
        _asks(stage.kind, stage.key, stage.settings, [one.key for one in stage.inputs])
        for stage in planned.stages
        if theirs[stage.key]
    ]
    wrong = next(unlike(planned_stages, recorded), None)
    got = difference(wrong) if wrong else f"{len(ours)} stages"
    return planned, [Check(claim, "FAIL" if wrong else "PASS", f"{len(theirs)} stages", got)]


def _asks(kind: str, key: str, settings: Any, inputs: Iterable[str]) -> dict[str, Any]:
    """What a stage was asked for, as JSON has it."""
    plain = json.loads(canonical(settings))
    return {"kind": kind, "key": key, "settings": plain, "inputs": sorted({*inputs})}


def _lacking(study: Study) -> str:
    """Why a task's data cannot be read here; a stranger's word is no reason to open a place that it
    names.
    """
    for entry in (task for block in study.blocks for task in block.tasks):
        try:
            name, settings = parse_entry(entry)
            fields = load_module("task", existing("task", name)).Settings.model_fields
        except BadInput:
            continue  # no task at all: no plan will do
        places = {*PLACES} & fields.keys() & settings.keys()
        named = [place for place in places if not str(settings[place]).startswith(MARK)]
        if named:
            return f"task {entry} names files of its own ({', '.join(sorted(named))})"
        try:
            build_task(entry)
        except BadInput as error:
            if places:
                return str(error)
    return ""


def _difference(ours: Mapping[str, Stage], theirs: Mapping[str, StageRecord | None]) -> str:
    """What the first stage that only we plan does otherwise than the nearest one that was run."""
    only = [stage for key, stage in ours.items() if key not in theirs]
    gone = [record for key, record in theirs.items() if key not in ours and record]
    counts = f"{len(only)} others, {len(gone)} that it does not lead to"
    for stage in only:
        near = next((record for record in gone if record.kind == stage.kind), None)
        if near:
            changes = preregistration.changed(near.settings, stage.settings, stage.kind)
            if not changes:
                return f"{counts}; inputs differ"
            name, before, after = changes[0]
            return f"{counts}; {name}: {before!r} became {after!r}"
    return counts


def _seal(run: Run, planned: Plan | None) -> list[Check]:
    """The frozen analysis, and the counters of its seal where the study is still the one that was
    frozen.
    """
    claim = "the analysis is as it was frozen"
    try:
        preregistration.read_seal(run.home)
    except BadInput as error:
        return [Check(claim, "FAIL", "its seal", str(error).replace(f"{run.home}/", ""))]
    if planned is None:
        return [same(claim, run.seal.sha256[:16], run.seal.sha256[:16])]
    changes = preregistration.deviations(planned, run.home)
    if hidden := _hidden(run, planned, bool(changes)):
        return [Check(claim, "FAIL", "the analysis of this study", hidden)]
    of = sum(arm.split == "report" for arm in planned.arms)
    if not changes and run.seal.of != of:
        return [Check(claim, "FAIL", f"{of} report exams", f"the seal says {run.seal.of}")]
    return [same(claim, run.seal.sha256[:16], run.seal.sha256[:16])]


def _hidden(run: Run, planned: Plan, deviates: bool) -> str:
    """What a frozen analysis holds that no list of deviations shows: names without a value, another
    order, or a truth value for a number.
    """
    ours = preregistration.analysis(planned)
    if not deviates and read.content(run.home, ANALYSIS) != preregistration.spelled(ours):
        return "another order or kind of values, or names without a value"
    leaves = unlike(json.loads(json.dumps(ours)), run.frozen)
    names = [name for name, here, there in leaves if here == "nothing" and there is None]
    return f"names without a value: {provenance.listed(names)}" if names else ""
