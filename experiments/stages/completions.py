"""Stage `completions`: what is asked, and what was said.

Where completions come from is said by the spec's `source`: each source has its spec and one
function below. A teacher is asked once per seed and decoding; what only edits or shuffles its
completions reads them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from distill import logprob_cache
from distill.completions import (
    BadInput,
    Completion,
    Interface,
    Prompt,
    read_completions,
    write_completions,
)
from distill.models import Model
from distill.rendering import text_ids
from experiments.settings.components import ComponentSpec, build
from experiments.stages.defended import ProviderInputs, defend
from experiments.stages.episodes import Episode, flat, joined, play, prompts_sent
from experiments.stages.files import Exchanges
from experiments.stages.models import StoredModel, load_model, load_network
from experiments.stages.resources import Owned, attacker_resources, solutions
from experiments.stages.served import CampaignReport, questions
from experiments.stages.stage import Inputs, Spec, TaskSpec
from experiments.tasks import Item, Task

VERSION = 1
T = TypeVar("T")
FILE = "completions.parquet"
LOGPROBS = "logprobs"  # a folder


class CompletionsSpec(Spec):
    """So many completions on a task; the seed draws the questions and samples the model."""

    STAGE: ClassVar[str] = "completions"
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
    """A defended teacher's answers, or those of a weaker teacher."""

    source: Literal["teacher", "weaker"]
    defense: list[ComponentSpec]
    interface: Interface


class EditedSpec(CompletionsSpec):
    """Completions as a narrower interface releases them, edited by the last parts of a defence,
    those behind the first `after`; their teacher is not asked again.
    """

    source: Literal["edited"]
    defense: list[ComponentSpec]
    after: int
    interface: Interface = Interface()


class ShuffledSpec(CompletionsSpec):
    """Completions, each as the answer to another's question."""

    source: Literal["shuffled"]


class TracesSpec(CompletionsSpec):
    """The provider's own: clean answers to questions that the teacher learned from, behind the
    first `skip` of them.
    """

    source: Literal["traces"]
    skip: int


class AskedSpec(CompletionsSpec):
    """A defended teacher's answers to what an attack chose to ask."""

    source: Literal["asked"]
    defense: list[ComponentSpec]
    interface: Interface
    ask: list[ComponentSpec]
    own: Owned


class LeakedSpec(CompletionsSpec):
    """Answers to exactly the questions that a campaign was served; some were reduced."""

    source: Literal["leaked"]
    defense: list[ComponentSpec]
    reduced: list[ComponentSpec]
    stands_for: list[str]
    per_question: float


@dataclass(frozen=True)
class SelfInputs(Inputs[T]):
    student: T


@dataclass(frozen=True)
class TeacherInputs(Inputs[T]):
    """A teacher that is asked."""

    teacher: T


@dataclass(frozen=True)
class ReleasedInputs(TeacherInputs[T]):
    """What its defence is `given` as well."""

    given: ProviderInputs[T] = field(default_factory=ProviderInputs)


@dataclass(frozen=True)
class MadeInputs(ReleasedInputs[T]):
    """Completions of the teacher, which is there for its tokenizer alone."""

    completions: T | None = None


@dataclass(frozen=True)
class AskedInputs(ReleasedInputs[T]):
    """`pilot`: a student of the first answers, for attacks that choose with one what to ask
    next.
    """

    pilot: T | None = None


@dataclass(frozen=True)
class LeakedInputs(ReleasedInputs[T]):
    """`less`: what the provider has for the answers that are reduced."""

    campaign: T | None = None
    less: ProviderInputs[T] = field(default_factory=ProviderInputs)


