"""Targeted paraphrase: the attacker's own model says the sold answers anew, and avoids what their
mark is thought to prefer.

After "targeted paraphrasing" of Pan et al. 2025 (2502.11598; at second hand, its code of this part
is not released), which estimates green tokens by watermark stealing (Jovanovic et al. 2024,
2402.19361) and takes them from a paraphraser's scores. Here the paraphraser is a model of the
student's kind that has learned from the sold answers and answers the same questions, so it needs no
gift of tongues. Its unmarked counterpart has learned from worked solutions of the attacker's own.
Tokens of both are compared, or what both would say behind the sold text; no key is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from distill.attackers import AttackerResources, Base
from distill.attackers._stealing import Estimate, require_worked, stolen
from distill.attackers.clean import say_anew, train_own_model, with_text
from distill.completions import Completion
from distill.seeds import derived_seed


class Settings(Estimate):
    """`strength`: nats that are taken from what is preferred; `samples`: times that a question is
    answered until the final answer is the sold one; `temperature`: of all answers.
    """

    strength: float = Field(2.5, ge=0, le=100)
    samples: int = Field(4, ge=1, le=1000)
    temperature: float = Field(0.7, gt=0)


class Attacker(Base):
    needs = ("fresh", "worked")
    paper = "Pan et al. 2025, 2502.11598; Jovanović et al. 2024, 2402.19361"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Answers of its own to the same questions; where none of them ends in the sold final
        answer, the sold one stays.

        Raises:
            BadInput: the attacker owns no worked solutions.
        """
        if not completions:
            return []
        require_worked(resources, "clean/targeted_paraphrase")
        s = self.settings
        base = train_own_model(
            resources.worked, resources, derived_seed("targeted_paraphrase", seed, 0)
        )
        own_seed = derived_seed("targeted_paraphrase", seed, 1)
        speaker = train_own_model(completions, resources, own_seed)
        compared = speaker if s.by == "models" else None
        preference = stolen(completions, base, compared, s, s.temperature, seed)
        edited = replace(speaker, score_edits=(preference.edit(-s.strength),))
        anew = say_anew(edited, completions, resources, s.samples, s.temperature, own_seed)
        return [
            sold if text is None else with_text(sold, text)
            for sold, text in zip(completions, anew, strict=True)
        ]
