"""A model behind its defence, and what a provider has beside its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from safetensors.torch import load_file

from defenses import ProviderResources
from distill.completions import read_completions
from distill.models import Model
from experiments.seeds import seed_for
from experiments.settings.components import ComponentSpec, build_defense
from experiments.stages.files import PreparedDefense
from experiments.stages.opened import opened
from experiments.stages.stage import Inputs
from experiments.tasks import Exam

T = TypeVar("T")


@dataclass(frozen=True)
class ProviderInputs(Inputs[T]):
    """The results that a defence is handed: what the provider has, and the defence made ready."""

    proxy: T | None = None
    traces: T | None = None
    rewriter: T | None = None
    guard: T | None = None


def guarded(
    task: Exam, model: Model, defense: Sequence[ComponentSpec], given: ProviderInputs[Path]
) -> Model:
    """The model behind a defence, which is handed what the provider has."""
    learned = []
    if given.guard:
        defense = PreparedDefense.read(given.guard).defense
        learned = [load_file(given.guard / f"{at}.safetensors") for at in range(len(defense))]
    return build_defense(defense, resources(task, given), learned)(model)


def resources(task: Exam, given: ProviderInputs[Path]) -> ProviderResources:
    """What the provider has; it can grade answers to its own prompts."""
    traces = read_completions(given.traces / "answers.parquet") if given.traces else []
    items = task.train_items(2 * len(traces), seed_for("provider"))
    references = {item.prompt.id: item.reference for item in items}
    return ProviderResources(
        proxy=opened(given.proxy) if given.proxy else None,
        rewriter=opened(given.rewriter) if given.rewriter else None,
        traces=traces,
        grade=lambda answer: task.grade(answer.text, references[answer.prompt_id]) == "right",
    )
