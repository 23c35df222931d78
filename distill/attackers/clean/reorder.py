"""Restoration of reasoning that was rearranged: steps in another order, merged, repeated, or each
turned in itself.

The attacker knows which rules such defences use and not their keys. It undoes them one with
another, and believes the way that a model of its own, which has seen its worked solutions alone,
finds likeliest: an order in which each step uses what those before it made. Of many steps not every
order can be tried, so those that undo a known rule come first. All rules are tried on the first
answers, and on the others those that were believed there: a key may change the order from answer to
answer, but a defence has one set of rules. What a rule dropped is gone. An answer is changed only
where that saves `margin` nats a token, so that undefended answers stay as they are.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pydantic import Field

from distill.answer_format import AnswerFormat
from distill.attackers import AttackerResources, Base, Part
from distill.attackers.clean import split_answer, surprisal, train_own_model, with_text
from distill.completions import Completion
from distill.models import LanguageModel

NUMBER = r"[$]?\d+(?:[.,]\d+)*%?"
OPERAND, OPERATOR = rf"[(]*{NUMBER}[)]*", r"\s*[-+*/×÷x]\s*"
CHAIN = rf"{OPERAND}(?:{OPERATOR}{OPERAND})+(?:\s*=\s*{OPERAND}(?:{OPERATOR}{OPERAND})*)*"
# What is turned or swapped must not begin or end within something longer.
TURNED = re.compile(
    rf"(?<![\w.,$)(+\-*/×÷^])(?<![-+*/×÷x] )({NUMBER})(\s*=\s*)({CHAIN}|{NUMBER}\Z)"
)
SWAPPED = re.compile(
    r"(?<![\w.\-*/×÷^])(?<![-*/×÷^] )(\d+(?:\.\d+)?)"
    r"(\s*[+*×]\s*)(\d+(?:\.\d+)?)(?![\w.]*\w|\s*[*/×÷^])"
)


def turn(step: str) -> str:
    """A step whose result stands before its derivation, the other way round: `a=7=3+4` is
    `a=3+4=7`, `c=3` stays.
    """
    return TURNED.sub(r"\3\2\1", step)


def mirror(step: str) -> str:
    """A step with what is between its equals signs in the opposite order: `7=3+4=a`
    is `a=3+4=7`.
    """
    return "=".join(reversed(step.split("=")))


def swap(step: str) -> str:
    """A step with the operands of its sums and products exchanged: `a=4+3=7` is `a=3+4=7`."""
    return SWAPPED.sub(r"\3\2\1", step)


class Rule(NamedTuple):
    """What may have been done to all steps besides their order: merged, repeated,
    turned, swapped.
    """

    merged: bool
    repeated: bool
    first: Callable[[str], str]
    then: Callable[[str], str]


# `str` leaves a step as it is, so the first rule is none.
RULES = tuple(
    itertools.starmap(
        Rule,
        itertools.product((False, True), (False, True), (str, turn, mirror), (str, swap)),
    )
)


def orders(size: int, most: int) -> list[tuple[int, ...]]:
    """Orders of so many steps, at most `most`: as they are, what undoes reversing, rotating,
    interleaving, others.

    Args:
        size: steps.
        most: orders.
    """
    places = tuple(range(size))
    usual = [places, places[::-1], places[-1:] + places[:-1], places[::2] + places[1::2]]
    every = itertools.chain(usual, itertools.islice(itertools.permutations(places), most))
    return list(dict.fromkeys(every))[:most]


def undo(text: str, rule: Rule, form: AnswerFormat, most: int) -> list[str]:
    """A text with a rule undone, in every order of its steps, at most `most`.

    Args:
        text: of an answer.
        rule: that may have been applied.
        form: where reasoning and answer are.
        most: orders.
    """
    reasoning, rest = split_answer(text, form)
    between = form.between
    if rule.merged:  # a space is between what was merged
        reasoning = reasoning.replace(" ", between)
    steps = [step.text for step in form.split_steps(reasoning)]
    steps = list(dict.fromkeys(steps)) if rule.repeated else steps
    undone = [rule.then(rule.first(step)) for step in steps]
    return [between.join(undone[i] for i in order) + rest for order in orders(len(undone), most)]


def candidates(
    text: str, form: AnswerFormat, most: int, rules: Iterable[Rule] = RULES
) -> list[str]:
    """Every text that the rules could have been applied to, the text itself first, with at most
    `most` orders each.

    Args:
        text: of an answer.
        form: where reasoning and answer are.
        most: orders of each rule.
        rules: that may have been applied.
    """
    return list(dict.fromkeys(one for rule in rules for one in undo(text, rule, form, most)))


class Settings(Part):
    """`most`: orders that are tried; `margin`: nats a token that a change saves; `probe`: answers
    on which all rules are tried; `effort`: share of the recipe's steps.
    """

    most: int = Field(24, ge=1, le=1_000_000)
    margin: float = Field(0.1, ge=0)
    probe: int = Field(64, ge=1, le=1_000_000)
    effort: float = Field(0.5, gt=0, le=1)


class Attacker(Base):
    needs = ("fresh", "worked")
    paper = "Ding et al. 2025, 2510.11545; Ma et al. 2026, 2602.15143"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Every answer in the likeliest of the forms that it may have had."""
        s, model = (
            self.settings,
            train_own_model(resources.worked, resources, seed, self.settings.effort),
        )
        probe, rest = completions[: s.probe], completions[s.probe :]
        read = self._likeliest_of(probe, model, resources, RULES)
        believed = {
            self._rule(old.text, new.text, resources) for old, new in zip(probe, read, strict=True)
        }
        return read + self._likeliest_of(
            rest, model, resources, [rule for rule in RULES if rule in {RULES[0], *believed}]
        )

    def _likeliest_of(
        self,
        completions: Sequence[Completion],
        model: LanguageModel,
        resources: AttackerResources,
        rules: Iterable[Rule],
    ) -> list[Completion]:
        s = self.settings
        tried = [
            [with_text(one, text) for text in candidates(one.text, resources.format, s.most, rules)]
            for one in completions
        ]
        nats = iter(surprisal(model, [one for forms in tried for one in forms]))
        return [self._likeliest(forms, list(itertools.islice(nats, len(forms)))) for forms in tried]

    def _rule(self, old: str, new: str, resources: AttackerResources) -> Rule:
        """The first rule that leads from what was sold to what was believed."""
        s = self.settings
        return next(rule for rule in RULES if new in undo(old, rule, resources.format, s.most))

    def _likeliest(self, forms: list[Completion], nats: list[float]) -> Completion:
        least = min(nats)
        return forms[nats.index(least)] if least < nats[0] - self.settings.margin else forms[0]
