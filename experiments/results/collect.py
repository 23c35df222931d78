"""Every grade of a study as one Parquet file, and what each arm did: the two files all numbers
follow from.

`grades.parquet` has a row an exam item, exam after exam; `arms.json` has an entry a student: what
it was trained on, what that took, and how training went.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.completions import BadInput, digest
from experiments.measure import flags
from experiments.planning.arms import Arm
from experiments.planning.plan import Plan
from experiments.results.schema import (
    FinishedStudent,
    MatchedStrength,
    MissingStudent,
    Preparation,
)
from experiments.stages.files import Exchanges, PreparedDefense, TrainingReport, WorstAttack
from experiments.stages.student import StudentInputs
from experiments.store import Store

WHO = ("task", "defense", "attacker", "budget", "split", "seed")
NUMBERS = ("bits_per_byte", "nats", "l1", "kl", "flips", "passes", "tokens")


class Key(NamedTuple):
    """Students that differ in their seed alone; a teacher has attacker "" and budget 0."""

    task: str
    defense: str
    attacker: str
    budget: int
    split: str


class Exam(NamedTuple):
    """One sitting: arrays over N items; what was not measured is None. `said_N` are codes, -1 for
    unparsed.

    `nats_N` is the surprisal of each answer and its end to the model that sat, without its defence.
    Texts are kept of teachers alone; students' are in the file and in `digest`.
    """

    items: tuple[str, ...]
    right_N: np.ndarray
    said_N: np.ndarray
    bits_N: np.ndarray | None
    nats_N: np.ndarray | None
    l1: float
    kl: float
    flips: float
    passes: float
    tokens: float | None
    bytes: float
    unfinished: float
    texts: tuple[str, ...]
    prompts: tuple[str, ...]
    digest: str
    clusters: tuple[str, ...] = ()  # declared names, "" for an item that is its own

    @property
    def confidence_N(self) -> np.ndarray | None:
        """The model's probability of each of its answers, whole."""
        return None if self.nats_N is None else np.exp(-self.nats_N)


class Sat(NamedTuple):
    """The exams of one key, in the order of their seeds."""

    seeds: tuple[int, ...]
    exams: tuple[Exam, ...]

    @property
    def right_SN(self) -> np.ndarray:
        return np.stack([exam.right_N for exam in self.exams])

    @property
    def said_SN(self) -> np.ndarray:
        return np.stack([exam.said_N for exam in self.exams])

    @property
    def texts(self) -> list[str]:
        """Of all its exams, one after the other; none of students."""
        return [text for exam in self.exams for text in exam.texts]

    @property
    def unparsed_texts(self) -> list[bool]:
        """Whether each of `texts` holds no final answer."""
        return [
            bool(code < 0)
            for exam in self.exams
            for _, code in zip(exam.texts, exam.said_N, strict=False)
        ]

    @property
    def unparsed(self) -> float:
        return float((self.said_SN < 0).mean())

    def digest_of(self, seeds: Sequence[int]) -> str:
        """Over all answers of the exams of these seeds."""
        return digest(
            "".join(
                exam.digest
                for seed, exam in zip(self.seeds, self.exams, strict=True)
                if seed in seeds
            )
        )

    def stacked(self, name: str) -> np.ndarray | None:
        """A measure as seeds x items, or None where an exam lacks it."""
        parts = [getattr(exam, name) for exam in self.exams]
        return None if any(part is None for part in parts) else np.stack(parts)

    def mean(self, name: str) -> float | None:
        parts = [getattr(exam, name) for exam in self.exams]
        return None if any(part is None for part in parts) else float(np.mean(parts))


Grades = dict[Key, Sat]


