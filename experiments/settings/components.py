"""What a resolved config names: each component is a file, by its path below its group's package."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from defenses import NO_RESOURCES, DefensePipeline, ProviderResources, learn_pipeline
from distill.completions import BadInput
from experiments.private import revealed
from experiments.settings.catalog import BASES, PACKAGES, SYMBOLS, Plugin, find_plugin, module_of

if TYPE_CHECKING:
    from torch import Tensor

    from distill.models import Model


class ComponentSpec(BaseModel):
    """A component as stages, addresses and files have it: stand-ins for what is private
    (experiments/private.py), and every setting written out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    settings: dict[str, Any] = {}


@dataclass(frozen=True)
class Component:
    """A component with its checked settings.

    `settings` is what its own `Settings` class makes of them, private values included; `spec` is
    the same as it may be written down.
    """

    group: str
    name: str
    settings: BaseModel
    spec: ComponentSpec

    def build(self, *resources: Any) -> Any:
        """An instance: `Defense(settings, *resources)`, `Task(settings)`, and so on.

        Args:
            *resources: what a component of the group is handed beside its settings.
        """
        return getattr(load_module(self.group, self.name), SYMBOLS[self.group])(
            self.settings, *resources
        )


def load_module(group: str, name: str) -> ModuleType:
    """The module of a component, imported.

    Args:
        group: of components.
        name: of one.

    Raises:
        BadInput: a plugin cannot be imported, or lacks what a component's file holds.
    """
    plugin = find_plugin(group, name)
    return _load_plugin(plugin) if plugin else importlib.import_module(module_of(group, name))


def _load_plugin(plugin: Plugin) -> ModuleType:
    try:
        module = importlib.import_module(plugin.module)
    except (Exception, SystemExit) as error:
        raise BadInput(
            f"{plugin}: {_place(plugin.file, error)}: {type(error).__name__}: {_line(error)}"
        ) from error
    symbol = SYMBOLS[plugin.group]
    for name, base in (("Settings", BaseModel), (symbol, _base(plugin.group))):
        if not isinstance(kind := getattr(module, name, None), type):
            raise BadInput(f"{plugin}: {plugin.file} holds no class {name}")
        if not issubclass(kind, base):
            raise BadInput(f"{plugin}: {name} is no {base.__module__}.{base.__name__}")
    return module


def _base(group: str) -> type:
    """What the symbol of a component's file derives from."""
    base: type = getattr(importlib.import_module(PACKAGES[group]), BASES[group])
    return base


def _place(file: Path, error: BaseException) -> str:
    """The last line of a file that an error went through."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{file}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    return f"{file}, line {lines[-1]}" if lines else str(file)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def restore(group: str, spec: ComponentSpec | Mapping[str, Any]) -> Component:
    """The component that a stage was told of; its settings were checked when it was resolved.

    Args:
        group: of components.
        spec: name and settings.
    """
    if not isinstance(spec, ComponentSpec):
        spec = ComponentSpec(**_plain(spec))
    kind: type[BaseModel] = load_module(group, spec.name).Settings
    return Component(group, spec.name, kind(**revealed(spec.settings)), spec)


def _plain(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec without the digest of the data that a task reads, which is an address's alone."""
    return {name: value for name, value in spec.items() if name != "data"}


def build(group: str, spec: ComponentSpec | Mapping[str, Any], *resources: Any) -> Any:
    """An instance of the component that a stage was told of, handed what it needs.

    Args:
        group: of components.
        spec: name and settings.
        *resources: what a component of the group is handed beside its settings.
    """
    return restore(group, spec).build(*resources)


def build_defense(
    spec: Sequence[ComponentSpec | Mapping[str, Any]],
    resources: ProviderResources = NO_RESOURCES,
    learned: Sequence[Mapping[str, Tensor]] = (),
) -> DefensePipeline:
    """The defence of a resolved spec.

    Args:
        spec: its parts, in the order in which they act.
        resources: what the provider has beside its teacher.
        learned: tensors `[...]` by name that each part learned, if it was
            taught; see `teach_defense`.

    Raises:
        BadInput: the parts cannot act in that order.
    """
    parts = [restore("defense", part) for part in spec]
    each = [replace(resources, learned=one) for one in learned] or [resources] * len(parts)
    return DefensePipeline(
        tuple(part.name for part in parts),
        tuple(part.build(own) for part, own in zip(parts, each, strict=True)),
    )


def teach_defense(
    spec: Sequence[ComponentSpec | Mapping[str, Any]], resources: ProviderResources, model: Model
) -> list[Mapping[str, Tensor]]:
    """What each part of a defence learns, on the model that those before it have defended.

    Args:
        spec: parts in the order in which they act.
        resources: what the provider has.
        model: the undefended teacher.

    Returns:
        Tensors `[...]` by name, for each part.
    """
    return learn_pipeline([restore("defense", part).build for part in spec], resources, model)
