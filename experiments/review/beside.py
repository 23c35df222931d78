"""A run beside the store that it was made in: each result's files and record, and what they add up
to.
"""

from __future__ import annotations

from pathlib import Path

from distill.completions import BadInput, file_digest
from experiments import provenance, run_folder
from experiments.analysis import campaign_outcomes, marks
from experiments.planning.plan import Plan
from experiments.results import archive, collect, read
from experiments.results.manifest import Manifest, StageRecord
from experiments.results.table import jsonable
from experiments.review import Check, Word
from experiments.review.form import Run
from experiments.review.recomputed import difference, unlike
from experiments.store import Store, files_in, is_own


def artifacts(store: Store, manifest: Manifest) -> list[Check]:
    """Each stage's files against the digests in the manifest, where the store is beside the run.

    Args:
        store: beside the run.
        manifest: of the run.
    """
    stored = [stage for stage in manifest.stages if store.folder(stage.kind, stage.key).is_dir()]
    wrong = [name for stage in stored for name in _altered(stage, store)]
    claim, total = "every artifact is the one that was made", f"{len(manifest.stages)} stages"
    if wrong:
        got = f"{len(wrong)} files altered or missing, first {wrong[0]}"
        return [Check(claim, "FAIL", total, got)]
    if absent := len(manifest.stages) - len(stored):
        return [Check(claim, "INCONCLUSIVE", total, f"{absent} are not in the store")]
    return [Check(claim, "PASS", total, total)]


def _altered(stage: StageRecord, store: Store) -> list[str]:
    """Files of a result that are not those that were made. A link leads out of the store and is not
    followed.
    """
    folder = store.folder(stage.kind, stage.key)
    if not is_own(store.root, folder):
        return [f"{stage.kind}/{stage.key}, a link"]
    return [
        f"{stage.kind}/{stage.key}/{name}"
        for name in sorted({*stage.files} | files_in(folder))
        if not _is_made(store, folder / name, stage.files.get(name))
    ]


def _is_made(store: Store, path: Path, expected: str | None) -> bool:
    return is_own(store.root, path) and path.is_file() and file_digest(path) == expected


def records(store: Store, manifest: Manifest) -> list[Check]:
    """What the store noted of each result, who made it of what and how long it took, against the
    manifest.

    Args:
        store: beside the run.
        manifest: of the run.
    """
    wrong = [
        f"{stage.kind}/{stage.key}"
        for stage in manifest.stages
        if store.folder(stage.kind, stage.key).is_dir() and not _is_noted(store, manifest, stage)
    ]
    got = f"{len(wrong)} differ: {provenance.listed(wrong)}" if wrong else "the same"
    claim = "the store names the same code and inputs"
    return [Check(claim, "FAIL" if wrong else "PASS", "the same", got)]


def _is_noted(store: Store, manifest: Manifest, stage: StageRecord) -> bool:
    """Whether the store's record of a result says what the manifest says."""
    path = store.folder(stage.kind, stage.key) / "done.json"
    if not (is_own(store.root, path) and path.is_file() and path.stat().st_size <= read.MOST):
        return False
    try:
        record = store.done(stage.kind, stage.key)
    except BadInput:
        return False
    shown = {name: v for name, v in jsonable(stage).items() if name in run_folder.NOTED}
    inputs = {} if record.is_recorded else {"inputs": stage.inputs}
    if provenance.maker(record) != jsonable(manifest.made_by[stage.made_by]):
        return False
    return run_folder.noted(record) | inputs == shown


def collected(run: Run, planned: Plan, store: Store) -> list[Check]:
    """Grades and arms, gathered from the store again.

    Args:
        run: as it was read.
        planned: the plan of its settings.
        store: with all of its results.
    """
    grades = read.content(run.home, "grades.parquet", archive.LARGEST)
    wrong = next(unlike(jsonable(collect.arms(planned, store)), jsonable(run.arms)), None)
    if wrong is None:
        outcomes = jsonable(campaign_outcomes.collect(planned, store))
        wrong = next(unlike(outcomes, jsonable(run.outcomes)), None)
    if wrong is None:
        marked = jsonable(marks.collect(planned, store))
        wrong = next(unlike(marked, jsonable(run.marked)), None)
    got = difference(wrong)
    if collect.collect(planned, store) != grades:
        got = "grades.parquet is not what exams in the store add up to"
    word: Word = "PASS" if got == "the same" else "FAIL"
    return [Check("the run holds what the store holds", word, "the same", got)]