def sittings(plan: Plan, store: Store) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every exam that is done, with who sat it; what is missing is left out, and is told by the
    arms.
    """
    for (task, defense, split), exams in plan.teachers.items():
        for seed, stage in enumerate(exams):
            yield dict(zip(WHO, (task, defense, "", 0, split, seed), strict=True)), stage
    for arm in plan.arms:
        if store.has(arm.exam.kind, arm.exam.key):
            yield {name: getattr(arm, name) for name in WHO}, arm.exam
    for longer in plan.plateaus:
        if store.has(longer.stage.kind, longer.stage.key):
            worst = WorstAttack.read(store.open(longer.stage.kind, longer.stage.key))
            attacker = longer.attackers[worst.attack]
            who = (longer.task, longer.defense, attacker, longer.budget, "plateau", longer.seed)
            yield dict(zip(WHO, who, strict=True)), longer.stage


def collect(plan: Plan, store: Store) -> bytes:
    """All grades as Parquet; the same results give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = []
    for who, stage in sittings(plan, store):
        graded = pq.read_table(store.open(stage.kind, stage.key) / "grades.parquet")
        for place, (name, value) in enumerate(who.items()):
            kind = pa.int64() if isinstance(value, int) else pa.string()
            graded = graded.add_column(place, name, pa.array([value] * len(graded), kind))
        parts.append(graded)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(parts), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def read(data: bytes | Path) -> Grades:
    """The grades by key, whatever the order of the rows; BadInput if the file is not whole or an
    exam lacks an item.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(
            pa.BufferReader(data) if isinstance(data, bytes) else data
        ).combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            f"{data if isinstance(data, Path) else 'grades'}: not a whole file of grades ({error})"
        ) from error
    lacking = [name for name in (*WHO, *NUMBERS) if name not in table.column_names]
    if lacking:
        raise BadInput(
            f"grades: no column {', '.join(lacking)}; another version wrote them, so run the "
            "study afresh"
        )
    table = _ordered(table)
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    starts = _starts([columns[name] for name in WHO], len(table))
    said = columns["said"].dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    right = np.asarray(columns["outcome"].to_numpy(zero_copy_only=False) == "right", float)
    numbers = {name: columns[name].to_numpy(zero_copy_only=False).astype(float) for name in NUMBERS}
    finished = columns["finished"].to_numpy(zero_copy_only=False).astype(float)
    item_codes = columns["item"].dictionary_encode().indices.to_numpy(zero_copy_only=False)
    sizes = pc.binary_length(columns["text"]).to_numpy(zero_copy_only=False)
    held: dict[Key, dict[int, Exam]] = {}
    asked: dict[
        tuple[str, str], Any
    ] = {}  # the exams of a split ask the same, so its questions are kept once
    for start, end in zip(starts, [*starts[1:], len(table)], strict=True):
        task, defense, attacker, budget, split, seed = (
            columns[name][start].as_py() for name in WHO
        )
        part = slice(start, end)
        if (task, split) not in asked or not np.array_equal(
            asked[task, split][0], item_codes[part]
        ):
            questions = (
                tuple(columns[name][start:end].to_pylist())
                for name in ("item", "prompt", "cluster")
                if name in columns
            )
            asked[task, split] = item_codes[part], *questions
        _, items, prompts, *named = asked[task, split]
        texts = pa.concat_arrays([columns["text"][start:end]])
        some = {name: _known(values[part]) for name, values in numbers.items()}
        far = {
            name: float(values[part].mean())
            for name, values in numbers.items()
            if name in ("l1", "kl", "flips")
        }
        exam = Exam(
            items,
            right[part],
            said[part],
            some["bits_per_byte"],
            some["nats"],
            **far,
            passes=float(numbers["passes"][part].mean()),
            tokens=None if some["tokens"] is None else float(some["tokens"].mean()),
            bytes=float(sizes[part].mean()),
            unfinished=1 - float(finished[part].mean()),
            prompts=prompts,
            texts=() if attacker else tuple(texts.to_pylist()),
            digest=_digest(texts),
            clusters=named[0] if named else (),
        )
        held.setdefault(Key(task, defense, attacker, budget, split), {})[seed] = exam
    return {
        key: Sat(tuple(sorted(by)), tuple(by[seed] for seed in sorted(by)))
        for key, by in held.items()
    }


def _ordered(table: Any) -> Any:
    """The rows exam after exam, items in the order in which they first come; BadInput if one is
    missing or double.
    """
    code = {
        name: table[name]
        .combine_chunks()
        .dictionary_encode()
        .indices.to_numpy(zero_copy_only=False)
        for name in (*WHO, "item")
    }
    exam_M, item_M = np.zeros(len(table), np.int64), code["item"]
    for name in WHO:
        exam_M = exam_M * (int(code[name].max(initial=0)) + 1) + code[name]
    _, starts, exam_M = np.unique(exam_M, return_index=True, return_inverse=True)
    exam_M = np.argsort(np.argsort(starts))[exam_M]  # by where an exam first comes
    order = np.lexsort((item_M, exam_M))
    if (np.diff(order) < 0).any():
        table, exam_M, item_M = table.take(order).combine_chunks(), exam_M[order], item_M[order]
    bounds = np.append(np.flatnonzero(np.diff(exam_M, prepend=-1)), len(exam_M))
    asked: dict[tuple[str, str], np.ndarray] = {}  # every item of a task's split that any exam has
    at = [tuple(table[name][int(i)].as_py() for name in WHO) for i in bounds[:-1]]
    parts = [item_M[start:end] for start, end in itertools.pairwise(bounds)]
    for who, items in zip(at, parts, strict=True):
        held = asked.get(_where(who))
        if held is None or not np.array_equal(held, items):
            asked[_where(who)] = items if held is None else np.union1d(held, items)
    for who, items in zip(at, parts, strict=True):
        if not np.array_equal(asked[_where(who)], items):
            twice, lost = (
                len(items) - len(np.unique(items)),
                len(np.setdiff1d(asked[_where(who)], items)),
            )
            wrong = (
                f"has {twice} of its items twice"
                if twice
                else f"lacks {lost} of {len(asked[_where(who)])} items"
            )
            raise BadInput(f"grades: {_named(who)} {wrong}; take the file from its study again")
    return table


def _where(who: tuple[Any, ...]) -> tuple[str, str]:
    """Task and split."""
    return who[WHO.index("task")], who[WHO.index("split")]


def _named(who: tuple[Any, ...]) -> str:
    task, defense, attacker, budget, split, seed = who
    arm = (
        f"{attacker} against {defense}, budget {budget}"
        if attacker
        else f"the teacher behind {defense}"
    )
    return f"{arm}, seed {seed} ({task}, {split})"


def _digest(texts: Any) -> str:
    """SHA-256 over an array of strings: their ends, then their bytes, as the array itself holds
    them.
    """
    _, ends, data = texts.buffers()
    return digest(bytes(ends)[: 4 * (len(texts) + 1)] + (bytes(data) if data else b""))


def _starts(columns: list[Any], rows: int) -> list[int]:
    """Where a new exam begins: a row that differs from the one before it in who sat it."""
    changed = np.zeros(rows, bool)
    changed[:1] = True
    for column in columns:
        values = column.dictionary_encode().indices.to_numpy(zero_copy_only=False)
        changed[1:] |= values[1:] != values[:-1]
    return [int(i) for i in np.flatnonzero(changed)]


def _known(values: np.ndarray) -> np.ndarray | None:
    return None if np.isnan(values).any() else values


def arms(plan: Plan, store: Store) -> list[FinishedStudent | MissingStudent]:
    """One entry a planned student: whether it is finished, its ledger, how training went, and
    leaked questions.
    """
    counted: dict[str, int] = {}
    return [_record(plan, store, arm, counted) for arm in plan.arms]


def _record(
    plan: Plan, store: Store, arm: Arm, counted: dict[str, int]
) -> FinishedStudent | MissingStudent:
    who = {name: getattr(arm, name) for name in WHO}
    if not store.has(arm.exam.kind, arm.exam.key):
        return MissingStudent(**who, finished=False)
    training = TrainingReport.read(store.open(arm.student.kind, arm.student.key))
    asked = _asked(arm, store)
    searched = any(
        isinstance(stage.needs, StudentInputs) and stage.needs.search
        for stage in arm.student.walk()
    )
    trials = plan.study.search.trials if searched else 0
    return FinishedStudent(
        **who,
        finished=True,
        exchanges=asked.exchanges + training.asked,
        tokens_in=asked.tokens_in,
        tokens_out=asked.tokens_out,
        student_tokens=training.tokens,
        parameters=training.parameters,
        # 6 FLOPs a parameter and position, forward and backward (Kaplan et al. 2020); the search
        # costs as much a trial.
        flops=6 * training.parameters * training.positions * (1 + trials),
        trials=trials,
        steps=training.steps,
        learning_rate=training.learning_rate,
        cut=training.cut,
        no_final=training.no_final or 0.0,
        diverged=training.diverged,
        losses=training.losses,
        leaked=_leaked(arm, store, counted),
        prepared=prepared(arm, store),
    )


def _asked(arm: Arm, store: Store) -> Exchanges:
    """What an arm's answers took; nothing where the teacher was not asked."""
    folder = store.open(arm.completions.kind, arm.completions.key)
    if not (folder / Exchanges.FILE).is_file():
        return Exchanges(exchanges=0, tokens_in=0, tokens_out=0)
    return Exchanges.read(folder)


