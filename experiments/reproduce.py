"""Checking results that somebody else made: verify without compute, reproduce by running again, export, compare.

A run is a folder that `run` or `report` left, or an archive of one. Every check ends in PASS, FAIL or INCONCLUSIVE with
what was expected and what was got; a FAIL never hides behind a later PASS.
"""

from __future__ import annotations

import json
import math
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from distill.answers import BadInput, digest
from experiments import plan as planning
from experiments import provenance, registration
from experiments.config import Study, attack, guard
from experiments.plan import Plan
from experiments.store import Store

Word = Literal["PASS", "FAIL", "INCONCLUSIVE"]
EXPORTED = ("card.md", "card.json", "manifest.json", "config.json", "analysis.yaml", "analysis.json", "grades.parquet",
            "arms.json", "measures.json", "results.json", "report.html", "transfer.svg")  # fmt: skip
EXTRA = ("budgets.svg", "outcomes.json", "campaigns.svg")  # where the study has such things
# Two runs on unlike machines are two draws of the same students: their means may differ by this many standard errors.
TOLERANCE_SE = 3.0
# Below this many seeds the standard error itself is too uncertain, so this many points are allowed as well.
TOLERANCE_POINTS = 0.02


class Check(NamedTuple):
    """One claim with what was expected, what was got, and the tolerance that was applied."""

    claim: str
    word: Word
    expected: str
    got: str
    tolerance: str = "exact"


@contextmanager
def opened(run: Path) -> Iterator[Path]:
    """The folder of a run, or of an archive while it is needed; BadInput if it is neither."""
    if run.is_dir():
        if not (run / "manifest.json").is_file():
            raise BadInput(
                f"{run}: no manifest.json there; a run is a folder like runs/quickstart, or an export of one"
            )
        yield run
        return
    if not run.is_file():
        raise BadInput(f"{run}: no such run; a run is a folder like runs/quickstart, or an export of one")
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(run) as archive:
                strange = [name for name in archive.namelist() if Path(name).name != name]
                if strange:
                    raise BadInput(f"{run}: not an export of ours: it holds {strange[0]!r}")
                archive.extractall(folder)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise BadInput(f"{run}: not a whole archive ({error})") from error
        yield Path(folder)


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: missing or not JSON ({error})") from error


def study_of(home: Path) -> Study:
    """The study that a run's folder holds, resolved."""
    from pydantic import ValidationError

    try:
        return Study.model_validate(_load(home / "config.json"))
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{home / 'config.json'}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


# verify


def verify(home: Path, store: Store | None) -> list[Check]:
    """Digests, seal, completeness and every aggregate, recomputed from the grades; nothing is trained."""
    manifest = _load(home / "manifest.json")
    checks = [_digest(home, name, expected) for name, expected in manifest["files"].items()]
    try:
        study = study_of(home)
    except BadInput as error:
        return [*checks, Check("config.json is a study", "FAIL", "valid settings", str(error))]
    checks.append(_same("config is the manifest's", manifest["config_sha256"], digest(study.model_dump_json())))
    checks += _seal(home)
    planned, told = _planned(study, manifest)
    checks += told
    checks += _complete(home, planned) if planned else []
    checks += _code(manifest)
    checks += _aggregates(home, study, manifest.get("old"))
    if store is not None:
        checks += _artifacts(store, manifest)
        checks += _makers(store, manifest) if "made_by" in manifest else []
    return checks


def _same(claim: str, expected: str, got: str) -> Check:
    return Check(claim, "PASS" if expected == got else "FAIL", _short(expected), _short(got))


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _digest(home: Path, name: str, expected: str) -> Check:
    path = home / name
    got = digest(path.read_bytes()) if path.is_file() else "missing"
    return Check(f"{name} is as it was written", "PASS" if got == expected else "FAIL", expected[:16], got[:16])


