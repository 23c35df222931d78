"""What an attacker has beside the answers that it was given."""

from __future__ import annotations

from typing import Any

from distill.attackers import AttackerResources
from distill.completions import Completion

# The questions whose worked solutions every attacker owns are drawn in an order of their own.
WORKED = 3000


def means(task: Any, settings: Any, **more: Any) -> AttackerResources:
    """What an attacker has beside the answers: a function of the task, its seed and the study's
    `own` alone.

    `more` is what only some stages hand it: how it trains, a pilot, the teacher.
    """
    held, seed = settings["own"], settings["seed"]
    asked = task.items("query", held["pool"] * held["budget"], seed)
    worked, public = task.items("query", held["worked"], WORKED), task.public(held["budget"], seed)
    final = {item.prompt.text: item.reference for item in [*asked, *worked, *public]}
    return AttackerResources(
        public=solved(public),
        worked=solved(worked),
        final=task.final,
        mark=task.mark,
        check=lambda answer: bool(task.grade(answer.text, final[answer.prompt]) == "right"),
        **more,
    )


def solved(items: list[Any]) -> list[Completion]:
    return [Completion(item.prompt.id, item.prompt.text, item.solution) for item in items]
