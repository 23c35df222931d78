"""Reasoning as somebody would write it who knew the answer from the start: no doubt, no checking,
no way that led nowhere.

Kim et al. (2603.15500) show that students of such traces reason worse than before, as doubt is what
makes a solver look again. Their instruction was not seen; this one is ours. Attackers who mix in
other traces, or none of these, undo it.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from defenses import SecretKey
from defenses.release import rewrite

INSTRUCTION = (
    "Somebody who knows the answer from the start explains it. Rewrite this reasoning that way: "
    "straight to the answer, sure of every step, without doubts, checks, second thoughts or "
    "attempts that led nowhere. Keep every fact that the answer needs. Write nothing else.\n\n"
    "Question: {question}\n\nReasoning: {reasoning}\n\nAnswer: {answer}"
)


class Settings(rewrite.InstructionSettings):
    __doc__ = rewrite.InstructionSettings.__doc__

    instruction: str = Field(INSTRUCTION, pattern=r"\{reasoning\}")
    key: SecretKey = "hindsight"


class Defense(rewrite.InstructionDefense):
    """Has the reasoning of some answers rewritten without doubt, and releases all without token ids
    and logprobs.
    """

    NAME = "release/hindsight"
    settings: Settings
    traits = replace(rewrite.InstructionDefense.traits, paper="Kim et al. 2026, 2603.15500")
