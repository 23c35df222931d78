"""Obfuscated reasoning: rewritten so that it is harder to learn from, with the final answer as it
was.

Trace rewriting (Ma et al., 2602.15143) searches for the instruction of a rewriting model,
OPRO-like: each candidate rewrites traces, proxies are tuned on them, and what hurts proxies most
seeds the next candidates. Here the search is the same and what is searched is a grammar: sequences
of rules on the list of steps, which cost no second model. With `by: model` a rewriter follows a
fixed instruction instead. The released code measures how right answers stay by having a much larger
rewriter answer again, with the question before it; here nothing touches the final answer.

What is searched for hurts a student that believes what it reads. Rules that only move or swap can
be undone by who knows them; those that drop steps or results cannot, and take as much from the
honest reader.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional

from defenses import (
    NO_RESOURCES,
    DefenseSettings,
    ProviderResources,
    SecretKey,
    Strength,
    Traits,
    require_traces,
)
from defenses.release import TextEdit, edit_reasoning, split_answer
from defenses.release._rewriter import BY_MODEL, Part, rewritten, whole
from defenses.release._spans import CODE, MATHS, NOTES, PRIVATE, Masked
from defenses.trained import Row, answer_logits, copied, loss, rows, tune
from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Completion, Interface
from distill.generation import uniform
from distill.models import LanguageModel, Model
from distill.rendering import completion_ids, text_ids

INSTRUCTION = (
    "Rewrite this reasoning so that it stays correct but is as hard to imitate as possible: "
    "dense, formal, with steps "
    "left implicit. Write nothing else.\n\n{reasoning}"
)
# Only where a swap changes no value: neither number may belong to an operation that binds as
# tightly or tighter.
SUM = re.compile(
    r"(?<![\w.\-*/×÷^])(?<![-*/×÷^] )(\d+(?:\.\d+)?)"
    r"(\s*[+*×]\s*)(\d+(?:\.\d+)?)(?![\w.]*\w|\s*[*/×÷^])"
)
Rule = Callable[[list[str], str], list[str]]
Candidate = tuple[str, ...]
BEST = 3  # how many of the best candidates have descendants


def shuffle(steps: list[str], key: str) -> list[str]:
    """The steps in an order that is a function of the key and their number."""
    return [steps[i] for i in sorted(range(len(steps)), key=lambda i: uniform(key, "shuffle", i))]


def interleave(steps: list[str], key: str) -> list[str]:
    """The first half and the second in turns: 1 2 3 4 5 is 1 4 2 5 3."""
    half = (len(steps) + 1) // 2
    return [steps[i // 2 + (i % 2) * half] for i in range(len(steps))]


def _has_own_lines(first: str, *second: str) -> bool:
    """Whether one of two steps ends, or the other begins, with what may be a block of code."""
    meeting = (first[-1:], *(step[:1] for step in second))
    return any(map(PRIVATE.match, meeting))


def merge(steps: list[str], key: str) -> list[str]:
    """Two steps each as one, with a space between them; what may be a block of code keeps its own
    lines.
    """
    pairs = [steps[i : i + 2] for i in range(0, len(steps), 2)]
    return [
        step for pair in pairs for step in (pair if _has_own_lines(*pair) else [" ".join(pair)])
    ]


def each(change: Callable[[str], str]) -> Rule:
    """The rule that changes every step on its own."""
    return lambda steps, key: [change(step) for step in steps]


RULES: dict[str, Rule] = {
    "reverse": lambda steps, key: steps[::-1],
    "rotate": lambda steps, key: steps[1:] + steps[:1],
    "interleave": interleave,
    "shuffle": shuffle,
    "drop_second": lambda steps, key: [step for i, step in enumerate(steps) if i % 2 == 0],
    "drop_third": lambda steps, key: [step for i, step in enumerate(steps) if i % 3 < 2],
    "repeat": lambda steps, key: steps + steps[:1],
    "merge": merge,
    "swap_operands": each(lambda step: SUM.sub(r"\3\2\1", step)),
    "swap_sides": each(lambda step: "=".join(reversed(step.split("=")))),
    "drop_left": each(lambda step: step[step.find("=") + 1 :]),
    "drop_result": each(lambda step: step.rpartition("=")[0] or step),
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


@torch.inference_mode()
def final_answer_loss(
    student: LanguageModel, held_out: Sequence[Completion], form: AnswerFormat, batch_size: int
) -> float:
    """1 - the probability of the right final answer after the student's own reasoning, a mean in
    [0, 1].

    Smoother than how often it is right. Mean nats would be carried by the few answers it is most
    wrongly sure of.

    Args:
        student: that was trained on obfuscated answers.
        held_out: clean answers.
        form: where their final answers are.
        batch_size: answers at once.
    """
    attempts = student.generate([one.question for one in held_out], seed=0, interface=Interface())
    finals = [
        _final_answer_row(student, clean, own, form)
        for clean, own in zip(held_out, attempts, strict=True)
    ]
    right = 0.0
    for start in range(0, len(finals), batch_size):
        batch = finals[start : start + batch_size]
        nats_N = functional.cross_entropy(
            *answer_logits(student.network, batch), reduction="none"
        ).double()
        lengths = [len(row.answer_ids) for row in batch]
        right += sum(float((-answer_T.sum()).exp()) for answer_T in nats_N.split(lengths))
    return 1 - right / len(finals)


def _final_answer_row(
    student: LanguageModel, clean: Completion, attempt: Completion, form: AnswerFormat
) -> Row:
    final = split_answer(clean.text, form)[1]
    final_ids = completion_ids(student.tokenizer, final, finished=True)
    reasoning_ids = text_ids(student.tokenizer, split_answer(attempt.text, form)[0])
    # What never came to an answer must leave it some context.
    room = max(student.max_new_tokens - len(final_ids), 0)
    return Row(
        student.encode(clean.question) + reasoning_ids[:room],
        final_ids,
    )


def split_traces(resources: ProviderResources) -> tuple[list[Completion], list[Completion]]:
    """Traces that have a final answer, to tune proxies on (three of four), and held out.

    Raises:
        BadInput: fewer than two have one.
    """
    answered = [
        trace
        for trace in require_traces(resources, "release/obfuscate")
        if split_answer(trace.text, resources.format)[1]
    ]
    if len(answered) < 2:
        raise BadInput(
            f"defense release/obfuscate: {len(answered)} of {len(resources.traces)} traces have a "
            "final answer; the search needs 2"
        )
    return [trace for i, trace in enumerate(answered) if i % 4], answered[::4]


class Settings(DefenseSettings):
    """`share`: how many of the answers are rewritten (0: no defence), which of them by `key` and
    prompt.

    `by`: rules, or a rewriter that is told `instruction` (`{question}`, `{reasoning}`); `rules`:
    which ones, one after another (None: what the search finds). The search: sequences of at most
    `depth` rules, `rounds` of `samples` of them, each scored by a copy of the proxy that is tuned
    for `steps` batches of `batch_size` at `learning_rate`.
    """

    share: float = Field(1.0, ge=0, le=1)
    by: Literal["rule", "model"] = "rule"
    rules: tuple[str, ...] | None = Field(None, min_length=1)
    instruction: str = Field(INSTRUCTION, pattern=r"\{reasoning\}")
    depth: int = Field(3, ge=1, le=1000)
    rounds: int = Field(3, ge=1, le=1000)
    samples: int = Field(6, ge=1, le=1000)
    steps: int = Field(100, ge=1, le=1_000_000)
    batch_size: int = Field(16, ge=1, le=100_000)
    learning_rate: float = Field(2e-3, gt=0)
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
        if settings.by == "model":
            self.traits = replace(self.traits, learns=False, **BY_MODEL)
        elif settings.rules is not None:
            self.traits = replace(self.traits, learns=False, needs=())

    def __call__(self, model: Model) -> Model:
        s = self.settings
        if self.is_identity or s.by == "rule":
            return super().__call__(model)
        parts = whole(self.format)

        def divided(answer: Completion) -> list[Part]:
            return parts(answer) if self.is_rewritten(answer) else []

        name = "release/obfuscate"
        return rewritten(model, self.resources, name, s.instruction, s.key, divided)

    def is_rewritten(self, answer: Completion) -> bool:
        """Whether the answers to this prompt are rewritten."""
        return uniform(self.settings.key, "chosen", answer.prompt) < self.settings.share

    def text(self, answer: Completion) -> str:
        return self.rewrite(answer, self.rules) if self.is_rewritten(answer) else answer.text

    def rewrite(self, answer: Completion, rules: Sequence[str]) -> str:
        """The answer's text after these rules."""
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
        """`rules`: the best candidate as indices into RULES; `candidates` (N, depth; -1 pads) with
        `scores` (N).
        """
        if not self.traits.learns or self.is_identity:
            return {}
        s = self.settings
        scores = search(
            self._score(*split_traces(self.resources)), s.rounds, s.samples, s.depth, s.key
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
        proxy, s = self.resources.proxy, self.settings
        if proxy is None:
            raise BadInput(
                "defense release/obfuscate: needs a proxy, a small model that stands for students; "
                "the study names none"
            )

        def score(candidate: Candidate) -> float:
            network: Any = copied(proxy.network)
            shown = [
                replace(one, text=self.rewrite(one, candidate), token_ids=()) for one in train_items
            ]
            tune(
                network.parameters(),
                partial(loss, network),
                rows(proxy, shown),
                steps=s.steps,
                learning_rate=s.learning_rate,
                batch_size=s.batch_size,
            )
            student = replace(proxy, network=network, temperature=0.0)
            return final_answer_loss(student, held_out, self.format, s.batch_size)

        return score
