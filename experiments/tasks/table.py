"""Questions that lie on the disk: as many as there are, in memory a few bytes of each."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.tasks.nouns import Draft

BATCH = 64  # questions that are read together


class Table:
    """Drafts by their number, in a file of Arrow's that is gone with this object.

    Args:
        drafts: in their order; each is held no longer than it takes to write it.
    """

    def __init__(self, drafts: Iterable[Draft]) -> None:
        import pyarrow as pa

        schema = pa.schema([(name, pa.string()) for name in Draft._fields])
        self._folder = tempfile.TemporaryDirectory(prefix="distill-resist-")
        path = str(Path(self._folder.name) / "drafts.arrow")
        self.size, rest = 0, iter(drafts)
        with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, schema) as writer:
            while some := list(itertools.islice(rest, BATCH)):
                arrays = [pa.array(column, pa.string()) for column in zip(*some, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                self.size += len(some)
        # Read and not mapped: mapped pages would count as this process's memory.
        self._file: Any = pa.ipc.open_file(pa.OSFile(path))
        self._batch = functools.lru_cache(4)(self._file.get_batch)

    def __getitem__(self, index: int) -> Draft:
        batch, row = self._batch(index // BATCH), index % BATCH
        return Draft(*(batch.column(place)[row].as_py() for place in range(len(Draft._fields))))
