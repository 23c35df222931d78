"""Which components there are, and where: the shipped ones, and plugins from a user's folders and
installed packages.

A plugin in a folder is `FOLDER/GROUP/NAME.py` with its config `NAME.yaml` beside it, such as
`FOLDER/defense/release/mine.py`. One in a package is an entry point of the group
`distill_resist.defenses` (`attackers`, `tasks`, `detectors`), `release/mine = package.module`, with
the config beside the module. Finding plugins runs none of their code; using one does.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import ParamSpec, TypeVar

from distill.completions import BadInput

PACKAGES = {
    "defense": "defenses",
    "attacker": "distill.attackers",
    "task": "experiments.tasks",
    "access": "defenses.access",
    "detector": "defenses.access",
}
SYMBOLS = {"defense": "Defense", "attacker": "Attacker", "task": "Task", "detector": "Detector"}
"""What the file of a component holds, beside its `Settings`; plugins are of these groups."""
BASES = {"defense": "BaseDefense", "attacker": "Base", "task": "Task", "detector": "BaseDetector"}
"""The class of the group's package that the symbol derives from."""
PLACES = {
    "defense": ("trained", "decoding", "marks", "release"),
    "attacker": ("", "ask", "clean", "repair", "follow"),
    "task": ("",),
    "detector": ("",),
}
"""The folders of a group, which say where a component acts; `""` is the group's own."""
NAMESPACE = "distill_resist_plugins"
"""The package of the modules that lie in folders."""
VARIABLE = "DISTILL_RESIST_PLUGINS"
"""Folders of plugins, separated as those of PATH are."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """A component of others: its module, its Python file and the config beside it; `package` is the
    installed one that names it, empty where it lies in a folder.
    """

    group: str
    name: str
    module: str
    file: Path
    package: str = ""

    @property
    def config(self) -> Path:
        return self.file.with_suffix(".yaml")

    def __str__(self) -> str:
        return f"plugin {self.group}/{self.name}"


_chosen: list[Path] = []
_caches: list[Callable[[], None]] = []


def cached(function: Callable[P, T]) -> Callable[P, T]:
    """functools.cache for what depends on plugins: emptied when others are put in use.

    Args:
        function: of arguments that can be hashed.
    """
    remembered = functools.cache(function)
    _caches.append(remembered.cache_clear)
    return remembered  # type: ignore[return-value]  # a wrapper with the same parameters


def config_folder() -> Path:
    """The shipped configs: beside the packages in a checkout, inside `experiments` in an installed
    wheel.
    """
    inside = Path(__file__).parents[1] / "_configs"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "configs"


def shipped(group: str) -> list[str]:
    """What is shipped in a group of configs, by name.

    Args:
        group: a folder of configs.
    """
    root = config_folder() / group
    return sorted(
        path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml")
    )


def names(group: str) -> list[str]:
    """What exists in a group of configs, plugins as well, by name.

    Args:
        group: a folder of configs.
    """
    return sorted([*shipped(group), *(one.name for one in plugins() if one.group == group)])


def find_plugin(group: str, name: str) -> Plugin | None:
    """The plugin of that name, or None where the name is shipped or unknown.

    Args:
        group: of configs.
        name: in the group.
    """
    return next((one for one in plugins() if (one.group, one.name) == (group, name)), None)


def config_file(group: str, name: str) -> Path:
    """The YAML file of a component that exists.

    Args:
        group: of configs.
        name: in the group.
    """
    plugin = find_plugin(group, name)
    return plugin.config if plugin else config_folder() / group / f"{name}.yaml"


def module_of(group: str, name: str) -> str:
    """The module that a component's name stands for.

    Args:
        group: of configs.
        name: in the group.
    """
    plugin = find_plugin(group, name)
    return plugin.module if plugin else f"{PACKAGES[group]}.{name.replace('/', '.')}"


@cached
def folders() -> tuple[Path, ...]:
    """The folders of plugins in use: those of the environment, and those that were chosen.

    Raises:
        BadInput: one is no folder.
    """
    named = [Path(word) for word in os.environ.get(VARIABLE, "").split(os.pathsep) if word]
    for folder in (*named, *_chosen):
        if not folder.is_dir():
            raise BadInput(f"plugins {folder}: no such folder")
    return tuple(dict.fromkeys(folder.resolve() for folder in (*named, *_chosen)))


def chosen_folders() -> list[Path]:
    """The folders that this process chose, for its workers to choose as well."""
    return [*_chosen]


def use_plugins(wanted: Sequence[Path]) -> None:
    """Use the plugins in these folders, beside those of the environment and of installed packages.

    Args:
        wanted: folders, instead of any that were chosen before.

    Raises:
        BadInput: a folder is not there or holds no plugin; a plugin has no config, is a link, has a
            name that is shipped or that another has. What was in use before stays so.
    """
    before = [*_chosen]
    _chosen[:] = [folder.absolute() for folder in wanted]
    _forget()
    try:
        plugins()
    except BadInput:
        _chosen[:] = before
        _forget()
        raise


def _forget() -> None:
    """Forget which plugins there are, and their modules."""
    for clear in _caches:
        clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == NAMESPACE]:
        del sys.modules[name]
    importlib.invalidate_caches()


def place_in_plugin(error: BaseException) -> tuple[Plugin, int] | None:
    """The innermost line of a plugin that an error came through.

    Args:
        error: that was raised.

    Returns:
        The plugin and the number of the line; None where no plugin's code was running.
    """
    by_file = {str(plugin.file): plugin for plugin in plugins()}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in by_file:
            return by_file[frame.filename], frame.lineno or 0
    return None


def plugin_fault(error: BaseException) -> str:
    """What a plugin's code raised, in one line with its place; empty of any other error.

    Args:
        error: that was raised.
    """
    if not (place := place_in_plugin(error)):
        return ""
    plugin, line = place
    message = " ".join(str(error).split())[:200]
    return f"{plugin}: {plugin.file.name}, line {line}: {type(error).__name__}: {message}"


@cached
def plugins() -> tuple[Plugin, ...]:
    """All plugins in use.

    Raises:
        BadInput: one cannot be, or a name is there twice.
    """
    in_folders = (plugin for folder in folders() for plugin in _in_folder(folder))
    every = [*_in_packages(), *in_folders]
    places: dict[tuple[str, str], Plugin] = {}
    for plugin in every:
        _check_place(plugin)
        twin = places.setdefault((plugin.group, plugin.name), plugin)
        if twin is not plugin:
            raise BadInput(f"{plugin}: is there twice: {twin.file} and {plugin.file}")
    _check_helpers()
    package = ModuleType(NAMESPACE)  # the folders' modules are those of one package
    package.__path__ = [str(folder) for folder in folders()]
    sys.modules[NAMESPACE] = package
    return tuple(every)


def _in_folder(folder: Path) -> list[Plugin]:
    """The plugins of a folder; BadInput where it has none."""
    inside = []
    for group in SYMBOLS:
        for file in _python_files(folder, group):
            path = file.relative_to(folder / group).with_suffix("")
            if path.name.startswith(("_", "test_")) or path.name == "conftest":
                continue
            module = ".".join((NAMESPACE, group, *path.parts))
            inside.append(Plugin(group, path.as_posix(), module, file))
    if not inside:
        groups = ", ".join(f"{group}/" for group in SYMBOLS)
        raise BadInput(
            f"plugins {folder}: holds no plugin; one is a Python file and a YAML file of the same "
            f"name below {groups} such as defense/release/mine.py"
        )
    return inside


def _python_files(folder: Path, group: str) -> list[Path]:
    """The Python files of a group; BadInput for a link, for configs alone, and for a package."""
    files = []
    for path in sorted((folder / group).rglob("*")):
        if _is_hidden(path.relative_to(folder)):
            continue
        if path.is_symlink() or not path.resolve().is_relative_to(folder):
            raise BadInput(f"plugins {path}: is a link; a plugin's files lie in its own folder")
        if path.name == "__init__.py":
            raise BadInput(f"plugins {path}: the folders of plugins are no packages; remove it")
        if path.suffix == ".yaml" and not path.with_suffix(".py").is_file():
            raise BadInput(f"plugins {path}: has no {path.with_suffix('.py').name} beside it")
        if path.suffix == ".py" and path.is_file():
            files.append(path)
    return files


def _is_hidden(path: Path) -> bool:
    """Whether a path is what editors and Python keep beside the files of a person."""
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _in_packages() -> Iterator[Plugin]:
    """The plugins that installed packages name as entry points; none of them is imported."""
    for group in SYMBOLS:
        for entry in entry_points(group=f"distill_resist.{group}s"):
            file = module_file(entry.module, _package_places(entry.module))
            if entry.attr or file is None:
                raise BadInput(
                    f"plugin {group}/{entry.name}: entry point {entry.value!r} is no module that "
                    "is installed"
                )
            package = entry.dist.name if entry.dist else ""
            yield Plugin(group, entry.name, entry.module, file, package)


def _package_places(module: str) -> list[Path]:
    """Where the top package of a module lies, without importing it."""
    spec = importlib.util.find_spec(module.partition(".")[0])
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin).with_suffix("")] if spec.origin else []


def _check_place(plugin: Plugin) -> None:
    """BadInput where a plugin's name is shipped or says nothing, or its config is not there."""
    folder, _, word = plugin.name.rpartition("/")
    if not word.isidentifier() or folder not in PLACES[plugin.group]:
        there = ", ".join(f"{plugin.group}/{one}".rstrip("/") for one in PLACES[plugin.group])
        raise BadInput(
            f"{plugin}: a plugin lies in {there}, and its name is of letters, digits and _"
        )
    if plugin.name in shipped(plugin.group):
        raise BadInput(f"{plugin}: {plugin.name!r} is shipped; give {plugin.file} another name")
    if not plugin.config.is_file():
        raise BadInput(f"{plugin}: has no config {plugin.config}")


