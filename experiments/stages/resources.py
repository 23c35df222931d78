"""What an attacker has beside the answers that it was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from distill.attackers import AttackerResources
from distill.completions import Completion
from experiments.seeds import seed_for
from experiments.stages.stage import Sparse
from experiments.tasks import Item, Task


class Owned(Sparse):
    """How much an attacker owns: final answers to `pool` times its budget of questions, and worked
    solutions.
    """

    budget: int
    pool: int
    worked: int


def attacker_resources(task: Task, owned: Owned, seed: int, **more: Any) -> AttackerResources:
    """What an attacker has beside the answers: a function of the task, its seed and the study's
    `own` alone.

    Args:
        task: whose questions they are.
        owned: how much of it the attacker has.
        seed: of the arm.
        more: what only some stages hand it: how it trains, a pilot, the teacher.
    """
    questions = task.items("query", owned.pool * owned.budget, seed)
    worked = task.items("query", owned.worked, seed_for("worked"))
    public = task.public(owned.budget, seed)
    return AttackerResources(
        public=solutions(public),
        worked=solutions(worked),
        final=lambda answer: task.final(answer.text, answer.finished),
        format=task.format,
        tools=task.tools,
        check=checker(task, [*questions, *worked, *public]),
        **more,
    )


def checker(task: Task, items: Sequence[Item]) -> Callable[[Completion], bool]:
    """What tells whether an answer to one of these questions, or to a turn of one, is right.

    Behind a wrong turn nothing is: what should follow it is not known.

    Args:
        task: that grades.
        items: with their references.
    """
    turns = [turn for item in items for turn in item.exchanges]
    references = {turn.prompt.conversation: turn.reference for turn in turns}

    def right(answer: Completion) -> bool:
        reference = references.get(answer.question.conversation)
        return reference is not None and (
            task.grade(answer.text, reference, answer.finished) == "right"
        )

    return right


def solutions(items: Sequence[Item]) -> list[Completion]:
    """The items' solutions as answers, a turn each.

    Args:
        items: with their solutions.
    """
    return [Completion.to(turn.prompt, turn.solution) for item in items for turn in item.exchanges]