def _seal(home: Path) -> list[Check]:
    try:
        kept = registration.seal(home)
    except BadInput as error:
        return [Check("the analysis is as it was frozen", "FAIL", "its seal", str(error))]
    carded = _load(home / "card.json")["preregistration"]["sha256"]
    return [_same("the analysis is as it was frozen", carded[:16], kept["sha256"][:16])]


def _planned(study: Study, manifest: dict[str, Any]) -> tuple[Plan | None, list[Check]]:
    """Plan the study again: its stages must be those of the manifest, and all of them must be done."""
    claim = "the settings lead to the stages that were run"
    try:
        planned = planning.make(study)
    except BadInput as error:
        return None, [Check(claim, "INCONCLUSIVE", f"{len(manifest['stages'])} stages", f"cannot plan here: {error}")]
    ours = {stage.key: stage for stage in planned.stages}
    theirs = {stage["key"]: stage for stage in manifest["stages"]} | dict.fromkeys(manifest["missing"])
    if ours.keys() == theirs.keys():
        return planned, [Check(claim, "PASS", f"{len(theirs)} stages", f"{len(ours)} stages")]
    return planned, [Check(claim, "FAIL", f"{len(theirs)} stages", _difference(ours, theirs))]


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """What the first stage that only we plan does otherwise than the nearest one that was run."""
    only, gone = [k for k in ours if k not in theirs], [k for k in theirs if k not in ours and theirs[k]]
    said = f"{len(only)} others"
    for key in only:
        mine = ours[key]
        near = [theirs[k] for k in gone if theirs[k]["kind"] == mine.kind]
        if near:
            changes = registration.changed(near[0]["settings"], mine.settings, mine.kind)
            return f"{said}; " + (
                f"{changes[0][0]}: {changes[0][1]!r} became {changes[0][2]!r}" if changes else "inputs differ"
            )
    return said


def _complete(home: Path, planned: Plan) -> list[Check]:
    """Every planned student has its grades: a missing seed is named."""
    from experiments.report import grades

    claim = "every planned student was graded"
    try:
        there = {(*key, seed) for key, sat in grades.read(home / "grades.parquet").items() for seed in sat.seeds}
    except BadInput as error:
        return [Check(claim, "FAIL", f"{len(planned.arms)} students", str(error))]
    lost = [arm for arm in planned.arms
            if (arm.task, arm.defense, arm.attacker, arm.budget, arm.split, arm.seed) not in there]  # fmt: skip
    if not lost:
        return [Check(claim, "PASS", f"{len(planned.arms)} students", f"{len(planned.arms)} students")]
    one = lost[0]
    return [Check(claim, "FAIL", f"{len(planned.arms)} students",
                  f"{len(lost)} missing, first {one.defense} {one.attacker} {one.task} seed {one.seed}")]  # fmt: skip


def _code(manifest: dict[str, Any]) -> list[Check]:
    """Results of one run are made by one code, with one set of libraries and threads; and is that what is here?"""
    claim = "one code made every result"
    try:
        makers, stages = manifest.get("made_by", []), manifest["stages"]
        if not any(makers):
            return [Check(claim, "INCONCLUSIVE", "what made them", "it was not recorded")]
        mixed = _mixture([makers[stage["made_by"]] for stage in stages], [stage["kind"] for stage in stages])
        mixed += _foreign(stages)
        held = {name: value for maker in makers for name, value in maker.get("code", {}).items()}
        said = Check(claim, "FAIL" if mixed else "PASS", f"{len(held)} modules", "; ".join(mixed) or "the same")
        here = {name: provenance.installed(name) for name in held}
        other = [f"{provenance.listed(provenance.differing(held, here))} changed"] if held != here else []
        before, now = makers[-1].get("libraries", {}), provenance.libraries()
        other += [f"{name} {before.get(name)} -> {now.get(name)}" for name in provenance.differing(before, now)]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        return [Check(claim, "FAIL", "what made them", f"manifest.json: {type(error).__name__}: {error}")]
    word: Word = "INCONCLUSIVE" if other else "PASS"
    return [said, Check("that code is installed here", word, "the same", "; ".join(other) or "the same")]


