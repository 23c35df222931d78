"""The form of a run's files: each is read once, and is what a schema says before anything follows
from it.
"""

from __future__ import annotations

import math
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
    marked_of,
    measures_of,
    outcomes_of,
    own_file,
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
from experiments.results.schema.marks import MarkedStudent
from experiments.results.schema.measures import Measures
from experiments.results.schema.outcomes import CampaignOutcome
from experiments.results.schema.rows import Row
from experiments.settings import reading
from experiments.settings.entries import checked
from experiments.settings.schema import Study
from experiments.stages.grades import SAMPLED

LARGEST = 2 * 2**30  # bytes that grades may unpack to
MOST_ROWS = 2**21  # four times those of the study `matrix`
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
    marked: list[MarkedStudent]
    measures: Measures
    results: list[Row]
    card: Card
    grades: Grades


def study_of(home: Path) -> Study:
    """The study that a run's folder holds, resolved.

    Args:
        home: the run's folder.

    Raises:
        BadInput: the settings are missing, damaged, or none of a study.
    """
    raw = parsed(home, "config.json")
    try:
        study: Study = checked(Study, raw, "config.json")
    except RecursionError as error:
        raise BadInput(f"config.json: {first_fault(error)}") from None
    return study


def frozen(home: Path) -> Any:
    """The analysis that was frozen.

    Args:
        home: the run's folder.

    Raises:
        BadInput: it is missing, or YAML that holds more than plain values.
    """
    try:
        return reading.read(own_file(home, ANALYSIS))
    except BadInput as error:
        raise BadInput(str(error).replace(f"{home}/", "")) from None


def graded(home: Path) -> Grades:
    """The grades.

    Args:
        home: the run's folder.

    Raises:
        BadInput: they are missing or damaged, their columns are not those of exams, or what they
            unpack to would fill the memory.
    """
    import pyarrow as pa

    name = FILES["grades"]
    path = own_file(home, name, LARGEST)
    try:
        _check_columns(path)
        _check_values(path)
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


WHOLE = ("budget", "seed", "tokens")  # numbers
TEXTS = (
    *(name for name in WHO if name not in WHOLE),
    *("item", "cluster", "prompt", "text", "final", "outcome"),
)
OPTIONAL = ("final", "tokens", "bits_per_byte", "nats", SAMPLED)  # no value where it is not known
MOST = {"l1": 2.0, "flips": 1.0} | dict.fromkeys(("nats", "bits_per_byte", "passes", "tokens"), 1e9)
"""Of each number of an exam; none is negative, up to what is lost in rounding. KL has no end."""
ROUNDING = 1e-6


def _check_columns(path: Path) -> None:
    """BadInput unless a file has the columns of exams and nothing beside, in a size that they
    have.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, Any] = dict.fromkeys(TEXTS, pa.string())
    kinds |= dict.fromkeys(NUMBERS, pa.float64()) | dict.fromkeys(WHOLE, pa.int64())
    kinds["finished"] = pa.bool_()
    size_of_file = path.stat().st_size
    with pq.ParquetFile(path) as file:
        columns = {field.name: field.type for field in file.schema_arrow}
        kinds |= {name: pa.int64() for name in {SAMPLED} & columns.keys()}
        if columns != kinds or len(file.schema_arrow) > len(columns):
            names = {*columns, *kinds}
            wrong = sorted(name for name in names if columns.get(name) != kinds.get(name))
            raise BadInput(
                f"columns are not those of exams: {', '.join(wrong)[:120] or 'one stands twice'}"
            )
        if file.schema_arrow.metadata or any(field.metadata for field in file.schema_arrow):
            raise BadInput("says more than its columns")
        rows, count = file.metadata.num_rows, file.metadata.num_row_groups
        # Rows that say the same take no place in the file, and as much memory as others.
        if max(rows, count) > MOST_ROWS:
            raise BadInput(f"has {max(rows, count)} rows, at most {MOST_ROWS}")
        groups = [file.metadata.row_group(i) for i in range(count)]
        if HEADS + file.metadata.serialized_size + sum(map(_packed, groups)) != size_of_file:
            raise BadInput("holds more than its columns")
        size = sum(group.total_byte_size for group in groups)
        if size > LARGEST or sum(group.num_rows for group in groups) != rows:
            raise BadInput("is too large to be one, or has other rows than it says")


HEADS = 12  # bytes of a Parquet file beside its columns and the record of them


def _packed(group: Any) -> int:
    """The bytes that a row group takes in the file."""
    columns = (group.column(place) for place in range(group.num_columns))
    return sum(column.total_compressed_size for column in columns)


def _check_values(path: Path) -> None:
    """BadInput where a row lacks a value or has one that no exam can have, or where all texts would
    fill the memory.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    size = 0
    # As dictionaries: a text that stands a million times is there once.
    with pq.ParquetFile(path, read_dictionary=[*TEXTS]) as file:
        for batch in file.iter_batches(ROWS):
            for name in batch.schema.names:
                if batch.column(name).null_count and name not in OPTIONAL:
                    raise BadInput(f"{name} is missing in a row")
            for name in NUMBERS:
                _check_range(name, batch.column(name))
                if name not in OPTIONAL and pc.any(pc.is_nan(batch.column(name))).as_py():
                    raise BadInput(f"{name} is no number in a row")
            size += sum(_bytes(batch.column(name)) for name in TEXTS)
            if size > LARGEST:
                raise BadInput("holds more text than exams have")


def _check_range(name: str, values: Any) -> None:
    import pyarrow.compute as pc

    low, high = pc.min_max(values).as_py().values()
    if low is not None and low < -ROUNDING:
        raise BadInput(f"{name} is {low} in a row")
    if high is not None and high > MOST.get(name, math.inf) + ROUNDING:
        raise BadInput(f"{name} is {high} in a row")


def _bytes(texts: Any) -> int:
    """Of a column of texts, each counted as often as it stands there."""
    import pyarrow.compute as pc

    lengths = pc.binary_length(texts.dictionary).to_numpy(zero_copy_only=False)
    return int(lengths[texts.indices.drop_null().to_numpy(zero_copy_only=False)].sum())


FILES = {
    "study": "config.json",
    "manifest": "manifest.json",
    "arms": "arms.json",
    "seal": SEAL,
    "frozen": ANALYSIS,
    "outcomes": "outcomes.json",
    "marked": "marks.json",
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
    "marked": marked_of,
    "measures": measures_of,
    "results": lambda home: shaped(home, FILES["results"], TypeAdapter(list[Row])),
    "card": lambda home: shaped(home, FILES["card"], TypeAdapter(Card)),
    "grades": graded,
}
"""How each part is read; BadInput if its file is not of its form."""
assert PARTS.keys() == FILES.keys() and set(StudentRecord.model_fields) == {*WHO}
