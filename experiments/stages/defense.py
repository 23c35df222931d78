"""Stage `defense`: a defence whose strength is found or that learns, made ready."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from safetensors.torch import save_file

from defenses import ProviderResources
from distill.completions import Completion, Interface
from distill.models import Model
from experiments.settings.components import ComponentSpec, build, build_defense, teach_defense
from experiments.stages.defended import ProviderInputs, provider_resources
from experiments.stages.episodes import as_run, play
from experiments.stages.files import FoundStrength, PreparedDefense
from experiments.stages.models import load_model
from experiments.stages.stage import Inputs, Sparse, Spec, TaskSpec
from experiments.tasks import Task

VERSION = 1
T = TypeVar("T")


class MatchSpec(Sparse):
    """Which part is set to the strength that costs the honest user so many points, on how many
    questions and how often asked.
    """

    part: int
    points: float
    items: int
    seeds: int


class PrepareSpec(Spec):
    """A defence that must be made ready."""

    STAGE: ClassVar[str] = "defense"
    task: TaskSpec
    defense: list[ComponentSpec]
    match: MatchSpec | None = None


@dataclass(frozen=True)
class PrepareInputs(Inputs[T]):
    teacher: T
    given: ProviderInputs[T] = field(default_factory=ProviderInputs)


def run(spec: PrepareSpec, inputs: PrepareInputs[Path], out: Path) -> None:
    """Prepare a defence: find its strength where that is matched to what it costs, and teach what
    learns.
    """
    task, model = build("task", spec.task), load_model(inputs.teacher)
    has, defense, matched = provider_resources(task, inputs.given), spec.defense, None
    if spec.match:
        defense, matched = _matched(task, model, defense, has, spec.match)
    numbers: dict[str, float] = {}
    for place, learned in enumerate(teach_defense(defense, has, model)):
        save_file(
            {name: tensor.contiguous() for name, tensor in learned.items()},
            out / f"{place}.safetensors",
        )
        numbers |= {
            f"{defense[place].name}.{name}": float(tensor)
            for name, tensor in learned.items()
            if not tensor.dim()
        }
    PreparedDefense(defense=defense, matched=matched, numbers=numbers).write(out)


def _matched(
    task: Task,
    model: Model,
    defense: list[ComponentSpec],
    has: ProviderResources,
    match: MatchSpec,
) -> tuple[list[ComponentSpec], FoundStrength]:
    """The defence with its strength set so that the teacher loses the points it is matched to, and
    how that was found.
    """
    items = task.items("select", match.items, 0)
    strength = build_defense(defense).parts[match.part].traits.strength
    assert strength is not None  # a defence without one cannot be matched

    def value_at(share: float) -> int | float:
        value = strength.interpolate(share)
        return round(value) if isinstance(strength.strongest, int) else value

    def set_to(share: float) -> list[ComponentSpec]:
        before = defense[match.part]
        changed = ComponentSpec(
            name=before.name, settings=before.settings | {strength.name: value_at(share)}
        )
        return [*defense[: match.part], changed, *defense[match.part + 1 :]]

    def answers(model: Model, seed: int) -> list[Completion]:
        prompts = [item.prompt for item in items]
        episodes = play(task, model, prompts, seed=seed, interface=Interface())
        return [as_run(task, episode) for episode in episodes]

    def right(model: Model) -> float:
        """The share of right answers over all askings."""
        outcomes = [
            task.grade(answer.text, item.reference, answer.finished) == "right"
            for seed in range(match.seeds)
            for answer, item in zip(answers(model, seed), items, strict=True)
        ]
        return sum(outcomes) / len(outcomes)

    def lost(share: float) -> float:
        parts = set_to(share)
        learned = teach_defense(parts, has, model)
        return 100 * (clean - right(build_defense(parts, has, learned)(model)))

    clean = right(model)
    share, loss, tried = strength_at(lost, match.points)
    matched = FoundStrength(
        knob=strength.name, value=value_at(share), points=match.points, loss=loss, tried=tried
    )
    return set_to(share), matched


def strength_at(
    lost: Callable[[float], float], points: float, halvings: int = 7
) -> tuple[float, float, list[tuple[float, float]]]:
    """The share in (0, 1] of a defence's strength at which the honest user loses `points`, by
    bisection.

    `lost` is taken to rise with strength. Returns the share tried whose loss is nearest to `points`
    (the weaker of equals), that loss, and everything that was tried; where even full strength costs
    less, that is full strength.

    Args:
        lost: points that the honest user loses at a share of the strength.
        points: that it shall lose.
        halvings: tries behind the first.
    """
    tried = [(1.0, lost(1.0))]
    low, high = 0.0, 1.0
    for _ in range(halvings if tried[0][1] > points else 0):
        middle = (low + high) / 2
        tried.append((middle, lost(middle)))
        low, high = (middle, high) if tried[-1][1] < points else (low, middle)
    share, loss = min(tried, key=lambda one: (abs(one[1] - points), one[0]))
    return share, loss, tried
