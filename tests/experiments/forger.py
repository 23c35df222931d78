"""A careful forger: whoever changes one thing makes all that
follows from it fit.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distill.completions import BadInput, digest
from experiments import preregistration
from experiments.analysis import card, summary
from experiments.analysis.exhibits import exhibits
from experiments.planning import plan as planning
from experiments.report import card as card_page
from experiments.report import html
from experiments.results import grades_file, read
from experiments.results.manifest import Manifest, Seal
from experiments.results.schema.arms import ARM_RECORDS
from experiments.results.schema.measures import Measures
from experiments.results.table import jsonable
from experiments.review import form
from experiments.stages.stage import canonical


def load(home: Path, name: str) -> Any:
    return json.loads((home / name).read_text())


def dump(home: Path, name: str, value: Any) -> None:
    indent = None if name == preregistration.SEAL else 1
    (home / name).write_bytes(json.dumps(value, indent=indent, allow_nan=False).encode())


def edit(home: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON file in place; `change` may also return what it is to be."""
    content = load(home, name)
    dump(home, name, changed if (changed := change(content)) is not None else content)


def table(home: Path, column: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a column of the grades, row by row."""
    path = home / "grades.parquet"
    grades = pq.read_table(path)
    place, kind = grades.schema.get_field_index(column), grades.schema.field(column).type
    values = pa.array([change(row) for row in grades.to_pylist()], kind)
    path.write_bytes(grades_file.spelled(grades.set_column(place, column, values)))


def reseal(home: Path) -> None:
    """All digests, and all that a manifest counts, are made to fit."""
    manifest = load(home, "manifest.json")
    manifest["fingerprint"] = fingerprint_of(manifest)
    with contextlib.suppress(BadInput):
        manifest["config_sha256"] = digest(form.study_of(home).model_dump_json())
    manifest["files"] = {name: digest((home / name).read_bytes()) for name in manifest["files"]}
    dump(home, "manifest.json", manifest)


def fingerprint_of(manifest: dict[str, Any]) -> str:
    """Over the digests of the stages that it lists."""
    stages = sorted([stage["kind"], stage["key"], stage["files"]] for stage in manifest["stages"])
    return digest(canonical(stages))


def rewrite(home: Path) -> None:
    """Everything that `report` writes, from the settings, grades and arms that are there now."""
    study, manifest = form.study_of(home), load(home, "manifest.json")
    planned, graded = planning.make(study, opens=False), grades_file.read(home / "grades.parquet")
    records = ARM_RECORDS.validate_python(load(home, "arms.json"))
    outcomes, marked = read.outcomes_of(home), read.marked_of(home)
    measures = summary.measure(study, graded, records, outcomes, manifest["old"], marked)
    dump(home, "measures.json", jsonable(measures))
    dump(home, "results.json", jsonable(measures.rows))
    shown = exhibits(graded, planned.notes, fingerprint_of(manifest))
    for name, data in html.pages(measures, shown).items():
        (home / name).write_bytes(data)
    reseal(home)
    recard(home, planned)


def recard(home: Path, planned: Any = None) -> None:
    """The card, from the measures and the manifest that are there now."""
    planned = planned or planning.make(form.study_of(home), {})
    fields = card.card(
        planned,
        Measures.model_validate(load(home, "measures.json")),
        Manifest.model_validate(load(home, "manifest.json")),
        Seal.model_construct(**load(home, preregistration.SEAL)),
        preregistration.deviations(planned, home),
    )
    dump(home, "card.json", jsonable(fields))
    (home / "card.md").write_text(card_page.markdown(fields))
    reseal(home)
