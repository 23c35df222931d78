"""Best of k: of several answers to a question the one that is right, that is likeliest, or that is
shortest.

Right is what the attacker can check; likeliest is to a model of its own, trained on all answers it
holds. Equals go by order, so with one answer a question nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.clean import groups, own_model, surprisal
from distill.completions import Completion


class Settings(Part):
    by: Literal["check", "likelihood", "length"] = "check"


class Attacker(Base):
    paper = "Nakano et al. 2021, 2112.09332"

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return {"check": ("check",), "likelihood": ("fresh",), "length": ()}[self.settings.by]

    def clean(
        self, said: Sequence[Completion], own: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """One answer a question."""
        held = groups(said)
        if all(len(group) == 1 for group in held):
            return list(said)
        cost: list[Any] = [len(one.text) for one in said]
        if self.settings.by == "check":
            assert own.check is not None
            cost = [not own.check(one) for one in said]
        elif self.settings.by == "likelihood":
            cost = surprisal(own_model(said, own, seed), said)
        rank = {id(one): value for one, value in zip(said, cost, strict=True)}
        return [min(group, key=lambda one: rank[id(one)]) for group in held]
