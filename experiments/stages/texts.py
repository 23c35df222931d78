"""Stage `texts`: recorded exchanges as a provider's encoder sees them.

A sample of each task's texts is embedded. Half of the questions are for learning: buckets are
k-means of their vectors, without labels. The other half is what is sent in simulations, in the
bucket that is nearest. The referee keeps of which task each text is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from defenses.access.buckets import learn_buckets, nearest_bucket
from defenses.access.encoder import TextEncoder, unit
from distill.campaigns import CAPABILITIES, CAPABILITY_OF, TOPICS
from distill.completions import BadInput
from distill.tables import Row, Source, Value, read_rows, text_of
from distill.text_vectors import EncoderFolder, TextEncoderName, check_minilm, embed
from experiments.campaigns.lens import Texts
from experiments.private import shown
from experiments.stages.arrays import load, save
from experiments.stages.stage import Inputs, Spec

VERSION = 1
FILE = "texts.npz"
MOST_TASKS = 256
NAMES = ("vectors", "bucket", "group", "learned", "groups", "capability")
"""Of the file's arrays: vectors, buckets and kinds of texts, and whether buckets were learned from
them `[N]`; kinds of topics and what buckets are about `[K]`."""
LETTERS = 4000  # of a question, and of an answer, that an encoder is handed
OTHER = list(CAPABILITIES).index("other")  # what a bucket is about that nothing was learned of


class TextsSpec(Spec):
    """A recording: where it is, which columns hold what, and what reads its texts."""

    STAGE: ClassVar[str] = "texts"
    path: str
    encoder: TextEncoderName
    per_task: int
    task: str = "task"
    question: str = "question"
    response: str = "response"
    where: dict[str, Value] = {}


class Recorded(NamedTuple):
    """A text, and digests of its question and of all of it."""

    task: int
    question: bytes
    whole: bytes
    text: str


def run(spec: TextsSpec, inputs: Inputs[Path], out: Path) -> None:
    """Read a recording once and embed a sample of it.

    Raises:
        BadInput: a row lacks a text, there are too few or too many tasks, or the encoder is not
            there or not whole.
    """
    encoder = spec.encoder
    if isinstance(encoder, EncoderFolder):
        encoder = EncoderFolder(path=shown(encoder.path))
    elif encoder == "minilm":
        check_minilm()
    rows = read_rows(Source(shown(spec.path), where=spec.where))
    recorded = sample(spec, rows)
    half = learning(recorded)
    vectors_NE = embed([one.text for one in recorded], encoder)
    save(out / FILE, arrays(np.array([one.task for one in recorded]), half, vectors_NE))


def sample(spec: TextsSpec, rows: Iterable[Row]) -> list[Recorded]:
    """Of each task the texts with the smallest digests, in the order in which the recording first
    names the tasks; copies are one. What is held grows with tasks, and not with rows.

    Args:
        spec: with the columns, and how many texts of a task are kept.
        rows: of the recording.

    Raises:
        BadInput: a row lacks a text, or there are too few or too many tasks.
    """
    numbers: dict[str, int] = {}
    by_task: list[dict[bytes, Recorded]] = []
    for row in rows:
        task = numbers.setdefault(_filled(row, spec.task), len(by_task))
        if task == len(by_task):
            by_task.append({})
        if task == MOST_TASKS:
            raise BadInput(
                f"{row.where}: more than {MOST_TASKS} tasks; does the column {spec.task!r} hold "
                "the task (campaigns.texts.task)?"
            )
        text = _recorded(row, spec, task)
        by_task[task][text.whole] = text
        if len(by_task[task]) > 2 * spec.per_task:
            by_task[task] = _smallest(by_task[task], spec.per_task)
    if len(by_task) < 2:
        raise BadInput(
            f"{shown(spec.path)}: holds texts of {len(by_task)} tasks; the topics of campaigns "
            "need two or more"
        )
    smallest = (_smallest(some, spec.per_task) for some in by_task)
    return [text for some in smallest for text in some.values()]


def _smallest(some: dict[bytes, Recorded], n: int) -> dict[bytes, Recorded]:
    return {whole: some[whole] for whole in sorted(some)[:n]}


def _recorded(row: Row, spec: TextsSpec, task: int) -> Recorded:
    """A row's question and answer as one text; the answer may be empty."""
    question = _filled(row, spec.question)
    answer = text_of(row.where, row.values, spec.response)
    digests = [hashlib.sha256(one.encode()).digest() for one in (question, answer)]
    whole = hashlib.sha256(b"".join(digests)).digest()
    return Recorded(task, digests[0], whole, f"{question[:LETTERS]}\n{answer[:LETTERS]}")


