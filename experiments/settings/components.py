"""What a resolved config names: each component is a file, by its path below its group's package."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from defenses import NOTHING, DefensePipeline, ProviderResources, chain
from experiments.private import revealed

PACKAGES = {
    "defense": "defenses",
    "attacker": "distill.attackers",
    "task": "experiments.tasks",
    "access": "defenses.access",
    "detector": "defenses.access",
}
FIXED = {"defense": "Defense", "attacker": "Attacker", "task": "Task"}


def module_of(group: str, name: str) -> str:
    """The module that a component's name stands for."""
    return f"{PACKAGES[group]}.{name.replace('/', '.')}"


def file_of(group: str, name: str) -> Any:
    return importlib.import_module(module_of(group, name))


def part(group: str, chosen: Any) -> Any:
    """The task or the attacker's part that a resolved config names."""
    file = file_of(group, chosen["name"])
    return getattr(file, FIXED[group])(file.Settings(**revealed(chosen["settings"])))


def defended(
    spec: list[Any], given: ProviderResources = NOTHING, learned: Sequence[Mapping[str, Any]] = ()
) -> DefensePipeline:
    """The defence of a resolved spec, handed what there is and, if it was taught,
    what it learned.
    """
    return chain([one["name"] for one in spec], makers(spec), given, learned)


def makers(spec: list[Any]) -> list[Callable[[ProviderResources], Any]]:
    """What makes each part of a resolved spec of what it is given."""
    files = [file_of("defense", one["name"]) for one in spec]
    held = [
        file.Settings(**revealed(one["settings"])) for file, one in zip(files, spec, strict=True)
    ]
    return [
        functools.partial(file.Defense, settings)
        for file, settings in zip(files, held, strict=True)
    ]
