"""Prefill: the answer must begin with words of the caller's choice, where the interface lets a
caller say so.

A reported cheap attack: a word or two of reasoning, and a teacher that was told to hide its steps
writes them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.completions import Prompt


class Settings(Part):
    text: str = Field("Let", min_length=1)


class Attacker(Base):
    needs = ("prefill",)
    paper = "-"

    def ask(
        self, prompts: Sequence[Prompt], budget: int, resources: AttackerResources, *, seed: int
    ) -> list[Prompt]:
        """The same prompts, whose answers begin with the text."""
        return [replace(prompt, begin=self.settings.text) for prompt in prompts]