def _mixture(made: list[dict[str, Any]], kinds: list[str]) -> list[str]:
    """What is not the same in all results: a module, a kind's version, a library, threads."""
    unknown = sum(not maker for maker in made)
    mixed = [f"{unknown} of {len(made)} results were written before code was recorded"] * bool(unknown)
    seen: dict[str, dict[str, int]] = {}
    for maker, kind in zip(made, kinds, strict=True):
        one = {"threads": maker["threads"], f"version of {kind}": maker["version"]} if maker else {}
        for name, value in (maker.get("code", {}) | maker.get("libraries", {}) | one).items():
            held = seen.setdefault(name, {})
            held[str(value)] = held.get(str(value), 0) + 1
    several = {name: held for name, held in seen.items() if len(held) > 1}
    return mixed + [f"{name} is {' and '.join(f'{value} in {n}' for value, n in held.items())} results"
                    for name, held in list(several.items())[:5]]  # fmt: skip


def _foreign(stages: list[dict[str, Any]]) -> list[str]:
    """Results that were made of other inputs than those of this run."""
    here = {stage["key"]: provenance.contents(stage) for stage in stages}
    wrong = [
        f"{stage['kind']}/{stage['key']}" for stage in stages
        if isinstance(stage["inputs"], dict)
        and any(told and key in here and here[key] != told for key, told in stage["inputs"].items())
    ]  # fmt: skip
    return [f"{provenance.listed(wrong)} made of inputs that were made again since"] if wrong else []


def _aggregates(home: Path, study: Study, old: list[str] | None) -> list[Check]:
    """Every number of measures.json, results.json and the card, computed again from grades.parquet and arms.json."""
    from experiments.measure.contrast import Refuse
    from experiments.report import grades, measures

    claim = "every aggregate follows from the grades"
    try:
        outcomes = _load(home / "outcomes.json") if study.campaigns else []
        held = measures.measure(study, grades.read(home / "grades.parquet"), _load(home / "arms.json"), outcomes)
        held = json.loads(json.dumps(held if old is None else measures.marked(held, old)))
        stored = _load(home / "measures.json")
        pairs = [("measures.json", stored, held), ("results.json", _load(home / "results.json"), held["rows"]),
                 ("card.json", _load(home / "card.json")["results"], held["cases"])]  # fmt: skip
    except (BadInput, Refuse, KeyError, StopIteration) as error:
        return [Check(claim, "FAIL", "measures", f"{type(error).__name__}: {error}")]
    checks = []
    for name, expected, got in pairs:
        wrong = [one for one in registration.changed(expected, got) if not _close(one[1], one[2])]
        first = f"{wrong[0][0]} is {wrong[0][2]!r}, the file says {wrong[0][1]!r}" if wrong else "the same"
        checks.append(Check(f"{claim}: {name}", "FAIL" if wrong else "PASS", "the same", first, "1e-9 relative"))
    return checks


def _close(a: Any, b: Any) -> bool:
    """Equal up to what another build of a linear algebra library adds up otherwise."""
    numbers = isinstance(a, int | float) and isinstance(b, int | float) and not isinstance(a, bool)
    return numbers and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def _artifacts(store: Store, manifest: dict[str, Any]) -> list[Check]:
    """Each stage's files against the digests in the manifest, where the store is beside the run."""
    wrong, absent = [], 0
    for stage in manifest["stages"]:
        folder = store.folder(stage["kind"], stage["key"])
        if not folder.is_dir():
            absent += 1
            continue
        for name, expected in stage["files"].items():
            if not (folder / name).is_file() or digest((folder / name).read_bytes()) != expected:
                wrong.append(f"{stage['kind']}/{stage['key']}/{name}")
    total = len(manifest["stages"])
    claim = "every artifact is the one that was made"
    if wrong:
        return [Check(claim, "FAIL", f"{total} stages", f"{len(wrong)} files altered or missing, first {wrong[0]}")]
    if absent:
        return [Check(claim, "INCONCLUSIVE", f"{total} stages", f"{absent} are not in the store")]
    return [Check(claim, "PASS", f"{total} stages", f"{total} stages")]


