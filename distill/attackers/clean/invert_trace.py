"""Trace inversion: reasoning that was withheld is written anew, from the question and the answer that was sold.

An inverter learns from worked solutions of the attacker's own, given question and final answer; it is then asked about
the sold answers whose reasoning is missing. What it writes is believed only if it ends in the answer that was sold. In
every further round it learns from what was believed as well. Published inverters learn from traces of open models; here
these are `own.worked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from pydantic import Field

from distill.answers import Answer, Profile, Prompt
from distill.attackers import Base, Own, Part
from distill.attackers.clean import own_model, rewritten
from distill.models import LanguageModel


class Settings(Part):
    """`short`: an answer of fewer characters, as a share of the worked solutions' median, lacks its reasoning."""

    rounds: int = Field(3, ge=1)
    short: float = Field(0.8, gt=0)


class Attacker(Base):
    needs = ("fresh", "worked")
    paper = "language-model inversion, 2026; ReST, 2308.08998"

    def clean(self, said: Sequence[Answer], own: Own, *, seed: int) -> list[Answer]:
        """Short answers with the reasoning that was found for them, or as they are; all others as they are."""
        usual = median(len(one.text) for one in own.worked)
        wanted = [i for i, one in enumerate(said)
                  if len(one.text) < self.settings.short * usual and own.final(one.text) is not None]  # fmt: skip
        found: dict[int, Answer] = {}
        for turn in range(self.settings.rounds if wanted else 0):
            lessons = [hinted(one, own) for one in [*own.worked, *found.values()]]
            inverter = own_model(lessons, own, seed + turn)
            missing = [i for i in wanted if i not in found]
            written = expanded(inverter, [said[i] for i in missing], own)
            found |= {i: new for i, new in zip(missing, written, strict=True) if believed(new, said[i], own)}
        return [found.get(i, one) for i, one in enumerate(said)]


def hinted(answer: Answer, own: Own) -> Answer:
    """An answer to a question that gives its final answer away."""
    return replace(answer, prompt=f"{answer.prompt} {own.mark} {own.final(answer.text)}")


def expanded(inverter: LanguageModel, said: Sequence[Answer], own: Own) -> list[Answer]:
    """What the inverter writes for each answer, given its question and its final answer."""
    prompts = [Prompt(one.prompt_id, hinted(one, own).prompt) for one in said]
    written = inverter.answer(prompts, seed=0, profile=Profile())
    return [rewritten(one, new.text) for one, new in zip(said, written, strict=True)]


def believed(new: Answer, sold: Answer, own: Own) -> bool:
    """Whether a reasoning ends in the answer that was sold, and is longer than what was sold."""
    return own.final(new.text) == own.final(sold.text) and len(new.text) > len(sold.text)
