"""Reformulated reasoning: self-talk goes, and every sub-conclusion is said before its derivation.

PART (Ding et al., 2510.11545) has a language model do this segment by segment, so that readers lose
nothing; its code was not released. With `by: model` the provider's rewriter is told to, with an
instruction of our own. By rule, of an equation, `3+4=7` becomes `7=3+4` where it stands, and a
student must write results before it has derived them. No fact is lost: who knows of the rule can
turn equations round again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from defenses import NO_RESOURCES, DefenseSettings, ProviderResources, SecretKey, Strength, Traits
from defenses.release import TextEdit, edit_reasoning, join_steps
from defenses.release._rewriter import BY_MODEL, Part, rewritten, segments
from defenses.release._spans import CODE, FIRST, LAST, MATHS, Masked
from defenses.release.summary import ANNOTATION
from distill.completions import Completion
from distill.generation import uniform
from distill.models import Model

FILLERS = (
    "hmm",
    "wait",
    "but wait",
    "hold on",
    "okay",
    "alright",
    "well",
    "actually",
    "let me",
    "let's see",
    "i think",
    "i need to",
    "i should",
    "maybe i",
)
SENTENCE = re.compile(r".+?(?:[.!?]+(?=\s|\Z)\s*|\Z)", re.DOTALL)

NUMBER = r"[$]?\d+(?:[.,]\d+)*%?"
OPERAND, OPERATOR = rf"[(]*{NUMBER}[)]*", r"\s*[-+*/×÷x]\s*"
OPERATION = rf"{OPERAND}(?:{OPERATOR}{OPERAND})+"
CHAIN = rf"{OPERATION}(?:\s*=\s*{OPERAND}(?:{OPERATOR}{OPERAND})*)*?"
# Neither end may lie within something longer, as `2+3 = 10` does in `x * 2+3 = 10` and in `half of
# 2+3 = 10`.
BEFORE = rf"(?<![\w.,$)(+\-*/×÷^{FIRST}-{LAST}])" + "".join(
    rf"(?<!{end} )" for end in (r"[-+*/×÷^]", " x", "of", "plus", "minus", "times")
)
AFTER = rf"(?![\w$%({FIRST}-{LAST}]|[.,]\d|\s*[-+*/×÷^=(]|\s+x\s)"
WORD = r"[ ]+([A-Za-z][\w'-]*)"
EQUATION = re.compile(
    rf"{BEFORE}({CHAIN}|\A{NUMBER})(\s*=\s*)({NUMBER}){AFTER}(?:{WORD})?(?=({WORD})?)"
)
# What no quantity is counted in: behind a number, these begin something else.
FUNCTION_WORDS = frozenset(
    "a an and are as at be because but by each every for from if in is it left more of off on or "
    "per so than that the then to total was were when where which while who with".split()
)


def hoist_result(step: str) -> str:
    """A step whose equations say their result first: `a=3+4=7` is `a=7=3+4`, `760=13` is `13=760`,
    `c=3` stays.

    An equation is arithmetic on both sides of `=`, or a step that starts with a number and says
    what it comes to. A unit goes with its number: `= 12 apples` is one result.
    """

    def hoisted(match: re.Match[str]) -> str:
        derivation, equals, result, unit, _, after = match.groups()
        if unit is None or unit.lower() in FUNCTION_WORDS:
            return f"{result}{equals}{derivation}" + (f" {unit}" if unit else "")
        if after and after.lower() not in FUNCTION_WORDS:
            return match[0]  # a unit of several words, of which none knows where it ends
        return f"{result} {unit}{equals}{derivation}"

    return EQUATION.sub(hoisted, step)


def without_fillers(step: str, fillers: Sequence[str]) -> str:
    """A step without the sentences that begin with a filler; of those with a number or an equation,
    the filler goes.

    A filler of one word counts only before a punctuation mark: `Wait, 2 more.` is self-talk, `Wait
    times are 2.` not.

    Args:
        step: text.
        fillers: words and phrases, in any case.
    """
    if not fillers:
        return step
    ends = {False: r"(?=\s*(?:[,.:;!?…—]|\Z))", True: r"(?![\w-])"}
    filler_pattern = "|".join(re.escape(filler) + ends[" " in filler] for filler in fillers)
    start = re.compile(rf"(?:(?:{filler_pattern})[\s,.:;!?…—]*)+", re.IGNORECASE)

    def without_filler(sentence: re.Match[str]) -> str:
        match = start.match(sentence[0])
        return (
            sentence[0]
            if not match
            else sentence[0][match.end() :]
            if re.search(r"[\d=]", sentence[0])
            else ""
        )

    shorter = SENTENCE.sub(without_filler, step)
    return step if shorter == step else shorter.strip()


def reformulate(step: str, fillers: Sequence[str]) -> str:
    """A step without fillers and calculator notes (`<<3+4=7>>`, which derive in their own order),
    results first.

    Args:
        step: text.
        fillers: words and phrases, in any case.
    """
    return hoist_result(ANNOTATION.sub("", without_fillers(step, fillers)))


INSTRUCTION = (
    "Rewrite this part of a solution: state each conclusion before its derivation, and leave out "
    "talking to oneself. Keep every fact and every number. Write nothing else.\n\n{reasoning}"
)


class Settings(DefenseSettings):
    """`by`: a rule, or a rewriter that is told `instruction` (`{question}`, `{reasoning}`) about
    each `segment` steps, as published; `share`: how many of the steps, or of a rewriter's segments,
    are reformulated (0: no defence), which of them by `key` and prompt.

    `fillers`: what self-talk begins with, in either case.
    """

    by: Literal["rule", "model"] = "rule"
    share: float = Field(1.0, ge=0, le=1)
    segment: int = Field(4, ge=1, le=1000)
    instruction: str = Field(INSTRUCTION, pattern=r"\{reasoning\}")
    fillers: tuple[str, ...] = FILLERS
    key: SecretKey = "reformulate"


class Defense(TextEdit):
    """Reformulates steps of the reasoning, without token ids and logprobs."""

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"share": 0.0},
        strength=Strength("share", 0.0, 0.05, 1.0),
        keeps_answer=True,
        paper="Ding et al. 2025, 2510.11545",
    )

    def __init__(self, settings: Settings, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        if settings.by == "model":
            self.traits = replace(self.traits, **BY_MODEL)

    def __call__(self, model: Model) -> Model:
        s = self.settings
        if self.is_identity or s.by == "rule":
            return super().__call__(model)
        divide = segments(self.format, s.segment)

        def divided(answer: Completion) -> list[Part]:
            return [
                part._replace(rewritten=self._is_reformulated(i, answer))
                for i, part in enumerate(divide(answer))
            ]

        name = "release/reformulate"
        return rewritten(model, self.resources, name, s.instruction, s.key, divided)

    def _is_reformulated(self, place: int, answer: Completion) -> bool:
        s = self.settings
        return uniform(s.key, "step", place, answer.prompt) < s.share

    def text(self, answer: Completion) -> str:
        s = self.settings

        def edit(reasoning: str) -> str:
            masked = Masked(reasoning, CODE, MATHS)
            steps = self.format.split_steps(masked.text)
            new = [
                step._replace(text=reformulate(step.text, s.fillers))
                if self._is_reformulated(i, answer)
                else step
                for i, step in enumerate(steps)
            ]
            left = [now for now, old in zip(new, steps, strict=True) if now.text or not old.text]
            return masked.unmasked(join_steps(left, steps[-1].tail))

        return edit_reasoning(answer.text, self.format, edit)
