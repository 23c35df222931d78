"""Stage `mark_test`: whether a student carries a provider's marks, by every test that they have.

What is read was made without the key, answers of the undefended teacher to questions of the
training split, unless the test's name says `sold`; no report question is asked. Axes: N pairs, L
tokens of a text, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch

from defenses.marks import Mark, adfp, trigger
from defenses.marks.detect import Evidence, Pairs, Vocabulary
from defenses.marks.detect.students import green_mass
from defenses.marks.detect.windows import fresh, numbers, of_texts, seen_in, spoken
from distill.completions import BadInput, Completion, Interface, Prompt, read_completions
from distill.generation import continuation_probabilities
from distill.models import LanguageModel, batches_by_length
from distill.rendering import text_ids
from experiments.settings.components import ComponentSpec, build
from experiments.stages.completions import FILE
from experiments.stages.episodes import flat, play
from experiments.stages.files import MarkEvidence, MarkLook, MarkTest
from experiments.stages.models import load_network
from experiments.stages.stage import Inputs, Spec, TaskSpec
from experiments.stages.student import StudentInputs, StudentSpec, lessons
from experiments.tasks import Task

VERSION = 1
T = TypeVar("T")
SOLD, CLOSED, OPEN, TRAINED, OPEN_SOLD, MASS, REPLIES = (
    "sold text",
    "closed",
    "open",
    "open, trained windows",
    "open, sold text",
    "green mass",
    "replies",
)
"""The tests by what they count: what the student was given, its answers, its likeliest tokens, of
these the ones behind windows of the sold text, those on the sold text itself, its mass on green
tokens, and numbers that it says behind keyed words."""
TESTS = (SOLD, CLOSED, OPEN, TRAINED, OPEN_SOLD, MASS, REPLIES)
MOST_CONTEXTS = 3000
"""Whose whole distributions are kept for green mass: 0.6 GB of 49,000 tokens."""


class MarkTestSpec(Spec):
    """Which marks are looked for, the parts of a defence that are such with their keys, and in
    whom: the student as it was trained.
    """

    STAGE: ClassVar[str] = "mark_test"
    task: TaskSpec
    defense: list[ComponentSpec]
    student: StudentSpec


@dataclass(frozen=True)
class MarkTestInputs(Inputs[T]):
    """`model` is the student after all its training, `lessons` what it was made of; `sold` are
    marked answers, `clean` the undefended teacher's to other questions.
    """

    model: T
    lessons: StudentInputs[T]
    sold: T
    clean: T
    teacher: T


def run(spec: MarkTestSpec, inputs: MarkTestInputs[Path], out: Path) -> None:
    """Every test of every mark, and how much of what the student learned from was sold."""
    task = build("task", spec.task)
    suspect = _suspect(task, inputs)
    tests = [
        test for part in spec.defense for test in _tests(part.name, build("defense", part), suspect)
    ]
    tokens, sold = _learned(task, spec.student, inputs.lessons, suspect.teacher)
    MarkEvidence(tokens=tokens, sold=sold, vocabulary=suspect.vocabulary.tokens, tests=tests).write(
        out
    )


class Texts(NamedTuple):
    """Token ids of answers in the marked model's vocabulary, and of what stood before each."""

    prompts: list[list[int]]
    texts: list[list[int]]


class Suspect(NamedTuple):
    """A student and all that is read for its tests."""

    model: LanguageModel
    teacher: LanguageModel
    vocabulary: Vocabulary
    questions: list[Prompt]
    answers: Texts
    lessons: Texts
    sold: Texts
    clean: Texts

    @property
    def reads(self) -> bool:
        """Whether the student's tokens are the marked model's."""
        return self.model.vocabulary == self.teacher.vocabulary


def _suspect(task: Task, inputs: MarkTestInputs[Path]) -> Suspect:
    """The student with its answers to the questions of the clean ones, and all texts."""
    model, teacher = load_network(inputs.model), load_network(inputs.teacher)
    lessons, sold, clean = (
        read_completions(folder / FILE)
        for folder in (inputs.lessons.completions, inputs.sold, inputs.clean)
    )
    firsts = [answer.question for answer in clean if not answer.question.history]
    answers = flat(play(task, model, firsts, seed=0, interface=Interface()))
    if model.vocabulary != teacher.vocabulary:
        answers = [replace(answer, token_ids=()) for answer in answers]
    texts = [_texts(teacher, some) for some in (answers, lessons, sold, clean)]
    return Suspect(model, teacher, Vocabulary.of(teacher), firsts, *texts)


