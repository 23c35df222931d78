"""Verify: everything that follows from a run's grades, arms and settings is computed again; nothing
is trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.completions import BadInput, digest
from experiments import preregistration, provenance, run_folder
from experiments.analysis import summary
from experiments.planning import arms
from experiments.planning import plan as planning
from experiments.planning.plan import Plan
from experiments.private import MARK, PLACES
from experiments.results import collect
from experiments.review import (
    Check,
    Word,
    archive,
    beside,
    form,
    guarded,
    recomputed,
    regrade,
    same,
    short,
)
from experiments.review.form import Run
from experiments.review.recomputed import said, unlike
from experiments.settings.components import load_module
from experiments.settings.entries import build_task, known
from experiments.settings.grammar import parse_entry
from experiments.settings.schema import Study
from experiments.stages.stage import canonical
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
            run.manifest["config_sha256"],
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
        named = form.manifest_of(home)["files"]
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
        got = form.sha(form.own(home, name, archive.LARGEST))
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
            held[name] = form.part(home, name)
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
    wrong = next(unlike(settings, form.parsed(run.home, "config.json")), None)
    checks = [
        Check(
            "config.json is as settings are written",
            "FAIL" if wrong else "PASS",
            "the same",
            said(wrong),
        )
    ]
    text = form.content(run.home, preregistration.ANALYSIS)
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
    theirs = {stage["key"]: stage for stage in manifest["stages"]} | dict.fromkeys(
        manifest["missing"]
    )
    digests = {
        path: stage["settings"].get("sha256")
        for stage in manifest["stages"]
        if stage["kind"] == "teacher" and isinstance(path := stage["settings"].get("path"), str)
    }
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
        planned = planning.make(run.study, digests)
        ours = {stage.key: stage for stage in planned.stages}
    except Exception as error:  # settings of a stranger, which lead nowhere
        return None, [
            Check(claim, "FAIL", f"{len(theirs)} stages", short(f"cannot be planned: {error}", 200))
        ]
    if ours.keys() != theirs.keys():
        return None, [Check(claim, "FAIL", f"{len(theirs)} stages", _difference(ours, theirs))]
    told = [
        {name: stage[name] for name in ("kind", "key", "settings")}
        | {"inputs": sorted(stage["inputs"])}
        for stage in manifest["stages"]
    ]
    mine = [
        {
            "kind": stage.kind,
            "key": stage.key,
            "settings": stage.settings,
            "inputs": sorted({one.key for one in stage.inputs}),
        }
        for stage in planned.stages
        if theirs[stage.key]
    ]
    wrong = next(unlike(summary.plain(mine), told), None)
    got = said(wrong) if wrong else f"{len(ours)} stages"
    return planned, [Check(claim, "FAIL" if wrong else "PASS", f"{len(theirs)} stages", got)]


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


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """What the first stage that only we plan does otherwise than the nearest one that was run."""
    only, gone = (
        [k for k in ours if k not in theirs],
        [k for k in theirs if k not in ours and theirs[k]],
    )
    said = f"{len(only)} others, {len(gone)} that it does not lead to"
    for key in only:
        mine = ours[key]
        near = [theirs[k] for k in gone if theirs[k]["kind"] == mine.kind]
        if near:
            changes = preregistration.changed(near[0]["settings"], mine.settings, mine.kind)
            return f"{said}; " + (
                f"{changes[0][0]}: {changes[0][1]!r} became {changes[0][2]!r}"
                if changes
                else "inputs differ"
            )
    return said


def _seal(run: Run, planned: Plan | None) -> list[Check]:
    """The frozen analysis, and the counters of its seal where the study is still the one that was
    frozen.
    """
    claim = "the analysis is as it was frozen"
    try:
        preregistration.seal(run.home)
    except BadInput as error:
        return [Check(claim, "FAIL", "its seal", str(error).replace(f"{run.home}/", ""))]
    if planned is None:
        return [Check(claim, "PASS", run.seal["sha256"][:16], run.seal["sha256"][:16])]
    changes = preregistration.deviations(planned, run.home)
    of = sum(arm.split == "report" for arm in planned.arms)
    if not changes and run.seal["of"] != of:
        return [Check(claim, "FAIL", f"{of} report exams", f"the seal says {run.seal['of']}")]
    return [Check(claim, "PASS", run.seal["sha256"][:16], run.seal["sha256"][:16])]


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
    gone = {*run.manifest["missing"]}
    arms = [
        {name: getattr(arm, name) for name in collect.WHO} | {"finished": arm.exam.key not in gone}
        for arm in planned.arms
    ]
    told = [{name: arm[name] for name in (*collect.WHO, "finished")} for arm in run.arms]
    wrong = next(unlike(arms, told), None)
    return [
        Check("every planned student was graded", "FAIL" if lost else "PASS", total, got),
        Check(
            "arms.json lists the planned students", "FAIL" if wrong else "PASS", total, said(wrong)
        ),
        *guarded("every grade is the grader's", lambda: _graded(run, planned, there)),
    ]


def _named(run: Run) -> Check:
    """Where nothing can be planned: arms and exams are at least of what the settings name."""
    blocks = run.study.blocks
    tasks, budgets = (
        {one for block in blocks for one in getattr(block, name)} for name in ("tasks", "budgets")
    )
    defenses = {one for block in blocks for one in block.defenses} | {"none", arms.IDENTITY}
    attackers = {one for block in blocks for one in block.attackers} | {*arms.FLOORS, ""}
    told = {(arm["task"], arm["defense"], arm["attacker"], arm["budget"]) for arm in run.arms}
    told |= {(key.task, key.defense, key.attacker, key.budget) for key in run.grades}
    odd: list[tuple[Any, ...]] = sorted(
        one
        for one in told
        if one[0] not in tasks
        or one[1] not in defenses
        or one[2] not in attackers
        or one[3] not in {*budgets, 0}
    )
    odd += [(task, "has none") for task in sorted(tasks - {one[0] for one in told})]
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
    told = sorted([stage["kind"], stage["key"], stage["files"]] for stage in manifest["stages"])
    threads = max((maker["threads"] for maker in manifest["made_by"] if maker), default=1)
    computed: dict[str, Any] = {"fingerprint": digest(canonical(told)), "study": run.study.name}
    computed |= {"machine": manifest["machine"] | {"threads": threads}}
    locked = {
        one.partition("==")[0].lower().replace("_", "-"): one.partition("==")[2]
        for one in manifest["lock"]
    }
    computed |= {"versions": {name: locked.get(name) for name in run_folder.LIBRARIES}}
    if planned:
        computed |= {"seeds": summary.plain(run_folder.seeds(planned))}
    packages = run.home / archive.LOCK
    wrong = next(unlike(computed, {name: manifest[name] for name in computed}), None)
    got = said(wrong)
    if (
        wrong is None
        and packages.exists()
        and form.content(run.home, archive.LOCK) != archive.lock(manifest["lock"])
    ):
        got = "lock.txt is not the manifest's lock"
    return [
        Check(
            "the manifest follows from its stages",
            "PASS" if got == "the same" else "FAIL",
            "the same",
            got,
        )
    ]


def _code(manifest: dict[str, Any]) -> list[Check]:
    """Results of one run are made by one code, with one set of libraries and threads; and is that
    what is here?
    """
    claim = "one code made every result"
    makers, stages = manifest["made_by"], manifest["stages"]
    if not any(makers):
        return [Check(claim, "INCONCLUSIVE", "what made them", "it was not recorded")]
    mixed = _mixture(
        [makers[stage["made_by"]] for stage in stages], [stage["kind"] for stage in stages]
    )
    mixed += _foreign(stages)
    held = {name: value for maker in makers for name, value in maker.get("code", {}).items()}
    said = Check(
        claim, "FAIL" if mixed else "PASS", f"{len(held)} modules", "; ".join(mixed) or "the same"
    )
    here = {name: provenance.installed(name) for name in held}
    other = (
        [f"{provenance.listed(provenance.differing(held, here))} changed"] if held != here else []
    )
    before, now = makers[-1].get("libraries", {}), provenance.libraries()
    other += [
        f"{name} {before.get(name)} -> {now.get(name)}"
        for name in provenance.differing(before, now)
    ]
    word: Word = "INCONCLUSIVE" if other else "PASS"
    return [
        said,
        Check("that code is installed here", word, "the same", "; ".join(other) or "the same"),
    ]


def _mixture(made: list[dict[str, Any]], kinds: list[str]) -> list[str]:
    """What is not the same in all results: a module, a kind's version, a library, threads."""
    unknown = sum(not maker for maker in made)
    mixed = [f"{unknown} of {len(made)} results were written before code was recorded"] * bool(
        unknown
    )
    seen: dict[str, dict[str, int]] = {}
    for maker, kind in zip(made, kinds, strict=True):
        one = {"threads": maker["threads"], f"version of {kind}": maker["version"]} if maker else {}
        for name, value in (maker.get("code", {}) | maker.get("libraries", {}) | one).items():
            held = seen.setdefault(name, {})
            held[str(value)] = held.get(str(value), 0) + 1
    several = {name: held for name, held in seen.items() if len(held) > 1}
    return mixed + [
        f"{name} is {' and '.join(f'{value} in {n}' for value, n in held.items())} results"
        for name, held in list(several.items())[:5]
    ]


def _foreign(stages: list[dict[str, Any]]) -> list[str]:
    """Results that were made of other inputs than those of this run."""
    here = {stage["key"]: provenance.contents(stage) for stage in stages}
    wrong = [
        f"{stage['kind']}/{stage['key']}"
        for stage in stages
        if any(told and key in here and here[key] != told for key, told in stage["inputs"].items())
    ]
    return (
        [f"{provenance.listed(wrong)} made of inputs that were made again since"] if wrong else []
    )
