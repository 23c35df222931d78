"""The rows of an exam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distill.completions import BadInput


def read_grades(folder: Path) -> list[dict[str, Any]]:
    """One dictionary an item; BadInput if the file is not whole."""
    try:
        return list(pq.read_table(folder / "grades.parquet").to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            f"{folder / 'grades.parquet'}: not a whole file of grades ({error})"
        ) from error
