"""Questions spread over accounts in turn: what a defence ties to an account is not the same for all
of them.

Without this part every question comes from an account of its own, which is the most that spreading
can do; few accounts are the weaker attacker. Repeats of one question come from different accounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.completions import Prompt


class Settings(Part):
    n: int = Field(8, ge=1, le=1000)


class Attacker(Base):
    paper = "-"

    def ask(
        self, prompts: Sequence[Prompt], budget: int, resources: AttackerResources, *, seed: int
    ) -> list[Prompt]:
        """The same prompts, prompt i from account i mod n."""
        return [
            replace(prompt, account=f"account-{i % self.settings.n}")
            for i, prompt in enumerate(prompts)
        ]