def _makers(store: Store, manifest: dict[str, Any]) -> list[Check]:
    """What the store says of who made each result against what the manifest says."""
    wrong = []
    for stage in manifest["stages"]:
        name = f"{stage['kind']}/{stage['key']}"
        try:
            done = store.done(stage["kind"], stage["key"])
            read = done["inputs"] if provenance.recorded(done) else stage["inputs"]
            if (provenance.maker(done), read) != (manifest["made_by"][stage["made_by"]], stage["inputs"]):
                wrong.append(name)
        except BadInput:
            wrong += [name] if store.folder(stage["kind"], stage["key"]).is_dir() else []
        except (KeyError, IndexError, TypeError):
            wrong.append(name)
    got = f"{len(wrong)} differ: {provenance.listed(wrong)}" if wrong else "the same"
    return [Check("the store names the same code and inputs", "FAIL" if wrong else "PASS", "the same", got)]


# reproduce


def smoke(study: Study) -> Study:
    """The cheapest study whose stages are all among the full one's: floors, ceiling and one defence, first seed."""
    block = study.blocks[0]
    first = next((d for d in block.defenses if d != "none"), "none")
    attackers = [a for a in block.attackers if _meets(first, a)][:1] or block.attackers[:1]
    small = block.model_copy(update={"tasks": block.tasks[:1], "defenses": ["none", first], "attackers": attackers,
                                     "budgets": block.budgets[:1]})  # fmt: skip
    measure = study.measure.model_copy(update={"plateau": False})
    return study.model_copy(update={"seeds": study.seeds[:1], "selection_seeds": study.selection_seeds[:1],
                                    "baseline_seeds": 1, "measure": measure, "blocks": [small],
                                    "campaigns": None})  # fmt: skip


def _meets(defense: str, attacker: str) -> bool:
    text = guard(defense).chain.point == "text"
    return not text or attack(attacker).needs_profile == "text"


def compare(expected: Path, study: Study, store: Store, tier: str, threads: int = 1) -> list[Check]:
    """What was run again in `store` beside the expected run: bytes, numbers within tolerance, words."""
    from experiments.report import folder, grades, measures

    manifest, planned = _load(expected / "manifest.json"), planning.make(study)
    checks = [_machine(manifest, folder.machine(threads), folder.versions())]
    theirs = {stage["key"]: stage["files"] for stage in manifest["stages"]}
    ours = {s.key: _load(store.folder(s.kind, s.key) / "done.json")["files"] for s in planned.stages}
    shared = [key for key in ours if key in theirs]
    unlike = [key for key in shared if ours[key] != theirs[key]]
    same_machine = checks[0].word == "PASS"
    # On another class of machine other bytes are expected, and say nothing.
    word: Word = "PASS" if shared and not unlike else "FAIL" if same_machine or not shared else "INCONCLUSIVE"
    checks.append(Check(f"bitwise: {len(shared)} stages have the same bytes", word, f"{len(shared)} the same",
                        f"{len(shared) - len(unlike)} the same"))  # fmt: skip
    graded = grades.read(grades.collect(planned, store))
    before = grades.read(expected / "grades.parquet")
    checks += [_accuracy(key, before[key], sat) for key, sat in graded.items() if key in before]
    if tier == "full":
        now = measures.plain(measures.measure(study, graded, grades.arms(planned, store)))
        checks += _words(_load(expected / "measures.json")["cases"], now["cases"])
    else:
        checks.append(Check("verdicts", "INCONCLUSIVE", "words", "a smoke test has too few seeds", "--tier full"))
    return checks


