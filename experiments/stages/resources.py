"""What an attacker has beside the answers that it was given."""

from __future__ import annotations

from collections.abc import Sequence
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

    `more` is what only some stages hand it: how it trains, a pilot, the teacher.
    """
    questions = task.items("query", owned.pool * owned.budget, seed)
    worked = task.items("query", owned.worked, seed_for("worked"))
    public = task.public(owned.budget, seed)
    final = {item.prompt.conversation: item.reference for item in [*questions, *worked, *public]}
    return AttackerResources(
        public=solutions(public),
        worked=solutions(worked),
        final=task.final,
        mark=task.mark,
        check=lambda answer: (
            task.grade(answer.text, final[answer.question.conversation], answer.finished) == "right"
        ),
        **more,
    )


def solutions(items: Sequence[Item]) -> list[Completion]:
    """The items' solutions as answers."""
    return [Completion.to(item.prompt, item.solution) for item in items]