def _check_helpers() -> None:
    """BadInput where two folders have a Python file of the same path: one would hide the other."""
    places: dict[Path, Path] = {}
    for folder in folders():
        for group in SYMBOLS:
            for file in (folder / group).rglob("*.py"):
                twin = places.setdefault(file.relative_to(folder), file)
                if twin is not file:
                    raise BadInput(f"plugins {file}: {twin} has the same name")


@cached
def _roots() -> dict[str, list[Path]]:
    """Where the top packages of plugins' modules lie."""
    roots = {NAMESPACE: [*folders()]}
    for plugin in plugins():
        top = plugin.module.partition(".")[0]
        if top not in roots:
            roots[top] = _package_places(plugin.module)
    return roots


def plugin_file(module: str) -> Path | None:
    """The file of a module that belongs to a plugin in use, or None."""
    return module_file(module, _roots().get(module.partition(".")[0], []))


def module_file(module: str, places: Sequence[Path]) -> Path | None:
    """The file of a module, of which the top package lies at one of these places.

    Args:
        module: its dotted name.
        places: folders.
    """
    parts = module.split(".")[1:]
    for place in places:
        path = place.joinpath(*parts)
        for file in (path.parent / f"{path.name}.py", path / "__init__.py"):
            if all(part.isidentifier() for part in parts) and file.is_file():
                return file
    return None
