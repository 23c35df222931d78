"""A run beside the store that it was made in: each result's files and record, and what they add up
to.
"""

from __future__ import annotations

from typing import Any

from distill.completions import BadInput
from experiments import provenance, run_folder
from experiments.analysis import campaign_yield, summary
from experiments.planning.plan import Plan
from experiments.results import collect
from experiments.review import Check, archive, form
from experiments.review.form import Run
from experiments.review.recomputed import said, unlike
from experiments.store import Store


def artifacts(store: Store, manifest: dict[str, Any]) -> list[Check]:
    """Each stage's files against the digests in the manifest, where the store is beside the run."""
    wrong, absent = [], 0
    for stage in manifest["stages"]:
        where = store.folder(stage["kind"], stage["key"])
        if not where.is_dir():
            absent += 1
            continue
        for name, expected in stage["files"].items():
            if not (where / name).is_file() or form.sha(where / name) != expected:
                wrong.append(f"{stage['kind']}/{stage['key']}/{name}")
    total = len(manifest["stages"])
    claim = "every artifact is the one that was made"
    if wrong:
        return [
            Check(
                claim,
                "FAIL",
                f"{total} stages",
                f"{len(wrong)} files altered or missing, first {wrong[0]}",
            )
        ]
    if absent:
        return [Check(claim, "INCONCLUSIVE", f"{total} stages", f"{absent} are not in the store")]
    return [Check(claim, "PASS", f"{total} stages", f"{total} stages")]


def records(store: Store, manifest: dict[str, Any]) -> list[Check]:
    """What the store noted of each result, who made it of what and how long it took, against the
    manifest.
    """
    wrong = []
    for stage in manifest["stages"]:
        if not store.folder(stage["kind"], stage["key"]).is_dir():
            continue
        try:
            done = store.done(stage["kind"], stage["key"])
        except BadInput:
            done = {}
        told = {name: stage[name] for name in run_folder.NOTED if name in stage}
        inputs = {} if provenance.recorded(done) else {"inputs": stage["inputs"]}
        if (provenance.maker(done), run_folder.noted(done) | inputs) != (
            manifest["made_by"][stage["made_by"]],
            told,
        ):
            wrong.append(f"{stage['kind']}/{stage['key']}")
    got = f"{len(wrong)} differ: {provenance.listed(wrong)}" if wrong else "the same"
    claim = "the store names the same code and inputs"
    return [Check(claim, "FAIL" if wrong else "PASS", "the same", got)]


def collected(run: Run, planned: Plan, store: Store) -> list[Check]:
    """Grades and arms, gathered from the store again."""
    told = collect.collect(planned, store) == form.content(
        run.home, "grades.parquet", archive.LARGEST
    )
    wrong = next(unlike(summary.plain(collect.arms(planned, store)), run.arms), None)
    wrong = wrong or next(
        unlike(summary.plain(campaign_yield.collect(planned, store)), run.outcomes), None
    )
    got = said(wrong) if told else "grades.parquet is not what exams in the store add up to"
    return [
        Check(
            "the run holds what the store holds",
            "PASS" if got == "the same" else "FAIL",
            "the same",
            got,
        )
    ]
