"""Spoofing: answers that somebody else's detector takes for its own, by a model that never learned
from them.

Watermark stealing (Jovanovic et al. 2024, 2402.19361): what a mark prefers is estimated from the
victim's answers, and added to the scores of the attacker's own model when it speaks. It tests
detectors, not defences: whoever is accused by one may have been made to look so. The attacker's
model has learned from its worked solutions alone, answers the questions that were asked, and the
student learns from what it says; of the victim's answers nothing is learned but the mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from distill.attackers import AttackerResources, Base
from distill.attackers._stealing import Estimate, answer_each, require_worked, stolen
from distill.attackers.clean import train_own_model, with_text
from distill.completions import Completion
from distill.seeds import derived_seed


class Settings(Estimate):
    """`strength`: nats that are added to what is preferred; `temperature`: of all answers. Tokens
    are compared, as published, unless asked for otherwise.
    """

    by: Literal["tokens", "models"] = "tokens"
    strength: float = Field(4.0, ge=0, le=100)
    temperature: float = Field(0.7, gt=0)


class Attacker(Base):
    needs = ("fresh", "worked")
    paper = "Jovanović et al. 2024, 2402.19361"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Its own model's answers to the same questions, with the victim's mark.

        Raises:
            BadInput: the attacker owns no worked solutions.
        """
        if not completions:
            return []
        require_worked(resources, "clean/spoof")
        s, own_seed = self.settings, derived_seed("spoof", seed)
        base = train_own_model(resources.worked, resources, own_seed)
        marked = None
        if s.by == "models":
            marked = train_own_model(completions, resources, derived_seed("spoof", seed, 1))
        preference = stolen(completions, base, marked, s, s.temperature, seed)
        edited = replace(base, score_edits=(preference.edit(s.strength),))
        forged = answer_each(edited, completions, s.temperature, own_seed)
        return [
            replace(with_text(sold, new.text), finished=new.finished)
            for sold, new in zip(completions, forged, strict=True)
        ]
