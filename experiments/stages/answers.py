"""Stage `answers`: what is asked, and what was said.

Where completions come from is said by the spec's `source`: each source has its spec and one
function below.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from distill import logprob_cache
from distill.completions import Completion, Interface, Prompt, write_completions
from experiments.settings.components import ComponentSpec, build, build_defense
from experiments.stages.files import Exchanges
from experiments.stages.guarded import ProviderInputs, guarded
from experiments.stages.means import Owned, means, solved
from experiments.stages.opened import opened
from experiments.stages.served import CampaignReport, questions
from experiments.stages.stage import Inputs, Spec, TaskSpec
from experiments.tasks import Exam, Item

VERSION = 1
T = TypeVar("T")


class CompletionsSpec(Spec):
    """So many completions on a task; the seed draws the questions and samples the model."""

    STAGE: ClassVar[str] = "answers"
    task: TaskSpec
    budget: int
    seed: int


class PublicSpec(CompletionsSpec):
    """Questions with their final answers, which anybody owns."""

    source: Literal["public"]


class SelfSpec(CompletionsSpec):
    """A student's own answers where they are right, else the solution."""

    source: Literal["self"]


class ReleasedSpec(CompletionsSpec):
    """A defended teacher's answers: those asked for, or shuffled among the questions; or those of a
    weaker teacher. `given` names what the defence is handed.
    """

    source: Literal["teacher", "shuffled", "weaker"]
    defense: list[ComponentSpec]
    given: list[str]
    profile: Interface


class TracesSpec(CompletionsSpec):
    """The provider's own: clean answers to questions that the teacher learned from, behind the
    first `skip` of them.
    """

    source: Literal["traces"]
    skip: int
    defense: list[ComponentSpec]
    given: list[str]
    profile: Interface


class AskedSpec(CompletionsSpec):
    """A defended teacher's answers to what an attack chose to ask."""

    source: Literal["teacher"]
    defense: list[ComponentSpec]
    given: list[str]
    profile: Interface
    ask: list[ComponentSpec]
    own: Owned


class LeakedSpec(CompletionsSpec):
    """Answers to exactly the questions that a campaign was served; some were reduced."""

    source: Literal["leaked"]
    defense: list[ComponentSpec]
    given: list[str]
    profile: Interface
    reduced: list[ComponentSpec]
    stands_for: list[str]
    per_question: float


@dataclass(frozen=True)
class NoInputs(Inputs[T]):
    """What the attacker owns needs no model."""


@dataclass(frozen=True)
class SelfInputs(Inputs[T]):
    student: T


@dataclass(frozen=True)
class ReleasedInputs(Inputs[T]):
    teacher: T
    given: ProviderInputs[T] = field(default_factory=ProviderInputs)


@dataclass(frozen=True)
class AskedInputs(ReleasedInputs[T]):
    """`pilot`: a student of the first answers, for attacks that choose with one what to ask
    next.
    """

    pilot: T | None = None


@dataclass(frozen=True)
class LeakedInputs(ReleasedInputs[T]):
    campaign: T | None = None


def run(spec: CompletionsSpec, inputs: Inputs[Path], out: Path) -> None:
    """What the attacker holds, or the provider."""
    task = build("task", spec.task)
    match spec, inputs:
        case PublicSpec(), _:
            owned = solved(task.public(spec.budget, spec.seed))
            write_completions(out / "answers.parquet", owned)
        case SelfSpec(), SelfInputs():
            own = self_distilled(task, spec, opened(inputs.student))
            write_completions(out / "answers.parquet", own)
        case ReleasedSpec(), ReleasedInputs():
            released(task, spec, inputs, out)
        case TracesSpec(), ReleasedInputs():
            traces(task, spec, inputs, out)
        case AskedSpec(), AskedInputs():
            chosen_by_attack(task, spec, inputs, out)
        case LeakedSpec(), LeakedInputs():
            leaked(task, spec, inputs, out)
        case _:
            raise AssertionError(f"{type(spec).__name__} with {type(inputs).__name__}")


def self_distilled(task: Exam, spec: SelfSpec, model: Any) -> list[Completion]:
    """A student's own answers where they are right (the attacker owns these solutions), else the
    solution.

    Their text alone: where a student says just the solutions, these are the same answers and the
    same work.
    """
    items = task.public(spec.budget, spec.seed)
    answers = model.generate(_prompts(items), seed=spec.seed, interface=Interface())
    verified = []
    for item, answer in zip(items, answers, strict=True):
        right = str(task.grade(answer.text, item.reference)) == "right"
        text = answer.text if right else item.solution
        verified.append(Completion(item.prompt.id, item.prompt.text, text))
    return verified


