"""Trace inversion: reasoning that was withheld is written anew, from the question and what was
sold.

Zhang, Morris & Shmatikov 2026 (2603.07267): an inverter, fine-tuned from a pretrained model, learns
to write surrogate traces of open models from their question, answer and summary; the student learns
from what it writes for the sold ones. Here it is a model of the student's kind, pretrained where
that is; the surrogate traces are worked solutions that the attacker owns, and their summaries are
what the defence, rebuilt by the attacker, makes of them (`reads: sold`), so that the inverter is
asked what it was trained on. `reads: answer` is the paper's ablation without summaries.
Who is given the answer can end in it whatever came before, so what one inverter writes is believed
only if all `voters`, trained from other seeds, write the same: that is this project's own. In
further rounds they learn from what was believed as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Literal

from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.clean import split_answer, train_own_model, with_text
from distill.completions import BadInput, Completion, Interface
from distill.models import LanguageModel
from distill.seeds import derived_seed


class Settings(Part):
    """`reads`: what an inverter is given beside the question, the final answer or all that was
    sold; `short`: an answer of fewer characters, as a share of the worked solutions' median, lacks
    its reasoning; `keep`: whether one for which none was found is kept as it was sold; `begun`:
    whether what was sold of a reasoning is its beginning, as under truncation and not under a
    summary; `effort`: share of the recipe's steps.
    """

    reads: Literal["answer", "sold"] = "answer"
    rounds: int = Field(1, ge=1, le=1000)
    voters: int = Field(2, ge=1, le=1000)
    short: float = Field(0.8, gt=0)
    keep: bool = False
    begun: bool = False
    effort: float = Field(0.7, gt=0, le=1)


class Attacker(Base):
    paper = "Zhang et al. 2026, 2603.07267"

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("fresh", "worked") + (("defense",) if self.settings.reads == "sold" else ())

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Short answers with the reasoning that was found for them; with none found for any, all as
        they were sold.

        Raises:
            BadInput: the attacker owns no worked solutions.
        """
        if not resources.worked:
            raise BadInput(
                "attacker clean/invert_trace: the attacker owns no worked solutions; see own.worked"
            )
        s, usual = self.settings, median(len(one.text) for one in resources.worked)
        wanted = [
            i
            for i, one in enumerate(completions)
            if len(one.text) < s.short * usual and resources.final(one) is not None
        ]
        restored: dict[int, Completion] = {}
        for turn in range(s.rounds):
            missing = [i for i in wanted if i not in restored]
            if not missing:
                break
            believed = [(restored[i], completions[i]) for i in restored]
            train_items = [
                replace(trace, prompt=hinted(trace, sold, resources, s.reads))
                for trace, sold in [*surrogates(resources, s.reads), *believed]
            ]
            seeds = [derived_seed("invert_trace", seed, turn, voter) for voter in range(s.voters)]
            inverters = [
                train_own_model(train_items, resources, voter_seed, s.effort)
                for voter_seed in seeds
            ]
            written = [
                expand(one, [completions[i] for i in missing], resources, s) for one in inverters
            ]
            restored |= {
                i: forms[0]
                for i, forms in zip(missing, zip(*written, strict=True), strict=True)
                if len({one.text for one in forms}) == 1
                and is_believable(forms[0], completions[i], resources)
            }
        dropped = {*wanted} - {*restored} if restored and not s.keep else set()
        return [restored.get(i, one) for i, one in enumerate(completions) if i not in dropped]


def surrogates(resources: AttackerResources, reads: str) -> list[tuple[Completion, Completion]]:
    """The attacker's own traces, each with what the provider would have sold of it.

    Args:
        resources: its worked solutions, and the defence rebuilt where `sold` is read.
        reads: `answer` or `sold`, see `Settings`.

    Returns:
        Pairs of a trace and what was sold of it; under `answer` the two are the same.
    """
    worked = list(resources.worked)
    if reads == "answer":
        return list(zip(worked, worked, strict=True))
    assert resources.defense is not None  # it is among what the attack needs
    return list(zip(worked, resources.defense(worked), strict=True))


def hinted(answer: Completion, sold: Completion, resources: AttackerResources, reads: str) -> str:
    """The question of an answer, with what was sold of it, or its final answer alone.

    Args:
        answer: whose question it is.
        sold: what the provider gave away of it; it has a final answer.
        resources: how final answers are read and written.
        reads: `answer` or `sold`, see `Settings`.
    """
    if reads == "sold":
        return f"{answer.prompt} {sold.text.strip()}"
    return f"{answer.prompt} {resources.format.answer(str(resources.final(sold))).strip()}"


def expand(
    inverter: LanguageModel,
    completions: Sequence[Completion],
    resources: AttackerResources,
    settings: Settings,
) -> list[Completion]:
    """What the inverter writes for each answer, given its question and what `reads` says; behind
    its reasoning if `begun`.

    Args:
        inverter: a student trained to write a trace from what was sold.
        completions: what was sold.
        resources: how answers are read and written.
        settings: of the attack.

    Returns:
        Completions in the order of `completions`, with no token ids and no logprobs.
    """
    prompts = []
    for sold in completions:
        begin = split_answer(sold.text, resources.format)[0] if settings.begun else ""
        prompt = replace(sold, prompt=hinted(sold, sold, resources, settings.reads)).question
        prompts.append(replace(prompt, begin=begin))
    written = inverter.generate(prompts, seed=0, interface=Interface())
    return [
        replace(with_text(one, new.text), finished=new.finished)
        for one, new in zip(completions, written, strict=True)
    ]


def is_believable(new: Completion, sold: Completion, resources: AttackerResources) -> bool:
    """Whether a reasoning ends in the answer that was sold, and is longer than what was sold.

    Args:
        new: the reasoning that was found, with its answer.
        sold: what the provider gave.
        resources: how final answers are read.
    """
    return resources.final(new) == resources.final(sold) and len(new.text) > len(sold.text)
