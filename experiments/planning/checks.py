"""What a study's sizes need of its tasks: enough questions, and room for worked solutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from distill.completions import BadInput
from distill.rendering import completion_ids, prompt_ids
from experiments.planning.opened import open_model
from experiments.seeds import seed_for
from experiments.settings.catalog import cached
from experiments.settings.entries import build_task
from experiments.settings.models import FineTuned, Network
from experiments.settings.schema import Study
from experiments.tasks import Item, Split

LOOKED_AT = 200  # training questions whose worked solutions are measured before anything runs
EXAMPLES = 20


@cached
def examples(task: str) -> list[Item]:
    """A few training questions with their worked solutions."""
    return list(build_task(task).train_items(EXAMPLES, seed_for("provider")))


def check_exams(study: Study, task: str) -> None:
    """No exam may have more questions than the task's split.

    Args:
        study: which says how many each has.
        task: by its entry.

    Raises:
        BadInput: one has more.
    """
    check_questions(task, "measure.items", "report", study.measure.items)
    check_questions(task, "measure.selection_items", "select", study.measure.selection_items)
    check_questions(task, "own.worked", "query", study.own.worked)
    if study.search.trials:
        check_questions(task, "search.items", "validate", study.search.items)


def check_questions(task: str, setting: str, split: Split, n: int) -> None:
    """A split of a task must have as many questions as a setting asks for.

    Args:
        task: by its entry.
        setting: its dotted name.
        split: of the task.
        n: how many it asks for.

    Raises:
        BadInput: there are fewer.
    """
    there = build_task(task).available(split, n)
    if there < n:
        raise BadInput(f"{setting}: {task}: {n} {split} items asked for, only {there} available")


def check_traces(study: Study, task: str) -> None:
    """A task must have training questions for the provider's traces, and as many for its proxy.

    Args:
        study: which says how many traces there are.
        task: by its entry.

    Raises:
        BadInput: there are fewer.
    """
    n = study.provider.traces
    if (there := _train_items(task, 2 * n)) < 2 * n:
        raise BadInput(
            f"provider.traces: {n} and as many for a proxy are too many; {task} has {there} "
            "training questions"
        )


@cached
def _train_items(task: str, most: int) -> int:
    return build_task(task).available("train", most)


def check_steps(study: Study, task: str) -> Iterator[str]:
    """Students from scratch should train until more training changes nothing.

    Args:
        study: whose student is meant.
        task: the task's entry.

    Returns:
        A note where the task's plateau is known to take more steps.
    """
    student, steps = study.student, build_task(task).plateau_steps
    if isinstance(student, Network) and student.steps < steps:
        yield (
            f"{task}: students of {student.steps} steps are short of its plateau, which takes "
            f"{steps} (docs/plateau.md)"
        )


def check_lengths(study: Study, task: str) -> Iterator[str]:
    """Worked solutions must fit into `max_length` beside their question, and into `max_new_tokens`.

    Args:
        study: whose student and teacher are meant, as far as they are trained from scratch.
        task: the task's entry.

    Returns:
        A note where some do not, as answers will be cut.

    Raises:
        BadInput: none of them fits.
    """
    for name, shape in (("student", study.student), ("teacher", study.teacher)):
        if isinstance(shape, Network):
            yield from _check_fit(name, shape, _token_counts(task, shape.vocabulary), task)


def check_opened_lengths(study: Study, task: str) -> Iterator[str]:
    """The same of models from elsewhere that are trained further here; their tokenizers are opened.

    Args:
        study: whose student and teacher are meant.
        task: the task's entry.

    Returns:
        As `check_lengths`.

    Raises:
        BadInput: no worked solution fits, or a model cannot be opened.
    """
    for name, shape in (("student", study.student), ("teacher", study.teacher)):
        if isinstance(shape, FineTuned):
            yield from _check_fit(name, shape, _pretrained_token_counts(task, name, shape), task)


def _check_fit(name: str, shape: Network | FineTuned, tokens: _Tokens, task: str) -> Iterator[str]:
    limits = (
        ("max_length", shape.max_length, tokens.whole),
        ("max_new_tokens", shape.max_new_tokens, tokens.answers),
    )
    for setting, most, sizes in limits:
        over = sum(size > most for size in sizes)
        limit = f"{name}.{setting}: {most} tokens"
        if over == len(sizes):
            raise BadInput(
                f"{limit} are too few for every worked solution of {task}, the shortest takes "
                f"{min(sizes)}"
            )
        if over:
            yield (
                f"{limit} cut {100 * over / len(sizes):.0f} % of worked solutions of {task}, "
                f"the longest takes {max(sizes)}"
            )


class _Tokens(NamedTuple):
    """Tokens of training questions with their worked solutions and ends, and of the solutions with
    ends alone.
    """

    whole: list[int]
    answers: list[int]


@cached
def _token_counts(task: str, vocabulary: int) -> _Tokens:
    """Under a student's own tokenizer: a token a character, or byte pairs learned from the task's
    public text.
    """
    exam = build_task(task)
    length: Callable[[str], int] = len
    if vocabulary:
        from distill.embedded import byte_pair_tokenizer

        tokenizer = byte_pair_tokenizer(exam.corpus(), vocabulary)
        length = lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)  # noqa: E731
    items = exam.train_items(LOOKED_AT, seed_for("provider"))
    answers = [length(item.solution) + 1 for item in items]
    questions = [length(item.prompt.text) for item in items]
    return _Tokens([q + a for q, a in zip(questions, answers, strict=True)], answers)


@cached
def _pretrained_token_counts(task: str, setting: str, model: FineTuned) -> _Tokens:
    """Under a pretrained model's tokenizer, as it is trained."""
    tokenizer, exam = open_model(setting, model).tokenizer, build_task(task)
    items = exam.train_items(LOOKED_AT, seed_for("provider"))
    answers = [len(completion_ids(tokenizer, item.solution, True)) for item in items]
    questions = [len(prompt_ids(tokenizer, item.prompt)) for item in items]
    return _Tokens([q + a for q, a in zip(questions, answers, strict=True)], answers)
