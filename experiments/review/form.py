"""The form of a run's files: each is read once, and is what a schema says before anything follows
from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue, TypeAdapter

from distill.completions import BadInput
from experiments.results import grades_file
from experiments.results.grades import NUMBERS, WHO, Grades
from experiments.results.manifest import Manifest, Seal
from experiments.results.names import ANALYSIS, SEAL
from experiments.results.read import (
    first_fault,
    manifest_of,
    measures_of,
    outcomes_of,
    own,
    parsed,
    shaped,
)
from experiments.results.schema.arms import (
    ARM_RECORDS,
    FinishedStudent,
    MissingStudent,
    StudentRecord,
)
from experiments.results.schema.card import Card
from experiments.results.schema.measures import Measures
from experiments.results.schema.outcomes import CampaignOutcome
from experiments.results.schema.rows import Row
from experiments.settings import reading
from experiments.settings.entries import checked
from experiments.settings.schema import Study

LARGEST = 2 * 2**30  # bytes that grades may unpack to
ROWS = 2**16


@dataclass(frozen=True)
class Run:
    """What a run's files hold, each of its form."""

    home: Path
    study: Study
    manifest: Manifest
    arms: list[FinishedStudent | MissingStudent]
    seal: Seal
    frozen: JsonValue
    outcomes: list[CampaignOutcome]
    measures: Measures
    results: list[Row]
    card: Card
    grades: Grades


def study_of(home: Path) -> Study:
    """The study that a run's folder holds, resolved."""
    raw = parsed(home, "config.json")
    try:
        study: Study = checked(Study, raw, "config.json")
    except RecursionError as error:
        raise BadInput(f"config.json: {first_fault(error)}") from None
    return study


def frozen(home: Path) -> Any:
    """The analysis that was frozen; BadInput for YAML that holds more than plain values."""
    try:
        return reading.read(own(home, ANALYSIS))
    except BadInput as error:
        raise BadInput(str(error).replace(f"{home}/", "")) from None


def graded(home: Path) -> Grades:
    """The grades; BadInput if their columns are not those of exams, or what they unpack to would
    fill the memory.
    """
    import pyarrow as pa

    name = FILES["grades"]
    path = own(home, name, LARGEST)
    try:
        _check_columns(path)
        return grades_file.read(path)
    except BadInput as error:
        raise BadInput(f"{name}: {error}".replace(f"{home}/", "")) from None
    except (
        OSError,
        pa.ArrowException,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        OverflowError,
    ) as error:
        raise BadInput(
            f"{name}: not a whole file of grades ({' '.join(str(error).split())[:120]})"
        ) from None


TEXTS = (
    *(name for name in WHO if name not in ("budget", "seed")),
    *("item", "cluster", "prompt", "text", "said", "outcome"),
)
"""Columns of grades that hold text."""


def _check_columns(path: Path) -> None:
    """BadInput unless the columns are those of exams and fit into memory; only their sizes and
    what says how often a text stands are read.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _check_kinds(file.schema_arrow)
        metadata = file.metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    if unpacked > LARGEST or metadata.num_rows > LARGEST // 64:
        raise BadInput("is too large to be one")
    _check_texts(path)


def _check_kinds(schema: Any) -> None:
    """BadInput unless each column of exams stands there once, with its kind, and no other."""
    import pyarrow as pa

    kinds = dict.fromkeys(TEXTS, pa.string()) | dict.fromkeys(NUMBERS, pa.float64())
    kinds |= dict.fromkeys(("budget", "seed", "tokens"), pa.int64()) | {"finished": pa.bool_()}
    there = {column.name: column.type for column in schema}
    if there != kinds or len(schema) > len(there):
        wrong = sorted(name for name in {*there, *kinds} if there.get(name) != kinds.get(name))
        raise BadInput(
            f"columns are not those of exams: {', '.join(wrong)[:120] or 'one stands twice'}"
        )


def _check_texts(path: Path) -> None:
    """BadInput where a text is missing, or all of them together are longer than exams are."""
    import pyarrow.parquet as pq

    size = 0
    # As a dictionary a text that stands a million times is held once.
    with pq.ParquetFile(path, read_dictionary=[*TEXTS]) as file:
        for batch in file.iter_batches(ROWS, columns=[*TEXTS]):
            size += sum(_unpacked(batch.column(name), name) for name in TEXTS)
            if size > LARGEST:
                raise BadInput("holds more text than exams have")


def _unpacked(column: Any, name: str) -> int:
    """Bytes that a column's texts unpack to."""
    import pyarrow.compute as pc

    if column.null_count and name != "said":
        raise BadInput(f"{name} is missing in a row")
    bytes_E = pc.binary_length(column.dictionary).to_numpy(zero_copy_only=False)
    entry_M = column.indices.drop_null().to_numpy(zero_copy_only=False)
    return int(bytes_E[entry_M].sum())


FILES = {
    "study": "config.json",
    "manifest": "manifest.json",
    "arms": "arms.json",
    "seal": SEAL,
    "frozen": ANALYSIS,
    "outcomes": "outcomes.json",
    "measures": "measures.json",
    "results": "results.json",
    "card": "card.json",
    "grades": "grades.parquet",
}
"""The parts of a run and the files that they are in."""


PARTS: dict[str, Callable[[Path], Any]] = {
    "study": study_of,
    "manifest": manifest_of,
    "arms": lambda home: shaped(home, FILES["arms"], ARM_RECORDS),
    "seal": lambda home: shaped(home, SEAL, TypeAdapter(Seal)),
    "frozen": frozen,
    "outcomes": outcomes_of,
    "measures": measures_of,
    "results": lambda home: shaped(home, FILES["results"], TypeAdapter(list[Row])),
    "card": lambda home: shaped(home, FILES["card"], TypeAdapter(Card)),
    "grades": graded,
}
"""How each part is read; BadInput if its file is not of its form."""
assert PARTS.keys() == FILES.keys() and set(StudentRecord.model_fields) == {*WHO}
