"""Verify: everything that follows from a run's grades, arms and settings is computed again; nothing
is trained.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.completions import BadInput, digest
from experiments import preregistration, provenance, run_folder
from experiments.planning import arms
from experiments.planning import plan as planning
from experiments.planning.arms import Arm
from experiments.planning.plan import Plan
from experiments.private import MARK, PLACES
from experiments.results import archive, collect, read
from experiments.results.manifest import Maker, Manifest, StageRecord, UnknownMaker
from experiments.results.names import ANALYSIS
from experiments.results.schema import FinishedStudent, MissingStudent
from experiments.results.table import jsonable
from experiments.review import (
    Check,
    Word,
    beside,
    form,
    guarded,
    recomputed,
    regrade,
    same,
    short,
)
from experiments.review.form import Run
from experiments.review.recomputed import difference, unlike
from experiments.settings.components import load_module
from experiments.settings.entries import build_task, known
from experiments.settings.grammar import parse_entry
from experiments.settings.schema import Study
from experiments.stages.stage import Stage, canonical
from experiments.store import Store

UNSHOWN = (
    "that these students were trained and no others, what trainings and machines wrote down of "
    "themselves, and "
    "that the analysis was frozen before"
)


def verify(home: Path, store: Store | None, signed: Check | None = None) -> list[Check]:
    """Form, digests, seal, completeness and all that can be computed again; with a store beside,
    its records too.

    A run whose files or settings are not what they say ends there, as all else would follow from
    what is not so; card and report are looked at where all else holds.
    """
    checks = [*([signed] if signed else []), *_digests(home)]
    run, told = _read(home)
    checks += told
    if run is None:
        return checks
    checks.append(
        same(
            "config is the manifest's",
            run.manifest.config_sha256,
            digest(run.study.model_dump_json()),
        )
    )
    checks += _spelled(run)
    if any(check.word == "FAIL" for check in checks if check.claim.startswith("config")):
        return checks
    planned, told = _planned(run)
    checks += [*told, *_seal(run, planned), *_code(run.manifest), *_manifest(run, planned)]
    checks += _complete(run, planned) if planned else [_named(run)]
    checks += recomputed.aggregates(run)
    if planned and all(
        check.word != "FAIL" for check in checks
    ):  # what is shown follows from all of it
        checks += [
            *guarded("the card follows from the run", lambda: recomputed.carded(run, planned)),
            *guarded("the report follows from the run", lambda: recomputed.pages(run, planned)),
        ]
    if store is not None:
        checks += [*beside.artifacts(store, run.manifest), *beside.records(store, run.manifest)]
        if planned and all(check.word == "PASS" for check in checks[-2:]):
            checks += guarded(
                "the run holds what the store holds", lambda: beside.collected(run, planned, store)
            )
    return checks


def shows(home: Path, signed: bool) -> str:
    """What no PASS can show, in one line."""
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
    there = {path.name for path in home.iterdir() if not path.name.startswith(".")} - archive.KEPT
    strange, lost = sorted(there - archive.ALLOWED), sorted({*archive.ALWAYS} - there)
    wrong = sorted(
        named.keys()
        ^ (there & archive.ALLOWED - {archive.MANIFEST, archive.LOCK, archive.SIGNATURE})
    )
    said = [
        f"{provenance.listed(names)} {why}"
        for names, why in (
            (strange, "is no file of a run"),
            (lost, "missing"),
            (wrong, "is not both there and in the manifest"),
        )
        if names
    ]
    closed = Check(
        "the files are those of a run",
        "FAIL" if said else "PASS",
        f"{len(named)} files",
        short("; ".join(said) or f"{len(named)} files", 160),
    )
    return [
        closed,
        *(
            _digest(home, name, expected)
            for name, expected in named.items()
            if name in archive.ALLOWED
        ),
    ]


def _digest(home: Path, name: str, expected: str) -> Check:
    try:
        got = read.sha(read.own(home, name, archive.LARGEST))
    except BadInput as error:
        return Check(f"{name} is as it was written", "FAIL", expected[:16], str(error))
    return Check(
        f"{name} is as it was written",
        "PASS" if got == expected else "FAIL",
        expected[:16],
        got[:16],
    )


def _read(home: Path) -> tuple[Run | None, list[Check]]:
    """The run, or each file that is not of its form."""
    held, checks = dict[str, Any](), list[Check]()
    for name in form.FILES:
        try:
            held[name] = form.PARTS[name](home)
        except BadInput as error:
            claim = {
                "study": "config.json is a study",
                "manifest": "manifest.json is a manifest",
            }.get(name, f"{form.FILES[name]} is of its form")
            if claim != "manifest.json is a manifest":  # said already
                checks.append(Check(claim, "FAIL", "its schema", short(str(error), 200)))
    return (None if len(held) < len(form.FILES) else Run(home, **held)), checks


def _spelled(run: Run) -> list[Check]:
    """Settings and analysis are written as we write them, so that nobody reads in them what does
    not count.
    """
    settings = run.study.model_dump(mode="json")
    wrong = next(unlike(settings, read.parsed(run.home, "config.json")), None)
    checks = [
        Check(
            "config.json is as settings are written",
            "FAIL" if wrong else "PASS",
            "the same",
            difference(wrong),
        )
    ]
    text = read.content(run.home, ANALYSIS)
    plain = text == preregistration.spelled(run.frozen)
    return [
        *checks,
        Check(
            "analysis.yaml is as an analysis is written",
            "PASS" if plain else "FAIL",
            "the same",
            "the same" if plain else "comments, or another order or form",
        ),
    ]


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
    asked = [
        _asks(stage.kind, stage.key, stage.settings, [one.key for one in stage.inputs])
        for stage in planned.stages
        if theirs[stage.key]
    ]
    wrong = next(unlike(asked, recorded), None)
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
            name, told = parse_entry(entry)
            places = {*PLACES} & load_module(
                "task", known("task", name)
            ).Settings.model_fields.keys()
        except BadInput:
            continue  # no task at all: no plan will do
        named = [
            place for place in places if place in told and not str(told[place]).startswith(MARK)
        ]
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
    of = sum(arm.split == "report" for arm in planned.arms)
    if not changes and run.seal.of != of:
        return [Check(claim, "FAIL", f"{of} report exams", f"the seal says {run.seal.of}")]
    return [same(claim, run.seal.sha256[:16], run.seal.sha256[:16])]


def _complete(run: Run, planned: Plan) -> list[Check]:
    """Every planned student has its grades, and no other has: a missing seed, or one too many, is
    named.
    """
    there = {(*key, seed) for key, sat in run.grades.items() for seed in sat.seeds}
    lost = [
        arm
        for arm in planned.arms
        if (arm.task, arm.defense, arm.attacker, arm.budget, arm.split, arm.seed) not in there
    ]
    total = got = f"{len(planned.arms)} students"
    if lost:
        one = lost[0]
        got = f"{len(lost)} missing, first {one.defense} {one.attacker} {one.task} seed {one.seed}"
    gone = {*run.manifest.missing}
    planned_arms = [[*_who(arm), arm.exam.key not in gone] for arm in planned.arms]
    listed = [[*_who(record), record.finished] for record in run.arms]
    wrong = next(unlike(planned_arms, listed), None)
    return [
        Check("every planned student was graded", "FAIL" if lost else "PASS", total, got),
        Check(
            "arms.json lists the planned students",
            "FAIL" if wrong else "PASS",
            total,
            difference(wrong),
        ),
        *guarded("every grade is the grader's", lambda: _graded(run, planned, there)),
    ]


def _who(arm: Arm | FinishedStudent | MissingStudent) -> list[str | int]:
    return [getattr(arm, name) for name in collect.WHO]


def _named(run: Run) -> Check:
    """Where nothing can be planned: arms and exams are at least of what the settings name."""
    blocks = run.study.blocks
    tasks = {task for block in blocks for task in block.tasks}
    budgets = {budget for block in blocks for budget in block.budgets}
    defenses = {one for block in blocks for one in block.defenses} | {"none", arms.IDENTITY}
    attackers = {one for block in blocks for one in block.attackers} | {*arms.FLOORS, ""}
    told = {(arm.task, arm.defense, arm.attacker, arm.budget) for arm in run.arms}
    told |= {(key.task, key.defense, key.attacker, key.budget) for key in run.grades}
    odd: list[tuple[Any, ...]] = sorted(
        one
        for one in told
        if one[0] not in tasks
        or one[1] not in defenses
        or one[2] not in attackers
        or one[3] not in {*budgets, 0}
    )
    examined = {task for task, *_ in told}
    odd += [(task, "has none") for task in sorted(tasks - examined)]
    got = (
        short(f"{len(odd)} others, first {' '.join(map(str, odd[0]))}", 160)
        if odd
        else f"{len(told)} arms"
    )
    return Check(
        "every arm is of the settings", "FAIL" if odd else "PASS", f"{len(told)} arms", got
    )


def _graded(run: Run, planned: Plan, there: set[tuple[Any, ...]]) -> list[Check]:
    """No exam but the planned ones, on the questions of the task, and every answer graded again."""
    done = {
        (arm.task, arm.defense, arm.attacker, arm.budget, arm.split, arm.seed)
        for arm in planned.arms
    }
    for (task, defense, split), exams in planned.teachers.items():
        done |= {(task, defense, "", 0, split, seed) for seed in range(len(exams))}
    for one in planned.plateaus:
        done |= {
            (one.task, one.defense, attacker, one.budget, "plateau", one.seed)
            for attacker in one.attackers
        }
    strange, total = sorted(there - done), f"{len(there)} exams"
    got = f"{len(strange)} others, first {' '.join(map(str, strange[0]))}" if strange else total
    wrong = regrade.misgraded(run.home / "grades.parquet", run.study.measure)
    return [
        Check("every exam was planned", "FAIL" if strange else "PASS", total, got),
        Check(
            "every grade is the grader's",
            "FAIL" if wrong else "PASS",
            "the same",
            short(wrong or "the same", 160),
        ),
    ]


# The manifest


def _manifest(run: Run, planned: Plan | None) -> list[Check]:
    """What of the manifest follows from its own stages, its lock and the settings."""
    manifest = run.manifest
    computed = _follows(run, planned)
    stored = jsonable(manifest)
    got = difference(next(unlike(computed, {name: stored[name] for name in computed}), None))
    packages = run.home / archive.LOCK
    if got == "the same" and packages.exists():
        if read.content(run.home, archive.LOCK) != archive.lock(manifest.lock):
            got = "lock.txt is not the manifest's lock"
    word: Word = "PASS" if got == "the same" else "FAIL"
    return [Check("the manifest follows from its stages", word, "the same", got)]


def _follows(run: Run, planned: Plan | None) -> dict[str, Any]:
    """The fields of a manifest that others decide."""
    manifest = run.manifest
    made = sorted([stage.kind, stage.key, stage.files] for stage in manifest.stages)
    threads = max((m.threads for m in manifest.made_by if isinstance(m, Maker)), default=1)
    packages = (line.partition("==") for line in manifest.lock)
    locked = {name.lower().replace("_", "-"): version for name, _, version in packages}
    computed: dict[str, Any] = {
        "fingerprint": digest(canonical(made)),
        "study": run.study.name,
        "machine": jsonable(manifest.machine.model_copy(update={"threads": threads})),
        "versions": {name: locked.get(name) for name in run_folder.LIBRARIES},
    }
    return computed | ({"seeds": run_folder.seeds(planned)} if planned else {})


def _code(manifest: Manifest) -> list[Check]:
    """Results of one run are made by one code, with one set of libraries and threads; and is that
    what is here?
    """
    claim = "one code made every result"
    makers = [maker for maker in manifest.made_by if isinstance(maker, Maker)]
    if not makers:
        return [Check(claim, "INCONCLUSIVE", "what made them", "it was not recorded")]
    mixed = [*_mixture(manifest), *_foreign(manifest.stages)]
    code = {name: value for maker in makers for name, value in maker.code.items()}
    got = "; ".join(mixed) or "the same"
    word: Word = "FAIL" if mixed else "PASS"
    return [Check(claim, word, f"{len(code)} modules", got), _installed(manifest, code)]


def _installed(manifest: Manifest, code: dict[str, str]) -> Check:
    """Whether what made the results is what is installed here."""
    ours = {name: provenance.installed(name) for name in code}
    changes = []
    if code != ours:
        changes.append(f"{provenance.listed(provenance.differing(code, ours))} changed")
    last, now = manifest.made_by[-1], provenance.libraries()
    before = last.libraries if isinstance(last, Maker) else {}
    changes += [
        f"{name} {before.get(name)} -> {now.get(name)}"
        for name in provenance.differing(before, now)
    ]
    word: Word = "INCONCLUSIVE" if changes else "PASS"
    got = "; ".join(changes) or "the same"
    return Check("that code is installed here", word, "the same", got)


def _mixture(manifest: Manifest) -> list[str]:
    """What is not the same in all results: a module, a kind's version, a library, threads."""
    made = [(manifest.made_by[stage.made_by], stage.kind) for stage in manifest.stages]
    unknown = sum(not isinstance(maker, Maker) for maker, _ in made)
    mixed = []
    if unknown:
        mixed.append(f"{unknown} of {len(made)} results were written before code was recorded")
    seen: dict[str, Counter[str]] = {}
    for maker, kind in made:
        for name, value in _made_with(maker, kind).items():
            seen.setdefault(name, Counter())[value] += 1
    several = [(name, counts) for name, counts in seen.items() if len(counts) > 1]
    return mixed + [f"{name} is {_counted(counts)} results" for name, counts in several[:5]]


def _made_with(maker: Maker | UnknownMaker, kind: str) -> dict[str, str]:
    if isinstance(maker, UnknownMaker):
        return {}
    counts = {"threads": str(maker.threads), f"version of {kind}": str(maker.version)}
    return {**maker.code, **maker.libraries, **counts}


def _counted(counts: Counter[str]) -> str:
    return " and ".join(f"{value} in {n}" for value, n in counts.items())


def _foreign(stages: Sequence[StageRecord]) -> list[str]:
    """Results that were made of other inputs than those of this run."""
    here = {stage.key: provenance.contents(jsonable(stage)) for stage in stages}
    wrong = [f"{stage.kind}/{stage.key}" for stage in stages if _is_foreign(stage, here)]
    if not wrong:
        return []
    return [f"{provenance.listed(wrong)} made of inputs that were made again since"]


def _is_foreign(stage: StageRecord, here: Mapping[str, str]) -> bool:
    return any(told and here.get(key, told) != told for key, told in stage.inputs.items())
