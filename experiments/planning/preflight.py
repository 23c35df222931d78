"""What a study names is opened before anything is written: models, tasks' graders, lengths.

A mistake that is found here costs a second; the same one found by a stage costs what ran before it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from distill.completions import BadInput
from distill.folders import ModelFolder, inspect
from distill.models import vocabulary_of
from experiments.private import shown
from experiments.settings.entries import build_task
from experiments.settings.schema import Pretrained, Recipe, Study, parse_attack
from experiments.tasks import Item, Outcome, Task

ASKED = 200  # questions whose lengths are measured
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def check(study: Study) -> None:
    """Open what a study names.

    Raises:
        BadInput: a model is no folder and no name on the hub, or lacks a part; a task's grader does
            not find the right answer in its own solutions; a question does not fit.
    """
    models = {name: check_model(name, model) for name, model in _pretrained(study)}
    for block in study.blocks:
        logprobs = any(parse_attack(a).needs_interface != "text" for a in block.attackers)
        for entry in block.tasks:
            task = build_task(entry)
            check_grader(entry, task)
            items = task.items("report", min(ASKED, study.measure.items), 0)
            check_lengths(study, entry, items, models)
            if logprobs and "teacher" in models and not study.student.vocabulary:
                check_tokenizer(entry, task, models["teacher"])


def _pretrained(study: Study) -> Iterator[tuple[str, Pretrained]]:
    parts = {
        "teacher": study.teacher,
        "weaker_teacher": study.weaker_teacher,
        "provider.proxy": study.provider.proxy,
        "provider.rewriter": study.provider.rewriter,
    }
    return ((name, model) for name, model in parts.items() if isinstance(model, Pretrained))


def check_model(setting: str, model: Pretrained) -> ModelFolder:
    """What a model's folder, or name on the hub, holds beside its weights."""
    path = shown(model.path)
    if not Path(path).is_dir() and not HUB_NAME.fullmatch(path):
        raise BadInput(
            f"{setting}.path: no folder {path!r}; a model is a folder with config.json, "
            "tokenizer.json and *.safetensors, or a name on the hub such as owner/name"
        )
    try:
        return inspect(path, allow_pickle=model.allow_pickle)
    except BadInput as error:
        raise BadInput(f"{setting}.path: {error}") from error


def check_grader(entry: str, task: Task) -> None:
    """A task's grader must be able to read its references, and find the right answer in its worked
    solutions and in what floors learn from: or no student could ever score, and F would be 0 for
    all.
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
    """Every question must leave room for an answer in the contexts of student and teacher."""
    rooms = {"student": (study.student.max_length, study.student.max_new_tokens)}
    if isinstance(study.teacher, Recipe):
        rooms["teacher"] = (study.teacher.max_length, study.teacher.max_new_tokens)
    characters = not study.student.vocabulary
    for (name, (length, new)), item in itertools.product(rooms.items(), items):
        tokens = len(item.prompt.text)  # a token a character; byte pairs are fewer
        if characters and tokens + new > length:
            raise BadInput(
                f"{name}.max_length: {length} has no room for a question of {entry} of {tokens} "
                f"tokens and {name}.max_new_tokens={new}, first {_short(item.prompt.text)}"
            )
    teacher = models.get("teacher")
    if teacher and isinstance(study.teacher, Pretrained):
        new = study.teacher.max_new_tokens
        longest = max(items, key=lambda item: len(item.prompt.text))
        tokens = teacher.tokens(longest.prompt)
        if tokens + new > teacher.context:
            raise BadInput(
                f"teacher.max_new_tokens: {new} and a question of {entry} of {tokens} tokens are "
                f"more than the model's context of {teacher.context}"
            )


def check_tokenizer(entry: str, task: Task, teacher: ModelFolder) -> None:
    """Released logprobs are over the teacher's tokens, so the student must have its tokenizer."""
    from distill.embedded import character_tokenizer  # which `plan` needs for nothing else

    if teacher.vocabulary != vocabulary_of(character_tokenizer(task.alphabet)):
        raise BadInput(
            f"task {entry}: an attacker that learns from logprobs needs a student with the "
            "teacher's tokenizer; the pretrained teacher's is another than the student's "
            "characters; take attacker=sft"
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")
