"""The rows of an exam."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from distill.completions import BadInput, write_bytes

SAMPLED = "sampled_right"
"""Column of exams whose students sampled further answers: how many of them are right."""


@dataclass(frozen=True)
class GradeRow:
    """What a model said to an item, and how that was graded; None where it is not known.

    `item`: its id; `cluster`: of items that hang together; `prompt`, `text`: as they were asked and
    answered; `final`: the final answer; `outcome`: right, wrong or unparsed. `bits_per_byte`: of
    the clean teacher's text under a student; `nats`: of the answer under the undefended model.
    `l1`, `kl`, `flips`, `passes`: as of a completion; `tokens`: of the answer; `finished`: whether
    it came to its own end; `sampled_right`: of further answers.
    """

    item: str | None = None
    cluster: str | None = None
    prompt: str | None = None
    text: str = ""
    final: str | None = None
    outcome: str | None = None
    bits_per_byte: float | None = None
    nats: float | None = None
    l1: float | None = None
    kl: float | None = None
    flips: float | None = None
    passes: float | None = None
    tokens: int | None = None
    finished: bool | None = None
    sampled_right: int | None = None


NUMBERS = ("bits_per_byte", "nats", "l1", "kl", "flips", "passes")


def write_grades(folder: Path, rows: list[GradeRow]) -> None:
    """One row an item; the same rows give the same bytes.

    Args:
        folder: of the result.
        rows: of all items, in their order.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = dict.fromkeys(NUMBERS, pa.float64())
    kinds |= {"tokens": pa.int64(), "finished": pa.bool_(), SAMPLED: pa.int64()}
    names = [field.name for field in fields(GradeRow)]
    if all(row.sampled_right is None for row in rows):
        names.remove(SAMPLED)
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema), sink)
    write_bytes(folder / "grades.parquet", sink.getvalue().to_pybytes())


def read_grades(folder: Path) -> list[GradeRow]:
    """One row an item.

    Args:
        folder: of the result.

    Raises:
        BadInput: the file is not whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "grades.parquet"
    try:
        return [GradeRow(**row) for row in pq.read_table(path).to_pylist()]
    except (OSError, TypeError, pa.ArrowException) as error:
        raise BadInput(f"{path}: not a whole file of grades ({error})") from error
