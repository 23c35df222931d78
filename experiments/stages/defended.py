"""A model behind its defence, and what a provider has beside its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from safetensors.torch import load_file

from defenses import ProviderResources
from distill.completions import read_completions
from distill.models import Model
from experiments.seeds import seed_for
from experiments.settings.components import ComponentSpec, build_defense
from experiments.stages.files import PreparedDefense
from experiments.stages.models import load_model, load_network
from experiments.stages.resources import checker
from experiments.stages.stage import Inputs
from experiments.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class ProviderInputs(Inputs[T]):
    """The results that a defence is handed: what the provider has, and the defence made
    ready.
    """

    proxy: T | None = None
    traces: T | None = None
    rewriter: T | None = None
    weaker_teacher: T | None = None
    base: T | None = None
    prepared: T | None = None


def defend(
    task: Task,
    model: Model,
    defense: Sequence[ComponentSpec],
    provided: ProviderInputs[Path],
    after: int = 0,
) -> Model:
    """The model behind a defence, which is handed what the provider has.

    Args:
        task: whose format the answers have.
        model: the teacher, or its finished answers.
        defense: parts in the order in which they act.
        provided: what the provider has.
        after: the first parts of the defence that the model has behind it already.
    """
    learned: list[Mapping[str, Tensor]] = []
    if provided.prepared:
        defense = PreparedDefense.read(provided.prepared).defense
        learned = [
            load_file(provided.prepared / f"{place}.safetensors") for place in range(len(defense))
        ]
    resources = provider_resources(task, provided)
    return build_defense(defense[after:], resources, learned[after:])(model)


def provider_resources(task: Task, provided: ProviderInputs[Path]) -> ProviderResources:
    """What the provider has; it can grade answers to its own prompts.

    Args:
        task: that grades.
        provided: folders of what the provider has.
    """
    traces = read_completions(provided.traces / "completions.parquet") if provided.traces else []
    items = task.train_items(2 * len(traces), seed_for("provider"))
    return ProviderResources(
        proxy=load_network(provided.proxy) if provided.proxy else None,
        rewriter=load_network(provided.rewriter) if provided.rewriter else None,
        weaker_teacher=load_model(provided.weaker_teacher) if provided.weaker_teacher else None,
        base=load_network(provided.base) if provided.base else None,
        traces=traces,
        format=task.format,
        tools=task.tools,
        grade=checker(task, items),
    )
