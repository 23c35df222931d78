"""Whether a run's files are written as ours are, so that nobody reads in them what does not count.

What follows from others letter for letter (report, card, plots) is compared where it is made again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments import preregistration, provenance
from experiments.results import grades_file, read
from experiments.results.names import ANALYSIS, MANIFEST, SEAL
from experiments.review import Check, Word, guarded
from experiments.review.form import FILES, Run
from experiments.review.recomputed import difference, unlike

TABLES = (
    MANIFEST,
    SEAL,
    *("arms.json", "outcomes.json", "marks.json", "measures.json", "results.json", "card.json"),
)


def checks(run: Run) -> list[Check]:
    """Settings and analysis are written as we write them, so that nobody reads in them what does
    not count.
    """
    settings = run.study.model_dump(mode="json")
    wrong = next(unlike(settings, read.parsed(run.home, "config.json")), None)
    got = difference(wrong)
    spelled = run.study.model_dump_json(indent=2).encode()
    if not wrong and read.content(run.home, "config.json") != spelled:
        got = "other spaces, escapes, order or forms of numbers"
    claim = "config.json is as settings are written"
    word: Word = "PASS" if got == "the same" else "FAIL"
    spelling = [Check(claim, word, "the same", got), _plain_tables(run.home), *grades(run)]
    text = read.content(run.home, ANALYSIS)
    plain = text == preregistration.spelled(run.frozen)
    return [
        *spelling,
        Check(
            "analysis.yaml is as an analysis is written",
            "PASS" if plain else "FAIL",
            "the same",
            "the same" if plain else "comments, or another order or form",
        ),
    ]


def _plain_tables(home: Path) -> Check:
    """Tables are written as we write them: nothing is hidden between their values."""
    odd = [name for name in TABLES if (home / name).exists() and not _is_plain(home, name)]
    got = f"{provenance.listed(odd)}: other spaces, escapes or forms of numbers"
    claim = "tables are as tables are written"
    return Check(claim, "FAIL" if odd else "PASS", "the same", got if odd else "the same")


def _is_plain(home: Path, name: str) -> bool:
    indent = None if name == SEAL else 1
    return read.content(home, name) == json.dumps(read.parsed(home, name), indent=indent).encode()


def grades(run: Run) -> list[Check]:
    """A file of grades holds its rows and nothing else: no words between pages or among the values
    of a column that no row has, and no statistics of other values, which some readers go by.
    """
    claim = "grades are as grades are written"
    return guarded(claim, lambda: [Check(claim, *_as_written(run))])


def _as_written(run: Run) -> tuple[Word, str, str]:
    """The word, what was expected and what was got."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = run.home / FILES["grades"]
    ours = grades_file.spelled(pq.read_table(path))
    if ours == path.read_bytes():
        return "PASS", "the same", "the same"
    with pq.ParquetFile(pa.BufferReader(ours)) as again, pq.ParquetFile(path) as file:
        made_by, by = again.metadata.created_by, file.metadata.created_by
        if made_by != by:
            locked = [f"{WRITER}{one.removeprefix(PYARROW)}" for one in run.manifest.lock]
            word: Word = "INCONCLUSIVE" if by in locked else "FAIL"
            return word, made_by, f"{by}, which writes them otherwise"
        if _layout(again.metadata) == _layout(file.metadata):
            return "INCONCLUSIVE", "the same", "packed by another zstd"
    return "FAIL", "the same", "other statistics, pages or values that no row has"


PYARROW, WRITER = "pyarrow==", "parquet-cpp-arrow version "
PACKED = {
    *("total_compressed_size", "file_offset", "dictionary_page_offset", "data_page_offset"),
    "serialized_size",
}
"""What of a Parquet file's record depends on how its pages are packed."""


def _layout(metadata: Any) -> Any:
    """All that a Parquet file says of its columns, however they are packed."""
    return _without(metadata.to_dict())


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(inner) for name, inner in value.items() if name not in PACKED}
    return [_without(inner) for inner in value] if isinstance(value, list) else value