def _machine(manifest: dict[str, Any], here: dict[str, Any], versions: dict[str, str]) -> Check:
    """Whether bytes may be expected to be equal: same processor class, device, threads, versions and sources."""
    from experiments.report import folder

    names = ("cpu_capability", "device", "threads", "python")
    before = {n: manifest["machine"][n] for n in names} | manifest["versions"]
    now = {n: here[n] for n in names} | versions
    before["sources"], now["sources"] = manifest["code"]["sources_sha256"][:12], folder.code()["sources_sha256"][:12]
    changes = [f"{name} {a} -> {b}" for name, a, b in registration.changed(before, now)]
    return Check("same class of machine, versions and sources", "INCONCLUSIVE" if changes else "PASS", "the same",
                 "; ".join(changes) or "the same")  # fmt: skip


def _accuracy(key: Any, before: Any, now: Any) -> Check:
    """Mean accuracy over the seeds that both have, within what two draws of the same students may differ by."""
    from experiments.measure.power import components

    common = [seed for seed in now.seeds if seed in before.seeds]
    pick = lambda sat: sat.right_SN[[sat.seeds.index(seed) for seed in common]]  # noqa: E731
    claim = " ".join(str(part) for part in key if part not in ("", 0))
    if not common:
        return Check(claim, "INCONCLUSIVE", f"seeds {before.seeds}", f"seeds {now.seeds}")
    a, b = pick(before), pick(now)
    spread = components(before.right_SN).seed if len(before.seeds) > 1 else 0.0
    noise = a.mean() * (1 - a.mean()) / a.size
    allowed = TOLERANCE_POINTS + TOLERANCE_SE * math.sqrt(2 * spread / len(common) + 2 * noise)
    gap = abs(float(a.mean() - b.mean()))
    return Check(claim, "PASS" if gap <= allowed else "FAIL", f"{100 * a.mean():.1f} %", f"{100 * b.mean():.1f} %",
                 f"{100 * allowed:.1f} points")  # fmt: skip


def _words(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> list[Check]:
    """The verdicts: the conclusion level of determinism."""
    at = lambda case: (case["task"], case["budget"], case["defense"])  # noqa: E731
    got = {at(case): case for case in now}
    checks = []
    for case in before:
        name = " ".join(map(str, at(case)))
        other = got.get(at(case))
        if other is None:
            checks.append(Check(f"verdict {name}", "FAIL", case["verdict"] or "-", "no such case"))
        elif case["verdict"]:
            checks.append(_same(f"verdict {name}", case["verdict"], other["verdict"]))
    return checks


# export and diff


def export(home: Path, target: Path) -> list[str]:
    """Write what a reviewer needs as one archive, the same bytes for the same run; returns the names in it."""
    missing = [name for name in EXPORTED if not (home / name).is_file()]
    if missing:
        raise BadInput(f"{home}: cannot be exported, {', '.join(missing)} missing; `distill-resist report` writes them")
    lock = "\n".join(_load(home / "manifest.json")["lock"]) + "\n"
    held = {name: (home / name).read_bytes() for name in EXPORTED} | {"lock.txt": lock.encode()}
    held |= {more.name: more.read_bytes() for name in EXTRA if (more := home / name).is_file()}
    part = target.with_name(f".{target.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in held.items():
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return list(held)


class Difference(NamedTuple):
    """Two runs side by side: settings that differ, and results by arm."""

    settings: list[tuple[str, Any, Any]]
    results: list[tuple[str, dict[str, Any] | None, dict[str, Any] | None]]


def difference(a: Path, b: Path) -> Difference:
    """Settings and results of two runs; arms that only one has are None in the other."""
    settings = registration.changed(_load(a / "config.json"), _load(b / "config.json"))
    rows = [{f"{r['task']} {r['attacker']} {r['defense']} {r['budget']}": r for r in _load(one / "results.json")}
            for one in (a, b)]  # fmt: skip
    names = dict.fromkeys([*rows[0], *rows[1]])
    return Difference(settings, [(name, rows[0].get(name), rows[1].get(name)) for name in names])
