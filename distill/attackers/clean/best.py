"""Best of k: of several answers to a question the one that is right, that is likeliest, or that is
shortest.

Right is what the attacker can check; likeliest is to a model of its own, trained on all answers it
holds. Equals go by order, so with one answer a question nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.clean import groups, surprisal, train_own_model
from distill.completions import Completion


class Settings(Part):
    by: Literal["check", "likelihood", "length"] = "check"


class Attacker(Base):
    paper = "Nakano et al. 2021, 2112.09332"

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return {"check": ("check",), "likelihood": ("fresh",), "length": ()}[self.settings.by]

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """One answer a question."""
        by_question = groups(completions)
        if all(len(group) == 1 for group in by_question):
            return list(completions)
        cost: list[Any] = [len(completion.text) for completion in completions]
        if self.settings.by == "check":
            assert resources.check is not None
            cost = [not resources.check(completion) for completion in completions]
        elif self.settings.by == "likelihood":
            cost = surprisal(train_own_model(completions, resources, seed), completions)
        rank = {id(completion): value for completion, value in zip(completions, cost, strict=True)}
        return [min(group, key=lambda completion: rank[id(completion)]) for group in by_question]
