"""Stage `student`: what an attacker makes of the answers that it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from defenses import ProviderResources
from distill import logprob_cache
from distill.attackers import AttackerResources
from distill.completions import Completion, Interface, read_completions
from distill.models import vocabulary_of
from experiments.settings.components import ComponentSpec, build, build_defense
from experiments.stages.defended import ProviderInputs, defend
from experiments.stages.files import Choice
from experiments.stages.models import StoredModel, load_model, load_tokenizer
from experiments.stages.resources import Owned, attacker_resources
from experiments.stages.stage import Inputs, Spec, TaskSpec
from experiments.stages.training import (
    FineTune,
    Shape,
    own_training,
    save_trained,
    train_fresh,
    vocabulary_of_shape,
)
from experiments.tasks import Task

VERSION = 1
T = TypeVar("T")


class StudentSpec(Spec):
    """A student: how it learns, its shape, and what the attacker cleans its answers with.

    `more`: the steps by which the longest attack of the study trains longer. `defense`: the
    provider's, for attacks that go on asking behind it or rebuild it. `leaked`: whether its
    completions are what a campaign got, which may be none. `times`: as many steps in all where a
    plateau is looked for, `followed` of which are taken after this stage.
    """

    STAGE: ClassVar[str] = "student"
    task: TaskSpec
    attacker: ComponentSpec
    shape: Shape | FineTune
    seed: int
    more: int = 0
    clean: list[ComponentSpec] = []
    own: Owned | None = None
    defense: list[ComponentSpec] | None = None
    leaked: bool = False
    times: int = 1
    followed: int = 0


@dataclass(frozen=True)
class StudentInputs(Inputs[T]):
    """`teacher` and what its defence is `given` are there for attacks that go on asking; `search`
    where one found the recipe.
    """

    completions: T
    teacher: T | None = None
    given: ProviderInputs[T] = field(default_factory=ProviderInputs)
    search: T | None = None


def run(spec: StudentSpec, inputs: StudentInputs[Path], out: Path) -> None:
    """The attacker cleans the answers it holds and trains its student on them."""
    task, attacker = build("task", spec.task), build("attacker", spec.attacker)
    shape = _shape(spec, inputs)
    answers, resources = lessons(task, spec, inputs, shape)
    model, report = train_fresh(task, shape, spec.seed, attacker, answers, resources, out)
    unread = [answer for answer in answers if task.final(answer.text, answer.finished) is None]
    save_trained(model, shape, out, report.diverged)
    report.model_copy(update={"no_final": len(unread) / max(len(answers), 1)}).write(out)


def _shape(spec: StudentSpec, inputs: StudentInputs[Path]) -> Shape | FineTune:
    """The student's shape with the recipe that was sought, and as many steps as it takes."""
    shape = spec.shape
    if inputs.search:
        shape = shape.model_copy(update=Choice.read(inputs.search).changes)
    # A campaign that got nothing has an untrained student.
    empty = spec.leaked and not read_completions(inputs.completions / "completions.parquet")
    return shape.model_copy(update={"steps": 0 if empty else steps_of(spec, shape)})


def lessons(
    task: Task, spec: StudentSpec, inputs: StudentInputs[Path], shape: Shape | FineTune
) -> tuple[list[Completion], AttackerResources]:
    """What a student learns from, cleaned, and what its attacker has beside.

    Args:
        task: of its exam.
        spec: of the student.
        inputs: of the same student.
        shape: with its recipe.
    """
    answers = read_completions(inputs.completions / "completions.parquet")
    attacker, words = build("attacker", spec.attacker), None
    if inputs.teacher and "tokenizer" in attacker.needs:
        words = load_tokenizer(inputs.teacher)
    if (inputs.completions / "logprobs").is_dir():
        vocabulary = vocabulary_of(words) if words else vocabulary_of_shape(task, shape)
        cache = logprob_cache.read(inputs.completions / "logprobs", tokenizer=vocabulary)
        answers = cache.attach(answers)
    resources = AttackerResources()
    if spec.own:
        more = own_training(task, shape) | _released(task, spec, inputs) | {"tokenizer": words}
        resources = attacker_resources(task, spec.own, spec.seed, **more)
    for cleaning in spec.clean:
        answers = build("attacker", cleaning).clean(answers, resources, seed=spec.seed)
    return answers, resources


def steps_of(spec: StudentSpec, shape: Shape | FineTune) -> int:
    """The recipe's steps, and those by which the longest attack of the study trains longer.

    Args:
        spec: of the student.
        shape: with the recipe.
    """
    return spec.times * (shape.steps + spec.more) + (spec.times - 1) * spec.followed


def _released(task: Task, spec: StudentSpec, inputs: StudentInputs[Path]) -> dict[str, Any]:
    """The provider as an attacker can go on asking it, and its defence as the attacker can rebuild
    it.
    """
    if spec.defense is None:
        return {}
    if inputs.teacher:
        model = load_model(inputs.teacher)
        return {"teacher": defend(task, model, spec.defense, inputs.given)}
    public = ProviderResources(format=task.format, tools=task.tools)
    rebuilt = build_defense([_with_own_key(part) for part in spec.defense], public)
    return {
        "defense": lambda answers: rebuilt(StoredModel(answers)).generate(
            (), seed=spec.seed, interface=Interface("full")
        )
    }


def _with_own_key(spec: ComponentSpec) -> ComponentSpec:
    """A defence's part with the provider's secret replaced by the attacker's guess of one."""
    secret = {"key": "the attacker's own"} if "key" in spec.settings else {}
    return spec.model_copy(update={"settings": spec.settings | secret})
