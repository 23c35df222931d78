"""The rows of an exam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.completions import BadInput, write_bytes

SAMPLED = "sampled_right"
"""Column of exams whose students sampled further answers: how many of them are right."""
WORDS = ("item", "cluster", "prompt", "text", "said", "outcome")
NUMBERS = ("bits_per_byte", "nats", "l1", "kl", "flips", "passes")


def write_grades(folder: Path, rows: list[dict[str, Any]]) -> None:
    """One row an item; the same rows give the same bytes.

    Args:
        folder: of the result.
        rows: values by column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            *((name, pa.string()) for name in WORDS),
            *((name, pa.float64()) for name in NUMBERS),
            ("tokens", pa.int64()),
            ("finished", pa.bool_()),
            *([(SAMPLED, pa.int64())] if any(SAMPLED in row for row in rows) else []),
        ]
    )
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink)
    write_bytes(folder / "grades.parquet", sink.getvalue().to_pybytes())


def read_grades(folder: Path) -> list[dict[str, Any]]:
    """One dictionary an item.

    Raises:
        BadInput: the file is not whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_table(folder / "grades.parquet").to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            f"{folder / 'grades.parquet'}: not a whole file of grades ({error})"
        ) from error