def _filled(row: Row, column: str) -> str:
    """A row's text in a column; BadInput where it is blank."""
    text = text_of(row.where, row.values, column)
    if not text.strip():
        raise BadInput(f"{row.where}: {column} is empty")
    return text


def learning(recorded: list[Recorded]) -> np.ndarray:
    """Which texts buckets are learned from: those to half of each task's questions. A task of one
    question has none.

    Args:
        recorded: N of them.

    Returns:
        A mask `[N]`.

    Raises:
        BadInput: no task has two questions.
    """
    questions: dict[int, set[bytes]] = {}
    for text in recorded:
        questions.setdefault(text.task, set()).add(text.question)
    first = {task: {*sorted(some)[: len(some) // 2]} for task, some in questions.items()}
    half = np.array([one.question in first[one.task] for one in recorded])
    if not half.any():
        raise BadInput(
            "campaigns.texts: no task has two different questions; half of them is what buckets "
            "are learned from"
        )
    return half


def arrays(
    task_N: np.ndarray, learned_N: np.ndarray, vectors_NE: np.ndarray, seed: int = 0
) -> dict[str, np.ndarray]:
    """What the stage leaves: the arrays of `NAMES`.

    Tasks are dealt to topics in their order: of T tasks, topic k has the kind floor(k T / 128), a
    task; where there are more tasks than topics, task t is of kind floor(128 t / T).

    Args:
        task_N: of each text, from 0.
        learned_N: whether buckets are learned from it.
        vectors_NE: unit vectors.
        seed: of the buckets.

    Returns:
        Arrays `[...]` by name.
    """
    tasks = int(task_N.max()) + 1
    groups = min(tasks, TOPICS)
    group_N, group_K = task_N * groups // tasks, np.arange(TOPICS) * groups // TOPICS
    stored_NE = vectors_NE.astype(np.float16)
    x_NE = unit(stored_NE.astype(np.float64))  # buckets are of what is stored
    bucket_N = nearest_bucket(x_NE, learn_buckets(x_NE[learned_N], TOPICS, seed))
    capability_K = _named(group_N[learned_N], bucket_N[learned_N], group_K)
    numbers = [bucket_N, group_N, learned_N, group_K, capability_K]
    return dict(zip(NAMES, [stored_NE, *(one.astype(np.uint8) for one in numbers)], strict=True))


def _named(group_L: np.ndarray, bucket_L: np.ndarray, group_K: np.ndarray) -> np.ndarray:
    """What each bucket is about: the capability of most topics of the texts that it was learned
    from, as somebody would say who reads them `[K]`.
    """
    about_GC = np.zeros((int(group_K.max()) + 1, len(CAPABILITIES)))
    np.add.at(about_GC, (group_K, CAPABILITY_OF), 1)
    about_GC /= about_GC.sum(axis=1, keepdims=True)
    about_KC = np.zeros((TOPICS, len(CAPABILITIES)))
    np.add.at(about_KC, bucket_L, about_GC[group_L])
    about_KC[about_KC.sum(axis=1) == 0, OTHER] = 1
    named_K: np.ndarray = about_KC.argmax(axis=1)
    return named_K


def read_texts(folder: Path | None) -> Texts | None:
    """What the stage left; None where there is no such stage.

    Args:
        folder: of the stage's result.

    Raises:
        BadInput: it is not whole.
    """
    if folder is None:
        return None
    there = load(folder / FILE)
    if lost := [name for name in NAMES if name not in there]:
        raise BadInput(f"{folder / FILE}: not a whole file of texts (it has no {lost[0]})")
    vectors_NE, bucket_N, group_N, learned_N, group_K, capability_K = (there[x] for x in NAMES)
    x_NE, learned_N = unit(vectors_NE.astype(np.float32)), learned_N.astype(bool)
    sent_N = ~learned_N
    encoder = TextEncoder(
        x_NE[sent_N], bucket_N[sent_N], x_NE[learned_N], bucket_N[learned_N], capability_K
    )
    return Texts(encoder, group_N[sent_N], group_K)
