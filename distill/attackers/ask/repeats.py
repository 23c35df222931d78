"""Several answers to every question: material for a vote, for the best of k, or for averaging what
is drawn anew.

A budget counts questions; the exchanges, k times as many, are in the ledger. Source: Libon, as
reported for its Q = k D queries; Wang et al. 2023 (self-consistency, 2203.11171).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.completions import Prompt


class Settings(Part):
    k: int = Field(4, ge=1, le=1000)


class Attacker(Base):
    paper = "Wang et al. 2023, 2203.11171"

    def ask(
        self, prompts: Sequence[Prompt], budget: int, resources: AttackerResources, *, seed: int
    ) -> list[Prompt]:
        """Every question k times, its repeats one behind the other."""
        return [replace(prompt, attempt=i) for prompt in prompts for i in range(self.settings.k)]
