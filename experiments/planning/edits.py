"""On what share of a teacher's answers a defence acts that edits finished text by rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from defenses import BaseDefense, ProviderResources
from distill.completions import BadInput, Completion, Interface
from experiments.planning.checks import examples
from experiments.planning.questions import open_recording
from experiments.settings.defenses import parse_defense
from experiments.settings.entries import build_task
from experiments.settings.models import is_recording
from experiments.settings.schema import Study
from experiments.stages.models import StoredModel
from experiments.tasks import Task

LOOKED_AT = 200  # recorded answers


class Acted(NamedTuple):
    """A part of a defence, and how many of so many answers it changes."""

    name: str
    changed: int
    answers: int


def acted(study: Study, entry: str, task: str) -> list[Acted]:
    """How many answers each part of a defence changes that edits text by rule.

    Args:
        study: whose teacher answers; of one that is recorded its answers are looked at, of others
            worked solutions of the task.
        entry: the defence.
        task: the task's entry.

    Raises:
        BadInput: one changes none, not even at its full strength.
    """
    answers, exam = _answers(study, task), build_task(task)
    parts = []
    for name, part in _rules(entry):
        changed = _changed(part, answers, exam)
        if not changed and not _changed(_strongest(part), answers, exam):
            raise BadInput(
                f"{name}: its rule changes none of {len(answers)} answers to {task}, first "
                f"{answers[0].text[:80]!r}; it is no defence of them"
            )
        parts.append(Acted(name, changed, len(answers)))
    return parts


def _answers(study: Study, task: str) -> list[Completion]:
    """Answers of the kind that the teacher gives."""
    if is_recording(study.teacher):
        attempts = list(open_recording(study.teacher).answers.values())[:LOOKED_AT]
        return [first for first, *_ in attempts]
    return [Completion.to(item.prompt, item.solution) for item in examples(task)]


def _rules(entry: str) -> Iterator[tuple[str, BaseDefense]]:
    chain = parse_defense(entry).chain
    for name, part in zip(chain.names, chain.parts, strict=True):
        by_rule = part.traits.acts_on == "text" and not part.traits.needs
        if by_rule and not part.traits.learns and not part.is_identity:
            yield name, part


def _strongest(part: BaseDefense) -> BaseDefense:
    strength = part.traits.strength
    if strength is None:
        return part
    changes = {strength.name: strength.strongest}
    return type(part)(part.settings.model_copy(update=changes))


def _changed(part: BaseDefense, answers: Sequence[Completion], exam: Task) -> int:
    resources = ProviderResources(format=exam.format, tools=exam.tools)
    handed = type(part)(part.settings, resources)
    released = handed(StoredModel(answers)).generate((), seed=0, interface=Interface())
    return sum(new.text != old.text for new, old in zip(released, answers, strict=True))
