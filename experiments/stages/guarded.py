"""A model behind its defence, and what a provider has beside its teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from defenses import ProviderResources
from distill.completions import read_completions
from experiments.settings.components import build_defense
from experiments.stages.opened import opened

# The provider's proxy has a seed, and traces an order, that no student has.
PROVIDER = 2000


def guarded(task: Any, model: Any, settings: Any, folders: list[Path]) -> Any:
    """The model behind a stage's defence, which is handed the results that the settings name."""
    spec, learned = settings["defense"], []
    held = dict(zip(settings["given"], folders, strict=True))
    prepared = held.pop("guard", None)
    if prepared:
        spec = json.loads((prepared / "guard.json").read_text())["defense"]
        learned = [load_file(prepared / f"{place}.safetensors") for place in range(len(spec))]
    return build_defense(spec, given(task, [*held], [*held.values()]), learned)(model)


def given(task: Any, names: list[str], folders: list[Path]) -> ProviderResources:
    """What the provider has, from the results that it was handed; it can grade answers to its own
    prompts.
    """
    held = dict(zip(names, folders, strict=True))
    traces = read_completions(held["traces"] / "answers.parquet") if "traces" in held else []
    asked = {item.prompt.id: item.reference for item in task.train_items(2 * len(traces), PROVIDER)}
    models = {name: opened(held[name]) for name in ("proxy", "rewriter") if name in held}
    return ProviderResources(
        **models,
        traces=traces,
        grade=lambda said: task.grade(said.text, asked[said.prompt_id]) == "right",
    )