def released(task: Exam, spec: ReleasedSpec, inputs: ReleasedInputs[Path], out: Path) -> None:
    """What a defended teacher answers to the first questions of a seed."""
    model = opened(inputs.teacher)
    prompts = _prompts(task.items("query", spec.budget, spec.seed))
    provider = guarded(task, model, spec.defense, inputs.given)
    answers = provider.generate(prompts, seed=spec.seed, interface=spec.profile)
    if spec.source == "shuffled":
        answers = shuffled(answers, spec.seed)
    _write(model, prompts, answers, out)


def shuffled(answers: Sequence[Completion], seed: int) -> list[Completion]:
    """The same texts, each as the answer to another's question."""
    texts = [answer.text for answer in answers]
    random.Random(seed).shuffle(texts)
    return [
        replace(answer, text=text, token_ids=())
        for answer, text in zip(answers, texts, strict=True)
    ]


def traces(task: Exam, spec: TracesSpec, inputs: ReleasedInputs[Path], out: Path) -> None:
    """The provider's clean answers."""
    model = opened(inputs.teacher)
    items = task.train_items(spec.skip + spec.budget, spec.seed)[spec.skip :]
    provider = guarded(task, model, spec.defense, inputs.given)
    answers = provider.generate(_prompts(items), seed=spec.seed, interface=spec.profile)
    _write(model, _prompts(items), answers, out)


def chosen_by_attack(task: Exam, spec: AskedSpec, inputs: AskedInputs[Path], out: Path) -> None:
    """Answers to what an attack chose to ask, each kept with the question itself, whatever form it
    was sent in.
    """
    model = opened(inputs.teacher)
    pilot = opened(inputs.pilot) if inputs.pilot else None
    own = means(task, spec.own, spec.seed, pilot=pilot)
    items = task.items("query", spec.own.pool * spec.budget, spec.seed)
    question = {item.prompt.id: item.prompt.text for item in items}
    prompts = _prompts(items)
    for asking in spec.ask:
        attacker = build("attacker", asking)
        prompts = attacker.ask(prompts, spec.budget, own, seed=spec.seed)
    provider = guarded(task, model, spec.defense, inputs.given)
    answers = provider.generate(prompts, seed=spec.seed, interface=spec.profile)
    named = [
        replace(
            answer,
            prompt=question[sent.id],
            prompt_id=f"{sent.id}~{sent.attempt}" if sent.attempt else sent.id,
        )
        for answer, sent in zip(answers, prompts, strict=True)
    ]
    _write(model, prompts, named, out)


def leaked(task: Exam, spec: LeakedSpec, inputs: LeakedInputs[Path], out: Path) -> None:
    """Answers to exactly the questions that a campaign was served: it goes through its list, and
    some were reduced.
    """
    assert inputs.campaign
    model, happened = opened(inputs.teacher), CampaignReport.read(inputs.campaign)
    reduced = questions(happened, spec.stands_for, spec.per_question, spec.budget)
    prompts = _prompts(task.items("query", spec.budget, spec.seed))[: len(reduced)]
    full = guarded(task, model, spec.defense, inputs.given)
    less = build_defense(spec.reduced)(full)
    by_prompt: dict[str, Completion] = {}
    for provider, which in ((full, False), (less, True)):
        sent = [prompt for prompt, short in zip(prompts, reduced, strict=True) if short is which]
        if sent:
            answers = provider.generate(sent, seed=spec.seed, interface=Interface())
            by_prompt |= {answer.prompt_id: answer for answer in answers}
    _write(model, prompts, [by_prompt[prompt.id] for prompt in prompts], out)


def _prompts(items: Sequence[Item]) -> list[Prompt]:
    return [item.prompt for item in items]


def _write(model: Any, prompts: list[Prompt], answers: Sequence[Completion], out: Path) -> None:
    """Write answers, what was exchanged for them, and their logprobs where they were released."""
    texts = [replace(answer, logprobs=None) for answer in answers]
    write_completions(out / "answers.parquet", texts)
    encode = getattr(model, "encode", None)
    Exchanges(
        exchanges=len(answers),
        tokens_in=sum(len(encode(p)) for p in prompts) if encode else None,
        tokens_out=sum(_length(model.tokenizer, one) for one in answers) if encode else None,
    ).write(out)
    if answers and answers[0].logprobs is not None:
        logprob_cache.write(
            out / "signals", answers, tokenizer=model.vocabulary, vocabulary=len(model.tokenizer)
        )


def _length(tokenizer: Any, answer: Completion) -> int:
    """Tokens of an answer as it is billed; one whose ids were withheld is counted by its text."""
    return len(answer.token_ids or tokenizer(answer.text, add_special_tokens=False).input_ids)