def prepared(arm: Arm, store: Store) -> Preparation | None:
    """How an arm's defence was prepared: the strength that was found for it, and numbers that it
    learned.
    """
    for stage in arm.completions.inputs:
        if stage.kind == "defense":
            made = PreparedDefense.read(store.open(stage.kind, stage.key))
            return Preparation(matched=_matched(made), numbers={**made.numbers})
    return None


def _matched(made: PreparedDefense) -> MatchedStrength | None:
    """What is reported of the strength that was found; its trials stay in the store."""
    if made.matched is None:
        return None
    return MatchedStrength.model_validate(made.matched.model_dump(exclude={"tried"}))


def _leaked(arm: Arm, store: Store, counted: dict[str, int]) -> int:
    """Report questions that this student was trained on; arms that asked the same
    are counted once.
    """
    import pyarrow.parquet as pq

    asked = store.folder(arm.completions.kind, arm.completions.key) / "completions.parquet"
    graded = store.folder(arm.exam.kind, arm.exam.key) / "grades.parquet"
    queries, questions = (
        pq.read_table(path, columns=["prompt"])["prompt"].to_pylist() for path in (asked, graded)
    )
    same = digest("\0".join([*sorted(queries), "", *questions]))
    if same not in counted:
        counted[same] = len(flags.leaked(queries, questions))
    return counted[same]
