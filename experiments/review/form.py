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
from experiments.results.collect import NUMBERS, WHO, Grades, read
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
from experiments.results.schema import (
    ARM_RECORDS,
    CampaignOutcome,
    Card,
    FinishedStudent,
    Measures,
    MissingStudent,
    Row,
    StudentRecord,
)
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
        return read(path)
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


def _check_columns(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    text = [
        *(one for one in WHO if one not in ("budget", "seed")),
        "item",
        "cluster",
        "prompt",
        "text",
        "said",
        "outcome",
    ]
    kinds = dict.fromkeys(text, pa.string()) | dict.fromkeys(
        ("budget", "seed", "tokens"), pa.int64()
    )
    kinds |= dict.fromkeys((one for one in NUMBERS if one != "tokens"), pa.float64()) | {
        "finished": pa.bool_()
    }
    with pq.ParquetFile(path) as file:
        there = {one.name: one.type for one in file.schema_arrow}
        if there != kinds or len(file.schema_arrow) > len(there):
            wrong = sorted(name for name in {*there, *kinds} if there.get(name) != kinds.get(name))
            raise BadInput(
                f"columns are not those of exams: {', '.join(wrong)[:120] or 'one stands twice'}"
            )
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        if (
            sum(one.total_byte_size for one in groups) > LARGEST
            or file.metadata.num_rows > LARGEST // 64
        ):
            raise BadInput("is too large to be one")
    size = 0
    with pq.ParquetFile(
        path, read_dictionary=text
    ) as file:  # a text that stands a million times is held once
        for batch in file.iter_batches(ROWS, columns=text):
            for name in text:
                column = batch.column(name)
                if column.null_count and name != "said":
                    raise BadInput(f"{name} is missing in a row")
                long = pc.binary_length(column.dictionary).to_numpy(zero_copy_only=False)
                at = column.indices.drop_null().to_numpy(zero_copy_only=False)
                size += int(long[at].sum())
            if size > LARGEST:
                raise BadInput("holds more text than exams have")


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
