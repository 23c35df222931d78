"""Few-shot elicitation: worked solutions of the attacker's own stand before the question (Brown et
al. 2020).

What is learned from the answers is still the question without them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.completions import BadInput, Prompt


class Settings(Part):
    n: int = Field(2, ge=1, le=1000)
    separator: str = "\n"


class Attacker(Base):
    needs = ("worked",)
    paper = "Brown et al. 2020, 2005.14165"

    def ask(
        self, prompts: Sequence[Prompt], budget: int, resources: AttackerResources, *, seed: int
    ) -> list[Prompt]:
        """The same prompts behind n of the attacker's own examples, drawn anew for each; never the
        question itself.
        """
        return [
            replace(prompt, text=self._shown(prompt, resources, f"{seed}/{i}"))
            for i, prompt in enumerate(prompts)
        ]

    def _shown(self, prompt: Prompt, resources: AttackerResources, key: str) -> str:
        others = [one for one in resources.worked if one.prompt != prompt.text]
        if len(others) < self.settings.n:
            raise BadInput(
                f"attacker ask/few_shot: n={self.settings.n}, but {len(others)} worked solutions "
                "are owned; "
                "see own.worked"
            )
        shown = [
            f"{one.prompt} {one.text}" for one in random.Random(key).sample(others, self.settings.n)
        ]
        return str(self.settings.separator).join([*shown, prompt.text])