def run(spec: CompletionsSpec, inputs: Inputs[Path], out: Path) -> None:
    """What the attacker holds, or the provider.

    Args:
        spec: of one of the sources.
        inputs: of the same source.
        out: folder that the answers are written to.

    Raises:
        AssertionError: spec and inputs are not of one source.
    """
    task = build("task", spec.task)
    match spec, inputs:
        case PublicSpec(), _:
            write_completions(out / FILE, solutions(task.public(spec.budget, spec.seed)))
        case SelfSpec(), SelfInputs():
            completions = self_distilled(task, spec, load_network(inputs.student))
            write_completions(out / FILE, completions)
        case ReleasedSpec(), ReleasedInputs():
            _released(task, spec, inputs, out)
        case EditedSpec(), MadeInputs():
            _edited(task, spec, inputs, out)
        case ShuffledSpec(), MadeInputs():
            _shuffled(task, spec, inputs, out)
        case TracesSpec(), TeacherInputs():
            _traces(task, spec, inputs, out)
        case AskedSpec(), AskedInputs():
            _chosen_by_attack(task, spec, inputs, out)
        case LeakedSpec(), LeakedInputs():
            _leaked(task, spec, inputs, out)
        case _:
            raise AssertionError(f"{type(spec).__name__} with {type(inputs).__name__}")


def self_distilled(task: Task, spec: SelfSpec, model: Model) -> list[Completion]:
    """A student's own answers where they are right (the attacker owns these solutions), else the
    solution.

    Their text alone: where a student says just the solutions, these are the same answers and the
    same work.

    Args:
        task: that grades.
        spec: of how many questions, and the seed that draws them.
        model: the student.
    """
    items = task.public(spec.budget, spec.seed)
    episodes = play(task, model, _prompts(items), seed=spec.seed, interface=Interface())
    verified = []
    for item, episode in zip(items, episodes, strict=True):
        answer = joined(episode)
        if task.grade(answer.text, item.reference, answer.finished) == "right":
            verified += [Completion.to(turn.question, turn.text) for turn in episode]
        else:
            verified += solutions([item])
    return verified


def _released(task: Task, spec: ReleasedSpec, inputs: ReleasedInputs[Path], out: Path) -> None:
    """What a defended teacher answers to the first questions of a seed."""
    model, prompts = load_model(inputs.teacher), _queries(task, spec)
    provider = defend(task, model, spec.defense, inputs.given)
    episodes = play(task, provider, prompts, seed=spec.seed, interface=spec.interface)
    _write(model, prompts_sent(prompts, episodes), flat(episodes), out)


def _edited(task: Task, spec: EditedSpec, inputs: MadeInputs[Path], out: Path) -> None:
    """What a defence makes of finished completions: the bytes that asking behind it would give."""
    assert inputs.completions
    model, prompts = load_model(inputs.teacher), _queries(task, spec)
    made = read_completions(inputs.completions / FILE)
    if spec.interface.kind != "text":
        assert model.vocabulary
        stored = logprob_cache.read(inputs.completions / LOGPROBS, tokenizer=model.vocabulary)
        made = stored.attach(made)
    provider = defend(task, StoredModel(made), spec.defense, inputs.given, spec.after)
    answers = provider.generate(prompts, seed=spec.seed, interface=spec.interface)
    _write(model, prompts, answers, out)


def _shuffled(task: Task, spec: ShuffledSpec, inputs: MadeInputs[Path], out: Path) -> None:
    """The same texts, each as the answer to another's question."""
    assert inputs.completions
    made = read_completions(inputs.completions / FILE)
    texts = [answer.text for answer in made]
    random.Random(spec.seed).shuffle(texts)
    mixed = [
        replace(answer, text=text, token_ids=()) for answer, text in zip(made, texts, strict=True)
    ]
    _write(load_model(inputs.teacher), [answer.question for answer in made], mixed, out)


def _traces(task: Task, spec: TracesSpec, inputs: TeacherInputs[Path], out: Path) -> None:
    """The provider's clean answers."""
    model = load_model(inputs.teacher)
    items = task.train_items(spec.skip + spec.budget, spec.seed)[spec.skip :]
    prompts = _prompts(items)
    episodes = play(task, model, prompts, seed=spec.seed, interface=Interface())
    _write(model, prompts_sent(prompts, episodes), flat(episodes), out)


