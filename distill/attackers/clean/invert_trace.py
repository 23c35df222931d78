"""Trace inversion: reasoning that was withheld is written anew, from the question and the answer
that was sold.

Zhang, Morris & Shmatikov 2026 (2603.07267): an inverter learns from traces of open models, given
question and answer, and the student learns from what it writes for the sold answers. Here the
surrogate traces are worked solutions that the attacker owns. Who is given the answer can end in it
whatever came before, so what one inverter writes is believed only if all `voters`, trained from
other seeds, write the same. In further rounds they learn from what was believed as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.clean import split_answer, train_own_model, with_text
from distill.completions import BadInput, Completion, Interface
from distill.models import LanguageModel


class Settings(Part):
    """`short`: an answer of fewer characters, as a share of the worked solutions' median, lacks its
    reasoning; `keep`: whether one for which none was found is kept as it was sold; `begun`: whether
    what was sold of a reasoning is its beginning, as under truncation and not under a summary;
    `effort`: share of the recipe's steps.
    """

    rounds: int = Field(1, ge=1, le=1000)
    voters: int = Field(2, ge=1, le=1000)
    short: float = Field(0.8, gt=0)
    keep: bool = False
    begun: bool = False
    effort: float = Field(0.7, gt=0, le=1)


class Attacker(Base):
    needs = ("fresh", "worked")
    paper = "Zhang et al. 2026, 2603.07267"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Short answers with the reasoning that was found for them; with none found for any, all as
        they were sold.
        """
        if not resources.worked:
            raise BadInput(
                "attacker clean/invert_trace: the attacker owns no worked solutions; see own.worked"
            )
        s, usual = self.settings, median(len(one.text) for one in resources.worked)
        wanted = [
            i
            for i, one in enumerate(completions)
            if len(one.text) < s.short * usual and resources.final(one.text) is not None
        ]
        restored: dict[int, Completion] = {}
        for turn in range(s.rounds):
            missing = [i for i in wanted if i not in restored]
            if not missing:
                break
            train_items = [
                with_hint(one, resources) for one in [*resources.worked, *restored.values()]
            ]
            inverters = [
                train_own_model(train_items, resources, seed + 1000 * turn + voter, s.effort)
                for voter in range(s.voters)
            ]
            written = [
                expand(one, [completions[i] for i in missing], resources, s.begun)
                for one in inverters
            ]
            restored |= {
                i: forms[0]
                for i, forms in zip(missing, zip(*written, strict=True), strict=True)
                if len({one.text for one in forms}) == 1
                and is_believable(forms[0], completions[i], resources)
            }
        dropped = {*wanted} - {*restored} if restored and not s.keep else set()
        return [restored.get(i, one) for i, one in enumerate(completions) if i not in dropped]


def with_hint(answer: Completion, resources: AttackerResources) -> Completion:
    """An answer to a question that gives its final answer away."""
    final = resources.format.answer(str(resources.final(answer.text))).strip()
    return replace(answer, prompt=f"{answer.prompt} {final}")


def expand(
    inverter: LanguageModel,
    completions: Sequence[Completion],
    resources: AttackerResources,
    begun: bool,
) -> list[Completion]:
    """What the inverter writes for each answer, given question and final answer; behind its
    reasoning if `begun`.
    """
    begins = [split_answer(one.text, resources.format)[0] if begun else "" for one in completions]
    prompts = [
        replace(with_hint(one, resources).question, begin=begin)
        for one, begin in zip(completions, begins, strict=True)
    ]
    written = inverter.generate(prompts, seed=0, interface=Interface())
    return [with_text(one, new.text) for one, new in zip(completions, written, strict=True)]


def is_believable(new: Completion, sold: Completion, resources: AttackerResources) -> bool:
    """Whether a reasoning ends in the answer that was sold, and is longer than what was sold."""
    return resources.final(new.text) == resources.final(sold.text) and len(new.text) > len(
        sold.text
    )
