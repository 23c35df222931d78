"""`grades.parquet`, read and spelled: a row an exam item, exam after exam. Axis M is its rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.completions import BadInput, digest
from experiments.results.grades import NUMBERS, WHO, Exam, Exams, Grades, Key
from experiments.stages.grades import SAMPLED


def read(data: bytes | Path) -> Grades:
    """The grades by key, whatever the order of the rows.

    Args:
        data: a Parquet file, or its bytes.

    Raises:
        BadInput: if the file is not whole, lacks a column, or an exam lacks an item or has one
            twice.
    """
    rows = _Rows(_ordered(_table(data)))
    exams: dict[Key, dict[int, Exam]] = {}
    for part in _parts(rows.columns, rows.size):
        *who, seed = rows.who(part.start)
        exams.setdefault(Key(*who), {})[seed] = rows.exam(part)
    return {key: _in_order(by_seed) for key, by_seed in exams.items()}


def spelled(table: Any) -> bytes:
    """An Arrow table of grades as `grades.parquet` has it: the same rows give the same bytes.

    Args:
        table: of Arrow, a row an exam item, exam after exam.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # As it was gathered: where a column's pages end depends on where its parts do.
    whole = table.combine_chunks()
    columns = {name: whole[name].combine_chunks() for name in WHO}
    parts = [whole[part] for part in _parts(columns, len(whole))]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(parts or [whole]), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _parts(columns: Mapping[str, Any], size: int) -> Iterator[slice]:
    """The rows of each exam: one begins where a row differs from that before in whose it is.

    Args:
        columns: Arrow arrays by name.
        size: how many rows there are.
    """
    changed_M = np.zeros(size, bool)
    changed_M[:1] = True
    for name in WHO:
        codes_M = _codes(columns[name])
        changed_M[1:] |= codes_M[1:] != codes_M[:-1]
    bounds = [*map(int, np.flatnonzero(changed_M)), size]
    yield from itertools.starmap(slice, itertools.pairwise(bounds))


def _in_order(by_seed: dict[int, Exam]) -> Exams:
    seeds = sorted(by_seed)
    return Exams(tuple(seeds), tuple(by_seed[seed] for seed in seeds))