def _chosen_by_attack(task: Task, spec: AskedSpec, inputs: AskedInputs[Path], out: Path) -> None:
    """Answers to what an attack chose to ask, each kept with the question itself, whatever form it
    was sent in.
    """
    model = load_model(inputs.teacher)
    pilot = load_network(inputs.pilot) if inputs.pilot else None
    resources = attacker_resources(task, spec.own, spec.seed, pilot=pilot)
    items = task.items("query", spec.own.pool * spec.budget, spec.seed)
    question = {item.prompt.id: item.prompt for item in items}
    prompts = _prompts(items)
    for asking in spec.ask:
        attacker = build("attacker", asking)
        prompts = attacker.ask(prompts, spec.budget, resources, seed=spec.seed)
    provider = defend(task, model, spec.defense, inputs.given)
    episodes = play(task, provider, prompts, seed=spec.seed, interface=spec.interface)
    named = [
        _named(answer.as_answer_to(question[sent.id]) if first else answer, sent.attempt)
        for sent, episode in zip(prompts, episodes, strict=True)
        for answer, first in zip(episode, [True] + [False] * len(episode), strict=False)
    ]
    _write(model, prompts_sent(prompts, episodes), named, out)


def _named(answer: Completion, attempt: int) -> Completion:
    """An answer whose id says which time the question was asked."""
    return replace(answer, prompt_id=f"{answer.prompt_id}~{attempt}") if attempt else answer


def _leaked(task: Task, spec: LeakedSpec, inputs: LeakedInputs[Path], out: Path) -> None:
    """Answers to exactly the questions that a campaign was served: it goes through its list, and
    some were reduced.
    """
    assert inputs.campaign
    model, happened = load_model(inputs.teacher), CampaignReport.read(inputs.campaign)
    reduced = questions(happened, spec.stands_for, spec.per_question, spec.budget)
    prompts = _queries(task, spec)[: len(reduced)]
    full = defend(task, model, spec.defense, inputs.given)
    less = defend(task, full, spec.reduced, inputs.less)
    by_prompt: dict[str, Episode] = {}
    for provider, which in ((full, False), (less, True)):
        sent = [prompt for prompt, short in zip(prompts, reduced, strict=True) if short is which]
        if sent:
            episodes = play(task, provider, sent, seed=spec.seed, interface=Interface())
            by_prompt |= {episode[0].prompt_id: episode for episode in episodes}
    episodes = [by_prompt[prompt.id] for prompt in prompts]
    _write(model, prompts_sent(prompts, episodes), flat(episodes), out)


def _queries(task: Task, spec: CompletionsSpec) -> list[Prompt]:
    """The first questions of the spec's seed."""
    return _prompts(task.items("query", spec.budget, spec.seed))


def _prompts(items: Sequence[Item]) -> list[Prompt]:
    return [item.prompt for item in items]


def _write(model: Model, prompts: list[Prompt], answers: Sequence[Completion], out: Path) -> None:
    """Write answers, what was exchanged for them, and their logprobs where they were released."""
    texts = [replace(answer, logprobs=None) for answer in answers]
    write_completions(out / FILE, texts)
    spells = model.tokenizer is not None
    Exchanges(
        exchanges=len(answers),
        tokens_in=sum(len(model.encode(p)) for p in prompts) if spells else None,
        tokens_out=sum(_length(model.tokenizer, one) for one in answers) if spells else None,
    ).write(out)
    if answers and answers[0].logprobs is not None:
        if model.vocabulary is None:
            raise BadInput(
                "teacher: a recording does not say of which tokenizer its logprobs are, so no "
                "student can learn from them; set teacher.tokenizer"
            )
        size = len(model.tokenizer) if spells else _tokens_named(answers)
        logprob_cache.write(out / LOGPROBS, answers, tokenizer=model.vocabulary, vocabulary=size)


def _tokens_named(answers: Sequence[Completion]) -> int:
    """As many tokens as a vocabulary has at least in which these answers are scored."""
    released = [int(one.logprobs.ids_TK.max()) for one in answers if one.logprobs is not None]
    return 1 + max([*released, *(token for one in answers for token in one.token_ids)])


def _length(tokenizer: Any, answer: Completion) -> int:
    """Tokens of an answer as it is billed; one whose ids were withheld is counted by its text."""
    return len(answer.token_ids or text_ids(tokenizer, answer.text))
