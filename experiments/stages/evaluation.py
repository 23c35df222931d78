"""Stage `evaluation`: every item asked and graded."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from distill.completions import Completion, Interface
from distill.models import LanguageModel, Model, is_network
from experiments.settings.components import ComponentSpec, build
from experiments.stages.defended import ProviderInputs, defend
from experiments.stages.episodes import Episode, as_run, flat, joined, play
from experiments.stages.grades import GradeRow, read_grades, write_grades
from experiments.stages.models import load_model, load_network
from experiments.stages.stage import Inputs, Spec, TaskSpec
from experiments.tasks import Item, Task

VERSION = 3  # 2: rows name the cluster of their item; 3: the column `said` is `final`
T = TypeVar("T")


class EvaluationSpec(Spec):
    """So many questions of a split; a teacher answers from behind its defence, a student has none.

    `seed` samples the answers; the questions are the same for all. `samples` more are drawn to
    each question from a student, at `temperature`, for pass@k.
    """

    STAGE: ClassVar[str] = "evaluation"
    task: TaskSpec
    split: str
    items: int
    seed: int
    defense: list[ComponentSpec] | None = None
    samples: int = 0
    temperature: float = 1.0


@dataclass(frozen=True)
class StudentEvaluationInputs(Inputs[T]):
    """`clean` is the undefended teacher's exam, of whose text a reported student's surprisal is
    measured.
    """

    student: T
    clean: T | None = None


@dataclass(frozen=True)
class TeacherEvaluationInputs(Inputs[T]):
    teacher: T
    given: ProviderInputs[T] = field(default_factory=ProviderInputs)


def run(
    spec: EvaluationSpec,
    inputs: StudentEvaluationInputs[Path] | TeacherEvaluationInputs[Path],
    out: Path,
) -> dict[str, float]:
    """One row an item: what a student said to a report prompt, or what the user's program ran of
    what a teacher said, and right, wrong or unparsed; an answer that was cut off is unparsed unless
    its final answer was closed before.

    `bits_per_byte` is how well a student predicts the undefended teacher's text.

    Returns:
        The seconds that answering took, as `answer_seconds`.
    """
    task = build("task", spec.task)
    items = task.items(spec.split, spec.items, 0)
    prompts = [item.prompt for item in items]
    bits: list[float | None] = [None] * len(items)
    model: Model
    undefended: Model
    if isinstance(inputs, StudentEvaluationInputs):
        model = undefended = student = load_network(inputs.student)
        if inputs.clean and task.turns == 1:  # a transcript is no answer to one prompt
            texts = [row.text for row in read_grades(inputs.clean)]
            nats = student.surprisal(prompts, texts)
            bits = [_bits(n, text) for n, text in zip(nats, texts, strict=True)]
    else:
        undefended = load_model(inputs.teacher)
        model = defend(task, undefended, spec.defense or (), inputs.given)
    began = time.perf_counter()
    episodes = play(task, model, prompts, seed=spec.seed, interface=Interface())
    seconds = time.perf_counter() - began
    examined = isinstance(inputs, StudentEvaluationInputs)
    answers = [joined(one) if examined else as_run(task, one) for one in episodes]
    nats_of = _surprisal(undefended, episodes)
    rows = [
        replace(_row(task, item, answer), bits_per_byte=bit, nats=own)
        for item, answer, bit, own in zip(items, answers, bits, nats_of, strict=True)
    ]
    if spec.samples:
        assert is_network(undefended)
        counts = sampled_right(task, undefended, items, spec)
        rows = [replace(row, sampled_right=n) for row, n in zip(rows, counts, strict=True)]
    write_grades(out, rows)
    return {"answer_seconds": seconds}


def sampled_right(
    task: Task, student: LanguageModel, items: Sequence[Item], spec: EvaluationSpec
) -> list[int]:
    """How many of a student's sampled answers to each item are right.

    Args:
        task: that grades.
        student: undefended.
        items: N questions.
        spec: how many answers, at which temperature, by which seed.

    Returns:
        N numbers from 0 to `spec.samples`.
    """
    model = replace(student, temperature=spec.temperature)
    counts = [0] * len(items)
    for attempt in range(spec.samples):
        prompts = [replace(item.prompt, attempt=attempt) for item in items]
        episodes = play(task, model, prompts, seed=spec.seed, interface=Interface())
        for place, (item, episode) in enumerate(zip(items, episodes, strict=True)):
            answer = joined(episode)
            counts[place] += task.grade(answer.text, item.reference, answer.finished) == "right"
    return counts


def _bits(nats: float, text: str) -> float:
    """Bits a byte of a text and its end."""
    return nats / math.log(2) / (len(text.encode()) + 1)


def _row(task: Task, item: Item, answer: Completion) -> GradeRow:
    return GradeRow(
        item=item.prompt.id,
        cluster=item.cluster,
        prompt=item.prompt.text,
        text=answer.text,
        final=task.final(answer.text, answer.finished),
        outcome=str(task.grade(answer.text, item.reference, answer.finished)),
        tokens=len(answer.token_ids) if answer.token_ids or not answer.text else None,
        finished=answer.finished,
        passes=answer.passes,
        l1=answer.l1,
        kl=answer.kl,
        flips=answer.flips,
    )


def _surprisal(undefended: Model, episodes: Sequence[Episode]) -> list[float | None]:
    """The undefended model's -log probability of all turns of an episode with their ends, in nats;
    a recording has none.
    """
    if not undefended.capabilities.surprisal:
        return [None] * len(episodes)
    turns = flat(episodes)
    if is_network(undefended):
        nats = iter(undefended.own_surprisal(turns))
    else:
        prompts = [turn.question for turn in turns]
        nats = iter(undefended.surprisal(prompts, [turn.text for turn in turns]))
    return [sum(next(nats) for _ in episode) for episode in episodes]