def _table(data: bytes | Path) -> Any:
    """The file as an Arrow table, with all columns that are needed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = pa.BufferReader(data) if isinstance(data, bytes) else data
        table = pq.read_table(source).combine_chunks()
    except (OSError, pa.ArrowException) as error:
        name = data if isinstance(data, Path) else "grades"
        raise BadInput(f"{name}: not a whole file of grades ({error})") from error
    lacking = [name for name in (*WHO, *NUMBERS) if name not in table.column_names]
    if lacking:
        raise BadInput(
            f"grades: no column {', '.join(lacking)}; another version wrote them, so run the "
            "study afresh"
        )
    return table


class _Questions(NamedTuple):
    """What an exam asks, in its order; exams that ask the same share them."""

    item_N: np.ndarray
    items: tuple[str, ...]
    prompts: tuple[str, ...]
    clusters: tuple[str, ...]


class _Rows:
    """The columns of a table that is ordered exam after exam."""

    def __init__(self, table: Any) -> None:
        import pyarrow.compute as pc

        self.size = len(table)
        self.columns = {name: table[name].combine_chunks() for name in table.column_names}
        self.item_M = _codes(self.columns["item"])
        self.final_M = _codes(self.columns["final"])
        self.right_M = np.asarray(_array(self.columns["outcome"]) == "right", float)
        self.finished_M = _array(self.columns["finished"]).astype(float)
        self.bytes_M = _array(pc.binary_length(self.columns["text"]))
        names = [*NUMBERS, *({SAMPLED} & self.columns.keys())]
        self.numbers_M = {name: _array(self.columns[name]).astype(float) for name in names}
        self.questions: dict[tuple[str, str], _Questions] = {}

    def who(self, row: int) -> tuple[Any, ...]:
        """Whose exam a row belongs to, in the order of `WHO`."""
        return tuple(self.columns[name][row].as_py() for name in WHO)

    def exam(self, part: slice) -> Exam:
        """The exam of some rows."""
        import pyarrow as pa

        who, numbers = self.who(part.start), self.numbers_M
        questions = self._asked(_where(who), part)
        texts = pa.concat_arrays([self.columns["text"][part.start : part.stop]])
        tokens_N = _whole(numbers["tokens"][part])
        return Exam(
            items=questions.items,
            right_N=self.right_M[part],
            final_N=self.final_M[part],
            bits_N=_whole(numbers["bits_per_byte"][part]),
            nats_N=_whole(numbers["nats"][part]),
            l1=float(numbers["l1"][part].mean()),
            kl=float(numbers["kl"][part].mean()),
            flips=float(numbers["flips"][part].mean()),
            passes=float(numbers["passes"][part].mean()),
            tokens=None if tokens_N is None else float(tokens_N.mean()),
            bytes=float(self.bytes_M[part].mean()),
            unfinished=1 - float(self.finished_M[part].mean()),
            texts=() if who[WHO.index("attacker")] else tuple(texts.to_pylist()),
            prompts=questions.prompts,
            digest=_digest(texts),
            clusters=questions.clusters,
            sampled_N=_whole(numbers[SAMPLED][part]) if SAMPLED in numbers else None,
        )

    def _asked(self, where: tuple[str, str], part: slice) -> _Questions:
        """The questions of an exam; those of a split are read once, as its exams ask the same."""
        before = self.questions.get(where)
        if before is None or not np.array_equal(before.item_N, self.item_M[part]):
            texts = (self._texts(name, part) for name in ("item", "prompt", "cluster"))
            self.questions[where] = _Questions(self.item_M[part], *texts)
        return self.questions[where]

    def _texts(self, name: str, part: slice) -> tuple[str, ...]:
        """Of a column; none where the file has no such column."""
        if name not in self.columns:
            return ()
        return tuple(self.columns[name][part.start : part.stop].to_pylist())


def _array(column: Any) -> np.ndarray:
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return values


def _codes(column: Any) -> np.ndarray:
    """A number for each different value, in the order in which they come; -1 for none."""
    return _array(column.dictionary_encode().indices.fill_null(-1))


def _whole(values: np.ndarray) -> np.ndarray | None:
    return None if np.isnan(values).any() else values


def _digest(texts: Any) -> str:
    """SHA-256 over an array of strings: their ends, then their bytes, as the array itself holds
    them.
    """
    _, ends, data = texts.buffers()
    return digest(bytes(ends)[: 4 * (len(texts) + 1)] + (bytes(data) if data else b""))


# The order of rows


def _ordered(table: Any) -> Any:
    """The rows exam after exam, items in the order in which they first come; BadInput if one is
    missing or double.
    """
    exam_M, item_M = _exams(table), _codes(table["item"].combine_chunks())
    order = np.lexsort((item_M, exam_M))
    if (np.diff(order) < 0).any():
        table, exam_M, item_M = table.take(order).combine_chunks(), exam_M[order], item_M[order]
    bounds = np.append(np.flatnonzero(np.diff(exam_M, prepend=-1)), len(exam_M))
    who = [tuple(table[name][int(i)].as_py() for name in WHO) for i in bounds[:-1]]
    parts = [item_M[start:end] for start, end in itertools.pairwise(bounds)]
    _check_items(who, parts)
    return table


def _exams(table: Any) -> np.ndarray:
    """The number of the exam that each row is of, in the order in which they first come."""
    exam_M = np.zeros(len(table), np.int64)
    for name in WHO:
        codes_M = _codes(table[name].combine_chunks())
        exam_M = exam_M * (int(codes_M.max(initial=0)) + 1) + codes_M
    _, starts, exam_M = np.unique(exam_M, return_index=True, return_inverse=True)
    places: np.ndarray = np.argsort(np.argsort(starts))[exam_M]
    return places


def _check_items(who: list[tuple[Any, ...]], parts: list[np.ndarray]) -> None:
    """BadInput unless every exam has each item that any exam of its task's split has, once."""
    every: dict[tuple[str, str], np.ndarray] = {}
    for sitter, items in zip(who, parts, strict=True):
        before = every.get(_where(sitter))
        if before is None or not np.array_equal(before, items):
            every[_where(sitter)] = items if before is None else np.union1d(before, items)
    for sitter, items in zip(who, parts, strict=True):
        expected = every[_where(sitter)]
        if np.array_equal(expected, items):
            continue
        twice, lost = len(items) - len(np.unique(items)), len(np.setdiff1d(expected, items))
        wrong = f"lacks {lost} of {len(expected)} items"
        if twice:
            wrong = f"has {twice} of its items twice"
        raise BadInput(f"grades: {_named(sitter)} {wrong}; take the file from its study again")


def _where(who: tuple[Any, ...]) -> tuple[str, str]:
    """Task and split."""
    return who[WHO.index("task")], who[WHO.index("split")]


def _named(who: tuple[Any, ...]) -> str:
    task, defense, attacker, budget, split, seed = who
    arm = f"the teacher behind {defense}"
    if attacker:
        arm = f"{attacker} against {defense}, budget {budget}"
    return f"{arm}, seed {seed} ({task}, {split})"