def _texts(teacher: LanguageModel, answers: Sequence[Completion]) -> Texts:
    """The ids of some answers; of questions that the context does not hold, nothing."""
    prompts = [teacher.encode(answer.question) for answer in answers]
    return Texts(prompts, spoken(answers, teacher.tokenizer))


def _learned(
    task: Task, spec: StudentSpec, inputs: StudentInputs[Path], teacher: LanguageModel
) -> tuple[int, int]:
    """Tokens of the answers that a student learned from, and of those of them that stayed as they
    were sold.
    """
    answers, _ = lessons(task, spec, inputs, spec.shape)
    sold = {(one.prompt_id, one.text) for one in read_completions(inputs.completions / FILE)}
    sizes = [len(ids) for ids in spoken(answers, teacher.tokenizer)]
    there = [(one.prompt_id, one.text) in sold for one in answers]
    return sum(sizes), sum(size for size, same in zip(sizes, there, strict=True) if same)


# One mark


def _tests(name: str, mark: Any, suspect: Suspect) -> Iterator[MarkTest]:
    """The tests of a mark, in the order of `TESTS`; a mark of words has its own."""
    if isinstance(mark, trigger.Defense):
        evidence = mark.detect_replies(_replies(mark, suspect))
        yield MarkTest(mark=name, test=REPLIES, looks=[_look(evidence)])
        return
    if not isinstance(mark, Mark):
        raise BadInput(f"defense {name}: is no mark, so no student can be tested for it")
    words = suspect.vocabulary

    def test(which: str, pairs: Pairs) -> MarkTest:
        looks = [_look(mark.detect(part, words)) for part in prefixes(mark, pairs, words.tokens)]
        return MarkTest(mark=name, test=which, looks=looks)

    def pairs_of(texts: Texts) -> Pairs:
        return of_texts(texts.texts, mark.width, words, texts.prompts)

    yield test(SOLD, pairs_of(suspect.lessons))
    yield test(CLOSED, fresh(pairs_of(suspect.answers), suspect.answers.prompts))
    if not suspect.reads:
        note = "the student's tokens are not the marked model's, so it cannot read its texts"
        yield from (_unread(name, which, note) for which in (OPEN, TRAINED, OPEN_SOLD))
        return
    sold = pairs_of(suspect.sold)
    clean = fresh(_read(suspect, suspect.clean, mark.width), suspect.clean.prompts)
    yield test(OPEN, clean)
    yield test(TRAINED, seen_in(clean, sold))
    yield test(OPEN_SOLD, fresh(_read(suspect, suspect.sold, mark.width), suspect.sold.prompts))
    if isinstance(mark, adfp.Defense):
        yield MarkTest(mark=name, test=MASS, looks=[*_masses(mark, suspect)])


def _unread(name: str, which: str, note: str) -> MarkTest:
    return MarkTest(mark=name, test=which, looks=[_look(Evidence("", 0, 0, 0, 0, None, note))])


def prefixes(mark: Mark, pairs: Pairs, size: int) -> Iterator[Pairs]:
    """The pairs up to the 100th distinct draw in the order of the texts, to the 300th, the 1,000th
    and so on, and all of them.

    Args:
        mark: whose draws are counted.
        pairs: in the order of their texts.
        size: of the vocabulary.
    """
    first = first_draws(mark, pairs, size)
    yield from (pairs.only(np.arange(first[n - 1] + 1)) for n in steps(len(first))[:-1])
    yield pairs


def first_draws(mark: Mark, pairs: Pairs, size: int) -> np.ndarray:
    """The places at which a draw is there for the first time, rising.

    Args:
        mark: whose draws they are.
        pairs: in the order of their texts.
        size: of the vocabulary.

    Returns:
        `[N]`, int64.
    """
    contexts_NC, tokens_N = (
        torch.from_numpy(ids.astype(np.int64)) for ids in (pairs.contexts_NC, pairs.tokens_N)
    )
    identity_N = mark.draws(contexts_NC, tokens_N, size).identity_N
    return np.sort(np.unique(identity_N, return_index=True)[1])


def steps(draws: int) -> list[int]:
    """At how many draws a test looks: 100, 300, 1,000 and so on below all of them, and all.

    Args:
        draws: distinct ones.
    """
    rising = [lead * 10**power for power in range(2, 12) for lead in (1, 3)]
    return [*(n for n in rising if n < draws), draws]


