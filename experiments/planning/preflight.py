"""What a study names is opened before anything is written: models, tasks' graders, lengths.

A mistake that is found here costs a second; the same one found by a stage costs what ran before it.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from dataclasses import replace

from distill.completions import BadInput
from distill.folders import ModelFolder, tokenizer_digest
from distill.rendering import text_ids
from distill.specs import PretrainedModel
from experiments.planning.opened import open_model, student_vocabulary
from experiments.private import shown
from experiments.settings.attacks import parse_attack
from experiments.settings.entries import build_task
from experiments.settings.models import (
    FineTuned,
    FineTunedStudent,
    FineTunedTeacher,
    Network,
    Pretrained,
)
from experiments.settings.schema import Study
from experiments.settings.served import Served
from experiments.tasks import Item, Outcome, Task

Asked = Pretrained | FineTunedTeacher | FineTunedStudent
ASKED = 200  # questions whose lengths are measured


def check(study: Study) -> None:
    """Open what a study names.

    Raises:
        BadInput: a model is no folder and no name on the hub, or lacks a part; a task's grader does
            not find the right answer in its own solutions; a question does not fit.
    """
    models = {name: open_model(name, model) for name, model in _pretrained(study)}
    for block in study.blocks:
        attacks = [parse_attack(attacker) for attacker in block.attackers]
        logprobs = any(
            one.needs_interface != "text" and "tokenizer" not in one.needs for one in attacks
        )
        for entry in block.tasks:
            task = build_task(entry)
            check_grader(entry, task)
            items = task.items("report", min(ASKED, study.measure.items), 0)
            check_lengths(study, entry, items, models)
            for attacker in block.attackers:
                check_instruction(study, entry, attacker, items, models.get("teacher"))
            if logprobs and (teacher := models.get("teacher")):
                check_tokenizer(study, entry, task, teacher.vocabulary)
            if logprobs and isinstance(study.teacher, Served) and study.teacher.tokenizer:
                words = tokenizer_digest(shown(study.teacher.tokenizer))
                check_tokenizer(study, entry, task, words)


def _pretrained(study: Study) -> Iterator[tuple[str, PretrainedModel]]:
    parts = {
        "teacher": study.teacher,
        "weaker_teacher": study.weaker_teacher,
        "provider.proxy": study.provider.proxy,
        "provider.rewriter": study.provider.rewriter,
        "student": study.student,
    }
    return ((name, one) for name, one in parts.items() if isinstance(one, PretrainedModel))


def check_grader(entry: str, task: Task) -> None:
    """A task's grader must be able to read its references, and find the right answer in its worked
    solutions and in what floors learn from: or no student could ever score, and F would be 0 for
    all.

    Args:
        entry: of the task, for messages.
        task: whose own items are graded.

    Raises:
        BadInput: the grader cannot read a reference, or calls a solution of the task's own wrong.
    """
    sources = {
        "worked solution": task.train_items(task.grader.tried, 0),
        "item with its final answer alone": task.public(task.grader.tried, 0),
    }
    for what, items in sources.items():
        for item in items:
            _check_reference(entry, task, item)
            outcome = task.grade(item.solution, item.reference)
            if outcome != Outcome.RIGHT:
                raise BadInput(
                    f"task {entry}: its grader calls its own {what} {outcome.value}: question "
                    f"{_short(item.prompt.text)}, answer {_short(item.solution)}, reference "
                    f"{_short(item.reference)}"
                )


def _check_reference(entry: str, task: Task, item: Item) -> None:
    try:
        task.grader.check(item.reference)
    except BadInput as error:
        raise BadInput(f"task {entry}: question {_short(item.prompt.text)}: {error}") from None


def check_lengths(
    study: Study, entry: str, items: list[Item], models: dict[str, ModelFolder]
) -> None:
    """Every question must leave room for an answer in the context of each model that is asked it.

    Args:
        study: with its models.
        entry: of the task, for messages.
        items: some report questions, at least one.
        models: those that are pretrained, by their places in the study.

    Raises:
        BadInput: a question leaves too little room.
    """
    networks = {
        "student": study.student,
        "teacher": study.teacher,
        "weaker_teacher": study.weaker_teacher,
    }
    rooms = {
        name: (model.max_length, model.max_new_tokens)
        for name, model in networks.items()
        if isinstance(model, Network) and not model.vocabulary
    }
    for (name, (length, new)), item in itertools.product(rooms.items(), items):
        tokens = len(item.prompt.text)  # a token a character; byte pairs are fewer
        if tokens + new > length:
            raise BadInput(
                f"{name}.max_length: {length} has no room for a question of {entry} of {tokens} "
                f"tokens and {name}.max_new_tokens={new}, first {_short(item.prompt.text)}"
            )
    longest = max(items, key=lambda item: len(item.prompt.text))
    for name, model in networks.items():
        if isinstance(model, PretrainedModel):
            check_context(name, model, models[name], longest, entry)


def check_context(name: str, model: Asked, folder: ModelFolder, longest: Item, entry: str) -> None:
    """A pretrained model must have room for a question and its answer, and for what it learns.

    Args:
        name: the model's place in the study.
        model: with the tokens that it may write.
        folder: the same, opened.
        longest: a question.
        entry: of the task, for messages.

    Raises:
        BadInput: there is too little room.
    """
    tokens, new = folder.tokens(longest.prompt), model.max_new_tokens
    if tokens + new > folder.context:
        raise BadInput(
            f"{name}.max_new_tokens: {new} and a question of {entry} of {tokens} tokens are "
            f"more than the model's context of {folder.context:g}"
        )
    if isinstance(model, FineTuned) and model.max_length > folder.context:
        raise BadInput(
            f"{name}.max_length: {model.max_length} is more than the model's context of "
            f"{folder.context:g}"
        )


def check_instruction(
    study: Study, entry: str, attacker: str, items: list[Item], teacher: ModelFolder | None
) -> None:
    """What an attacker tells a teacher in words must be what its tokenizer spells, and leave room
    for a question and an answer of the student's.

    Args:
        study: with its teacher and its student.
        entry: of the task, for messages.
        attacker: by its entry.
        items: some report questions, at least one.
        teacher: opened; None where it is none that can be.

    Raises:
        BadInput: it is not, or there is too little room.
    """
    words, model = parse_attack(attacker).instruction, study.teacher
    if not (words and teacher and isinstance(model, PretrainedModel)):
        return
    unknown = teacher.tokenizer.unk_token_id
    plain = "".join(text for text, *_ in string.Formatter().parse(words))
    if unknown is not None and unknown in text_ids(teacher.tokenizer, plain):
        raise BadInput(
            f"{attacker}: the tokenizer of teacher {model.name!r} cannot spell what it is told, "
            f"first {_short(plain)}"
        )
    longest = max(items, key=lambda item: len(item.prompt.text)).prompt
    tokens = teacher.tokens(replace(longest, text=f"{plain}{longest.text}"))
    answer, reply = study.student.max_new_tokens, model.max_new_tokens
    if tokens + answer + reply > teacher.context:
        raise BadInput(
            f"{attacker}: what the teacher is told takes {tokens} tokens with a question of "
            f"{entry}; with student.max_new_tokens={answer} and teacher.max_new_tokens={reply} "
            f"that is more than the teacher's context of {teacher.context:g}"
        )


def check_tokenizer(study: Study, entry: str, task: Task, teacher: str) -> None:
    """Released logprobs are over the teacher's tokens, so the student must have its tokenizer.

    Args:
        study: with its student.
        entry: of the task, for messages.
        task: whose alphabet a tiny student's tokens are.
        teacher: SHA-256 of the teacher's tokenizer.

    Raises:
        BadInput: it has another.
    """
    if teacher != student_vocabulary(study, task):
        tiny = isinstance(study.student, Network)
        raise BadInput(
            f"task {entry}: an attacker that learns from logprobs needs a student with the "
            f"teacher's tokenizer; the {study.teacher.kind} teacher's is another than the "
            f"student's {'characters' if tiny else 'own'}; take attacker=aligned_kd or sft"
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")
