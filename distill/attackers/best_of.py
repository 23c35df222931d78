"""The best of k students: the attacker trains as many, which differ in their seed alone, and keeps
one.

One training in many may fail where others do not, and whoever has the answers can train again. Who
is best is told by questions of the attacker's own, where it can by such that it does not learn
from, answered greedily and checked against the final answers that it owns. The cost of all k is
reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from distill.attackers import NOTHING, AttackerResources, Base, Part, logprob_kd, sft
from distill.attackers.follow import spent
from distill.completions import Completion, Interface, Prompt, digest
from distill.models import LanguageModel
from distill.student import StudentSettings, Trained


def seeds(seed: int, k: int) -> list[int]:
    """The seed itself, so that the first student is the plain one, and k - 1 that are functions of
    it.
    """
    return [seed, *(int(digest(f"best_of/{seed}/{place}")[:8], 16) for place in range(1, k))]


def asked(own: AttackerResources, said: Sequence[Completion], most: int) -> list[Completion]:
    """The first of its public questions that are not among those learned from; of all, where there
    are no others.
    """
    known = {one.prompt for one in said}
    return ([one for one in own.public if one.prompt not in known] or [*own.public])[:most]


class Settings(Part):
    """`learner` is how each student learns; `questions`: on how many of the attacker's own they are
    compared.
    """

    k: int = Field(3, ge=1, le=1000)
    learner: Literal["sft", "logprob_kd"] = "sft"
    questions: int = Field(200, ge=1, le=1_000_000)


class Attacker(Base):
    needs = ("check", "fresh")

    @property
    def needs_interface(self) -> str:  # type: ignore[override]
        return str(self._learner().needs_interface)

    def train(
        self,
        said: Sequence[Completion],
        model: LanguageModel,
        recipe: StudentSettings,
        *,
        seed: int,
        own: AttackerResources = NOTHING,
        checkpoint: Path | None = None,
    ) -> Trained:
        """Train k students; the first of equals is kept."""
        assert own.fresh is not None
        held, done, right = asked(own, said, self.settings.questions), list[Trained](), list[int]()
        for place, one in enumerate(seeds(seed, self.settings.k)):
            student = own.fresh(one) if place else model
            done.append(self._learner().train(said, student, recipe, seed=one))
            right.append(self._right(replace(student, network=done[-1].network.eval()), held, own))
        best = done[right.index(max(right))]
        return replace(best, **spent(done))

    def _learner(self) -> Any:
        part = {"sft": sft, "logprob_kd": logprob_kd}[self.settings.learner]
        return part.Attacker(part.Settings.model_validate({}))

    def _right(
        self, student: LanguageModel, held: Sequence[Completion], own: AttackerResources
    ) -> int:
        assert own.check is not None
        prompts = [Prompt(one.prompt_id, one.prompt) for one in held]
        return sum(map(own.check, student.generate(prompts, seed=0, interface=Interface())))