def _look(evidence: Evidence) -> MarkLook:
    def number(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else float(value)

    return MarkLook(
        scored=evidence.scored,
        repeats=evidence.repeats,
        statistic=number(evidence.statistic),
        expected=number(evidence.expected),
        log10_p=number(evidence.log10_p),
        note=evidence.note,
    )


# What an open student says


def _distributions(suspect: Suspect, read: Texts) -> Iterator[tuple[int, np.ndarray]]:
    """The row of each text and the student's distributions on it `[L, V]`; a text that is empty or
    too long for the student has none.
    """
    rows = [*zip(read.prompts, read.texts, strict=True)]
    model, never = suspect.model, 10**9
    sizes = [len(prompt) + len(text) if text else never for prompt, text in rows]
    for part in batches_by_length(sizes, model.batch_size, min(model.context, never - 1)):
        some = [rows[row] for row in part]
        made = continuation_probabilities(model.network, some, suspect.vocabulary.tokens)
        yield from zip(part, made, strict=True)


def _places(read: Texts, width: int) -> list[tuple[int, int]]:
    """The row and the place in its text of each pair that `of_texts` makes."""
    return [
        (row, place)
        for row, (prompt, text) in enumerate(zip(read.prompts, read.texts, strict=True))
        for place in range(max(0, width - len(prompt)), len(text))
    ]


def _read(suspect: Suspect, read: Texts, width: int) -> Pairs:
    """What stands before every token of some texts, with what the student would say there."""
    likeliest = {row: p_LV.argmax(-1) for row, p_LV in _distributions(suspect, read)}
    pairs = of_texts(read.texts, width, suspect.vocabulary, read.prompts)
    places = _places(read, width)
    there_N = np.array([row in likeliest for row, _ in places], bool)
    tokens_N = [int(likeliest[row][place]) for row, place in places if row in likeliest]
    there = pairs.only(there_N)
    return replace(there, tokens_N=np.array(tokens_N, np.int64))


def _masses(mark: adfp.Defense, suspect: Suspect) -> Iterator[MarkLook]:
    """Green mass on the clean texts, at fresh contexts, each once, in the order of the texts."""
    read, size = suspect.clean, suspect.vocabulary.tokens
    pairs = of_texts(read.texts, mark.width, suspect.vocabulary, read.prompts)
    first: dict[tuple[int, ...], tuple[int, int]] = {}
    for place, row, context in zip(
        _places(read, mark.width), pairs.rows_N, pairs.contexts_NC, strict=True
    ):
        first.setdefault((row, *context), place)
    unread = fresh(pairs, read.prompts)
    once = np.sort(np.unique(numbers(unread.contexts_NC), return_index=True)[1])[:MOST_CONTEXTS]
    picked = unread.only(once)
    slots: dict[int, list[tuple[int, int]]] = {}
    for slot, (row, context) in enumerate(zip(picked.rows_N, picked.contexts_NC, strict=True)):
        slots.setdefault(int(row), []).append((slot, first[row, *context][1]))
    p_NV = np.full((len(picked), size), np.nan, np.float32)
    for line, p_LV in _distributions(suspect, read):
        for slot, at in slots.get(line, ()):
            p_NV[slot] = p_LV[at]
    there_N = ~np.isnan(p_NV[:, 0])
    contexts_NC, p_NV = picked.contexts_NC[there_N], p_NV[there_N]
    special = [i for i in suspect.teacher.tokenizer.all_special_ids if i < size]
    for n in steps(len(p_NV)):
        yield _look(green_mass(mark, contexts_NC[:n], p_NV[:n], special=special))


# Words of a trigger


def _replies(mark: trigger.Defense, suspect: Suspect) -> list[list[str]]:
    """What the student says behind each keyed word, each behind a question of its own: once, so
    that every word has the same chance.
    """
    words, questions = mark.triggers, suspect.questions
    prompts = [
        replace(questions[i % len(questions)], begin=word.asked_as, attempt=i // len(questions))
        for i, word in enumerate(words)
    ]
    spelled, model = suspect.model.tokenizer, suspect.model
    answers = model.generate(prompts, seed=0, interface=Interface())
    # By tokens: a letter that the vocabulary lacks is none of the text.
    behind = [
        answer.token_ids[len(text_ids(spelled, word.asked_as)) :]
        for answer, word in zip(answers, words, strict=True)
    ]
    return [[spelled.decode(ids, skip_special_tokens=True)] for ids in behind]
