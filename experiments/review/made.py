"""What a run says made it: its manifest beside its own stages, its lock and its settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill.completions import digest
from experiments import environment, provenance, run_folder, source_code
from experiments.planning.plan import Plan
from experiments.results import archive, read
from experiments.results.manifest import Maker, Manifest, StageRecord, UnknownMaker
from experiments.results.table import jsonable
from experiments.review import (
    Check,
    Word,
)
from experiments.review.form import Run
from experiments.review.recomputed import difference, unlike
from experiments.stages.stage import canonical
from experiments.store import Origin

FOLLOWS = "the manifest follows from its stages"


def follows(run: Run, planned: Plan | None) -> list[Check]:
    """What of the manifest follows from its own stages, its lock and the settings.

    Args:
        run: as it was read.
        planned: the plan of its settings; None where nothing can be planned.
    """
    manifest = run.manifest
    computed = _computed(run, planned)
    stored = jsonable(manifest)
    got = difference(next(unlike(computed, {name: stored[name] for name in computed}), None))
    packages = run.home / archive.LOCK
    if got == "the same" and packages.exists():
        if read.content(run.home, archive.LOCK) != archive.lock(manifest.lock):
            got = "lock.txt is not the manifest's lock"
    word: Word = "PASS" if got == "the same" else "FAIL"
    return [Check(FOLLOWS, word, "the same", got)]


def _computed(run: Run, planned: Plan | None) -> dict[str, Any]:
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
        "versions": {name: locked.get(name) for name in environment.LIBRARIES},
    }
    if planned is None:
        return computed
    # Other bytes of a plugin are other code, which is told elsewhere.
    used = provenance.plugins(stage for stage in planned.stages if stage.key in manifest.by_key)
    plugins = {name: manifest.plugins.get(name, "") for name in used}
    return computed | {"seeds": run_folder.seeds(planned), "plugins": plugins}


def code(manifest: Manifest, planned: Plan | None) -> list[Check]:
    """Results of one run are made by one code, with one set of libraries and threads; and is that
    what is here?

    Args:
        manifest: of the run.
        planned: the plan of its settings; None where nothing can be planned.
    """
    claim = "one code made every result"
    makers = [maker for maker in manifest.made_by if isinstance(maker, Maker)]
    if not makers:
        return [Check(claim, "INCONCLUSIVE", "what made them", "it was not recorded")]
    mixed = [*_mixture(manifest), *_unrecorded(manifest), *_foreign(manifest.stages)]
    names = {name for maker in makers for name in maker.code}
    got = "; ".join(mixed) or "the same"
    word: Word = "FAIL" if mixed else "PASS"
    return [Check(claim, word, f"{len(names)} modules", got), _installed(manifest, planned)]


def _installed(manifest: Manifest, planned: Plan | None) -> Check:
    """Whether what made the results is what would make them here: all modules that a stage runs,
    and no others.
    """
    changed, others = set[str](), _other_plugins(manifest, planned)
    for maker, made in _makers(manifest, planned):
        code: Mapping[str, str | None] = made.code or {
            name: source_code.installed(name) for name in maker.code
        }
        changed |= {*provenance.differing(maker.code, code)}
        libraries = made.libraries or {}
        others |= {
            f"{name} {maker.libraries.get(name)} -> {libraries.get(name)}"
            for name in provenance.differing(maker.libraries, libraries)
        }
        if made.version not in (None, maker.version):
            others.add(f"version {maker.version} of a stage -> {made.version}")
    changes = [f"{provenance.listed(sorted(changed))} changed"] if changed else []
    got = "; ".join([*changes, *sorted(others)]) or "the same"
    word: Word = "PASS" if got == "the same" else "INCONCLUSIVE"
    return Check("that code is installed here", word, "the same", got)


def _other_plugins(manifest: Manifest, planned: Plan | None) -> set[str]:
    """Plugins whose files are not those that are here; their code is among the modules as well."""
    installed = provenance.plugins(planned.stages) if planned else {}
    return {
        f"another file of plugin {name}"
        for name in installed.keys() & manifest.plugins.keys()
        if installed[name] != manifest.plugins[name]
    }


def _makers(manifest: Manifest, planned: Plan | None) -> Iterator[tuple[Maker, Origin]]:
    """What made each result, with what would make it here; where nothing could be planned, that is
    only its libraries.
    """
    if planned is None:
        ours = Origin(libraries=provenance.libraries())
        yield from ((maker, ours) for maker in manifest.made_by if isinstance(maker, Maker))
        return
    for stage in planned.stages:
        record = manifest.by_key.get(stage.key)
        maker = manifest.made_by[record.made_by] if record else None
        if isinstance(maker, Maker):
            yield maker, provenance.now(stage, maker.threads)


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


def _unrecorded(manifest: Manifest) -> list[str]:
    """Results that say what made them but not of what; both are written at once."""
    blank = [
        f"{stage.kind}/{stage.key}"
        for stage in manifest.stages
        if isinstance(manifest.made_by[stage.made_by], Maker) and "" in stage.inputs.values()
    ]
    return [f"{provenance.listed(blank)} made of inputs that are not named"] if blank else []


def _foreign(stages: Sequence[StageRecord]) -> list[str]:
    """Results that were made of other inputs than those of this run."""
    digests = {stage.key: provenance.contents(stage.files) for stage in stages}
    wrong = [f"{stage.kind}/{stage.key}" for stage in stages if _is_foreign(stage, digests)]
    if not wrong:
        return []
    return [f"{provenance.listed(wrong)} made of inputs that were made again since"]


def _is_foreign(stage: StageRecord, digests: Mapping[str, str]) -> bool:
    return any(told and digests.get(key, told) != told for key, told in stage.inputs.items())
