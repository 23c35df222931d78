"""Obfuscated reasoning: rewritten so that it is harder to learn from, with the final answer as it
was.

Trace rewriting (Ma et al., 2602.15143; `release/rewrite`) searches for the instruction of a
rewriting model: each candidate rewrites traces, proxies are tuned on them, and what hurts proxies
most seeds the next candidates. Here the search is alike and what is searched is a grammar:
sequences of rules on the list of steps, which cost no second model. Nothing touches the final
answer.

What is searched for hurts a student that believes what it reads. Rules that only move or swap can
be undone by who knows them; those that drop steps or results cannot, and take as much from the
honest reader.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from pydantic import Field, field_validator
from torch import Tensor

from defenses import NO_RESOURCES, ProviderResources, SecretKey, Strength, Traits
from defenses.release import TextEdit, edit_reasoning, is_edited
from defenses.release._scoring import ProxySettings, hurt, scoring_proxy, split_traces
from defenses.release._spans import CODE, MATHS, NOTES, PRIVATE, Masked
from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Completion
from distill.generation import uniform
from distill.models import Model

NAME = "release/obfuscate"
# Only where a swap changes no value: neither number may belong to an operation that binds as
# tightly or tighter.
SUM = re.compile(
    r"(?<![\w.\-*/×÷^])(?<![-*/×÷^] )(\d+(?:\.\d+)?)"
    r"(\s*[+*×]\s*)(\d+(?:\.\d+)?)(?![\w.]*\w|\s*[*/×÷^])"
)
Rule = Callable[[list[str], str], list[str]]
Candidate = tuple[str, ...]
BEST = 3  # how many of the best candidates have descendants


def _shuffle(steps: list[str], key: str) -> list[str]:
    """The steps in an order that is a function of the key and their number."""
    return [steps[i] for i in sorted(range(len(steps)), key=lambda i: uniform(key, "shuffle", i))]


def _interleave(steps: list[str], key: str) -> list[str]:
    """The first half and the second in turns: 1 2 3 4 5 is 1 4 2 5 3."""
    half = (len(steps) + 1) // 2
    return [steps[i // 2 + (i % 2) * half] for i in range(len(steps))]


def _has_own_lines(first: str, *second: str) -> bool:
    """Whether one of two steps ends, or the other begins, with what may be a block of code."""
    meeting = (first[-1:], *(step[:1] for step in second))
    return any(map(PRIVATE.match, meeting))


def _merge(steps: list[str], key: str) -> list[str]:
    """Two steps each as one, with a space between them; what may be a block of code keeps its own
    lines.
    """
    pairs = [steps[i : i + 2] for i in range(0, len(steps), 2)]
    return [
        step for pair in pairs for step in (pair if _has_own_lines(*pair) else [" ".join(pair)])
    ]


def _each(change: Callable[[str], str]) -> Rule:
    """The rule that changes every step on its own."""
    return lambda steps, key: [change(step) for step in steps]


RULES: dict[str, Rule] = {
    "reverse": lambda steps, key: steps[::-1],
    "rotate": lambda steps, key: steps[1:] + steps[:1],
    "interleave": _interleave,
    "shuffle": _shuffle,
    "drop_second": lambda steps, key: [step for i, step in enumerate(steps) if i % 2 == 0],
    "drop_third": lambda steps, key: [step for i, step in enumerate(steps) if i % 3 < 2],
    "repeat": lambda steps, key: steps + steps[:1],
    "merge": _merge,
    "swap_operands": _each(lambda step: SUM.sub(r"\3\2\1", step)),
    "swap_sides": _each(lambda step: "=".join(reversed(step.split("=")))),
    "drop_left": _each(lambda step: step[step.find("=") + 1 :]),
    "drop_result": _each(lambda step: step.rpartition("=")[0] or step),
}
"""The grammar: pure functions of the steps and a key. Order says what an index in `learned` means:
append only.
"""


def rewrite(text: str, rules: Sequence[str], form: AnswerFormat, key: str) -> str:
    """A text whose steps went through the rules one after another; its final answer stays.

    Args:
        text: an answer.
        rules: names of rules, in their order.
        form: where its reasoning and final answer are.
        key: the provider's secret.
    """

    def edit(reasoning: str) -> str:
        masked = Masked(reasoning, CODE, MATHS, NOTES)
        steps = [step.text for step in form.split_steps(masked.text)]
        for rule in rules:
            steps = RULES[rule](steps, key)
        return masked.unmasked(form.between.join(steps))

    return edit_reasoning(text, form, edit)


def mutate(parent: Candidate, depth: int, rng: random.Random) -> Candidate:
    """A sequence of 1 to `depth` rules that is one change away: a rule more, one less, or another
    in its place.

    Args:
        parent: a sequence of rules.
        depth: the most rules.
        rng: generator.
    """
    place, rule = rng.randrange(len(parent)), rng.choice(list(RULES))
    ways = [(*parent[:place], rule, *parent[place + 1 :])]
    if len(parent) < depth:
        ways.append((*parent[:place], rule, *parent[place:]))
    if len(parent) > 1:
        ways.append((*parent[:place], *parent[place + 1 :]))
    return rng.choice(ways)


def search(
    score: Callable[[Candidate], float], rounds: int, samples: int, depth: int, key: str
) -> dict[Candidate, float]:
    """Scores of the candidates that were tried: random ones in the first round, then mutations of
    the best so far.

    Args:
        score: of a candidate, larger is better.
        rounds: of search.
        samples: candidates a round.
        depth: the most rules.
        key: seed of the search.
    """
    rng, scores = random.Random(key), dict[Candidate, float]()
    for _ in range(rounds):
        best = sorted(scores, key=lambda candidate: -scores[candidate])[:BEST]
        for _ in range(samples):
            if best:
                candidate = mutate(rng.choice(best), depth, rng)
            else:
                candidate = tuple(rng.choice(list(RULES)) for _ in range(rng.randint(1, depth)))
            if candidate not in scores:
                scores[candidate] = score(candidate)
    return scores


class Settings(ProxySettings):
    """`share`: how many of the answers are rewritten (0: no defence), which of them by `key` and
    prompt.

    `rules`: which ones, one after another (None: what the search finds). The search: sequences of
    at most `depth` rules, `rounds` of `samples` of them, each scored by a copy of the proxy.
    """

    share: float = Field(1.0, ge=0, le=1)
    rules: tuple[str, ...] | None = Field(None, min_length=1)
    depth: int = Field(3, ge=1, le=1000)
    rounds: int = Field(3, ge=1, le=1000)
    samples: int = Field(6, ge=1, le=1000)
    key: SecretKey = "obfuscate"

    @field_validator("rules")
    @classmethod
    def _known(cls, rules: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = [rule for rule in rules or () if rule not in RULES]
        if unknown:
            raise ValueError(f"no rule {unknown[0]!r} (there are: {', '.join(RULES)})")
        return rules


class Defense(TextEdit):
    """Rewrites the reasoning of some answers, and releases all without token ids and logprobs."""

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"share": 0.0},
        strength=Strength("share", 0.0, 0.05, 1.0),
        keeps_answer=True,
        needs=("proxy", "traces"),
        learns=True,
        paper="Ma et al. 2026, 2602.15143",
    )

    def __init__(self, settings: Settings, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        if settings.rules is not None:
            self.traits = replace(self.traits, learns=False, needs=())

    def text(self, answer: Completion) -> str:
        if not is_edited(answer.prompt, self.settings.key, self.settings.share):
            return answer.text
        return self.rewrite(answer, self.rules)

    def rewrite(self, answer: Completion, rules: Sequence[str]) -> str:
        """The answer's text after these rules.

        Args:
            answer: of the teacher.
            rules: names of `RULES`, in the order in which they act.
        """
        return rewrite(answer.text, rules, self.format, f"{self.settings.key}/{answer.prompt}")

    @property
    def rules(self) -> Candidate:
        """The rules of the settings, or else those that the search found.

        Raises:
            BadInput: there are neither.
        """
        if self.settings.rules is not None:
            return self.settings.rules
        if "rules" not in self.resources.learned:
            raise BadInput(
                "defense release/obfuscate: no rules; give rules, or let it learn them first"
            )
        return tuple(list(RULES)[i] for i in self.resources.learned["rules"].tolist())

    def learn(self, model: Model) -> Mapping[str, Tensor]:
        """`rules`: the best candidate as indices into RULES; `candidates` `[N, depth]`, padded with
        -1, with `scores` `[N]`.
        """
        if not self.traits.learns or self.is_identity:
            return {}
        s = self.settings
        scores = search(
            self._score(*split_traces(self.resources, NAME)), s.rounds, s.samples, s.depth, s.key
        )
        names = list(RULES)
        padded = [
            [*map(names.index, candidate), *[-1] * (s.depth - len(candidate))]
            for candidate in scores
        ]
        best = max(scores, key=lambda candidate: scores[candidate])
        return {
            "rules": torch.tensor([names.index(rule) for rule in best]),
            "candidates": torch.tensor(padded),
            "scores": torch.tensor(list(scores.values()), dtype=torch.float64),
        }

    def _score(
        self, train_items: Sequence[Completion], held_out: Sequence[Completion]
    ) -> Callable[[Candidate], float]:
        """How little a proxy knows of held-out answers once it is tuned on the traces as a
        candidate rewrites them.
        """
        proxy = scoring_proxy(self.resources, NAME)

        def score(candidate: Candidate) -> float:
            shown = [replace(one, text=self.rewrite(one, candidate)) for one in train_items]
            return hurt(proxy, shown, held_out, self.format, self.settings)

        return score
