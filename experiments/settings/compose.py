"""Hydra composes a study from YAML groups and the user's overrides; whichever word is wrong is
named in one line.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import OmegaConf

from distill.completions import BadInput, digest
from experiments.settings.catalog import config_folder, names
from experiments.settings.entries import existing, near
from experiments.settings.grammar import split
from experiments.settings.overrides import (
    PLURAL,
    SIMULATED,
    WRONG,
    check_word,
    reason,
    shortened,
    unknown_key,
)
from experiments.settings.reading import decoded, read

NAME_LENGTH = 100  # the most letters of a study's name
APART = ("tracking.", "tracking=", "name=")  # overrides that change no result
WHOLE = re.compile(r"-?[0-9]{1,15}")


class Checked(ConfigSource):
    """A folder of YAML files as Hydra's source, each read by `reading.read`.

    `leads`: of what is being composed, the files that each file's list of defaults names.
    """

    leads: ClassVar[dict[str, set[str]]] = {}

    @staticmethod
    def scheme() -> str:
        return "checked"

    def _file(self, name: str) -> Path:
        path = Path(self.path, f"{name}.yaml")
        return path if path.is_file() or not name.endswith(".yaml") else Path(self.path, name)

    def load_config(self, config_path: str) -> ConfigResult:
        """A file of the group, with what is wrong in it named by its place.

        Args:
            config_path: below this source.

        Raises:
            ConfigLoadError: there is no such file, as Hydra wants it.
            BadInput: the file is damaged, or its defaults lead back to itself.
        """
        path = self._file(config_path)
        if not path.is_file():
            raise ConfigLoadError(f"Config not found : {path}")
        values, header = read(path), ConfigSource._get_header_dict(decoded(path)[:512])
        _check_defaults(path, values, str(header["package"]))
        name = posixpath.normpath(config_path.removesuffix(".yaml"))
        self.leads[name] = {*_named(name, values.get("defaults", []))}
        if _leads_back(self.leads, name):
            raise BadInput(f"{path}: its defaults lead back to itself")
        return ConfigResult(
            self.provider, f"{self.scheme()}://{self.path}", OmegaConf.create(values), header
        )

    def available(self) -> bool:
        return self.is_group("")

    def is_group(self, config_path: str) -> bool:
        """Whether Hydra's path is a folder.

        Args:
            config_path: below this source.
        """
        return Path(self.path, config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Whether Hydra's path is a file.

        Args:
            config_path: below this source, with or without `.yaml`.
        """
        return self._file(config_path).is_file()

    def list(self, config_path: str, results_filter: Any) -> list[str]:
        """The files of a group, by their names.

        Args:
            config_path: below this source.
            results_filter: not used; files alone are asked for.
        """
        return sorted(path.stem for path in Path(self.path, config_path).glob("*.yaml"))


def compose(name: str, overrides: Sequence[str], environment: bool = False) -> dict[str, Any]:
    """The plain values of a study, not yet checked against any schema.

    Args:
        name: a shipped study's name, or the path of a YAML file, which finds the shipped groups
            behind its own folder.
        overrides: `key=value` in Hydra's grammar, of equal keys the last; `task`, `defense`,
            `attacker`, `budget`, `preset`, `access` and `detector` are set in every block.
        environment: whether `${oc.env:NAME}` in an override is replaced by that environment
            variable.

    Raises:
        BadInput: the file and place, or the override, that is wrong.
    """
    folder, config = _place(name)
    short = PLURAL | SIMULATED
    for word in overrides:
        check_word(word, environment)
    picks = {
        key: value for key, _, value in (word.partition("=") for word in overrides) if key in short
    }
    words = [word for word in overrides if word.partition("=")[0] not in short]
    try:
        raw = _values(folder, config, words)
    except BadInput:
        raise
    except WRONG as error:
        raise BadInput(_wrong_word(folder, config, words) or f"{name}: {reason(error)}") from None
    _drop_past_options(raw, folder, config, words)
    if missing := sorted(OmegaConf.missing_keys(raw)):
        raise BadInput(f"{name}: {missing[0]}: is missing; write {missing[0]}=...")
    for key, text in picks.items():
        _pick(raw, key, text, name)
    return raw


def _drop_past_options(
    raw: dict[str, Any], folder: Path, config: str, words: Sequence[str]
) -> None:
    """Where an override picks another option of a group, leave out what the study's file sets of
    the option that it names itself: a teacher's `temperature` is none of a recording's.
    """
    body = read(folder / f"{config}.yaml")
    before = dict(pair for entry in body.get("defaults", []) for pair in _pairs(entry))
    written = {word.lstrip("+").partition("=")[0] for word in words}
    for word in words:
        group, _, option = word.lstrip("+").partition("=")
        changed, values = body.get(group), raw.get(group)
        if not (_options(folder, word) and isinstance(changed, dict) and isinstance(values, dict)):
            continue
        past, now = _keys(folder, group, before.get(group)), _keys(folder, group, option)
        for key in changed.keys() & past - now:
            if f"{group}.{key}" not in written:
                values.pop(key, None)


def _pairs(entry: Any) -> list[tuple[str, Any]]:
    """Group and option of an entry of a list of defaults; none of a bare name."""
    named = entry.items() if isinstance(entry, dict) else ()
    return [(group.removeprefix("override ").strip().lstrip("/"), name) for group, name in named]


def _keys(folder: Path, group: str, option: Any) -> set[str]:
    """The settings that an option's file names; none where there is no such file."""
    places = (root / group / f"{option}.yaml" for root in (folder, config_folder()))
    path = next((place for place in places if place.is_file()), None)
    return {*read(path)} if path else set()


def own_name(name: str, overrides: Sequence[str], settings: str) -> str:
    """The name of a study with overrides: it gets a folder of its own, so that no other study's
    results are replaced.

    Args:
        name: the study's name without them.
        overrides: the words that were given; `name=...` among them is kept as it is.
        settings: all that the study's results follow from, as text.

    Returns:
        The name, with a digest of the settings behind it where an override changes results.
    """
    plain = [word.lstrip("+") for word in overrides]
    named = any(word.startswith("name=") for word in plain)
    if named or all(word.startswith(APART) for word in plain):
        return name
    mark = f"-{digest(settings)[:8]}"
    return name[: NAME_LENGTH - len(mark)] + mark


def _pick(raw: dict[str, Any], key: str, text: str, name: str) -> None:
    """Set an entry in every block, or in the campaigns; what is no block is left for the schema to
    refuse.
    """
    if key in SIMULATED and not raw.get("campaigns"):
        raise BadInput(f"override {key}=...: {name} simulates no campaigns (see configs/campaigns)")
    blocks = raw.get("blocks") if key in PLURAL else [raw["campaigns"]]
    values: list[Any] = _entries(text)
    if key == "budget":
        values = [int(word) if WHOLE.fullmatch(word) else word for word in values]
    for part in blocks if isinstance(blocks, list) else []:
        if isinstance(part, dict):
            part[(PLURAL | SIMULATED)[key]] = values


def _entries(text: str) -> list[str]:
    """`[a,b(x=1,y=2)]` or `a,b` as its entries; what is in brackets, `[[a,b],c]`, is a
    list of parts.
    """
    text = text.strip()
    listed = text.startswith("[") and text.endswith("]")
    inside = split(text[1:-1] if listed else text, ",")
    return [
        " + ".join(_entries(entry)) if entry.startswith("[") and entry.endswith("]") else entry
        for entry in inside
    ]


def study_file(name: str) -> Path:
    """The YAML file of a study, by its name or its path.

    Args:
        name: of a shipped study, or a path.
    """
    folder, config = _place(name)
    return folder / f"{config}.yaml"


def _place(name: str) -> tuple[Path, str]:
    """The folder in which a study is found, and its name there."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        return config_folder().resolve(), f"study/{existing('study', name)}"
    if not path.is_file():
        raise BadInput(f"{name}: no such file (studies by name: {', '.join(names('study'))})")
    if path.suffix == ".yml":
        raise BadInput(f"{name}: the name of a study's file ends in .yaml")
    return path.resolve().parent, path.resolve().stem


def _values(folder: Path, config: str, words: list[str]) -> dict[str, Any]:
    Checked.leads.clear()
    version.setbase("1.3")
    SourcesRegistry.instance().register(Checked)
    search = create_config_search_path(f"{Checked.scheme()}://{folder}")
    shipped = config_folder().resolve()
    if folder != shipped:
        search.append(
            "shipped", f"{Checked.scheme()}://{shipped}", anchor=SearchPathQuery(provider="main")
        )
    composed = ConfigLoaderImpl(search).load_configuration(
        config, words, RunMode.RUN, from_shell=False
    )
    OmegaConf.set_struct(composed, False)
    composed.pop("hydra")  # its own settings
    raw: Any = OmegaConf.to_container(composed, resolve=True)
    return dict(raw)


def _check_defaults(path: Path, values: dict[str, Any], package: str) -> None:
    """BadInput where a file's list of defaults has no such form, or a file means Hydra's own
    settings.
    """
    defaults = values.get("defaults", [])
    fair = isinstance(defaults, list) and all(
        isinstance(entry, str)
        or (isinstance(entry, dict) and len(entry) == 1 and all(map(_option, entry.values())))
        for entry in defaults
    )
    if not fair:
        raise BadInput(
            f"{path}: defaults is a list of names or of `group: name`, got {str(defaults)[:80]!r}"
        )
    words = [
        package,
        *(
            str(word)
            for entry in defaults
            for word in (entry.items() if isinstance(entry, dict) else [entry])
        ),
    ]
    if "hydra" in values or any("hydra" in re.split(r"\W+", word) for word in words):
        raise BadInput(f"{path}: hydra's own settings are no part of a study")


def _named(name: str, defaults: list[Any]) -> Iterator[str]:
    """The files that a file's list of defaults names, from the folder of all groups."""
    for entry in defaults:
        (group, option), *_ = entry.items() if isinstance(entry, dict) else [("", entry)]
        group = re.sub(r"^(override |optional )*", "", group).partition("@")[0]
        path = posixpath.join(group, option.partition("@")[0]) if option else "_self_"
        path = posixpath.join("/", posixpath.dirname(name), path).removesuffix(".yaml")
        yield posixpath.normpath(path).lstrip("/")


def _leads_back(leads: Mapping[str, set[str]], name: str) -> bool:
    """Whether a file is among those that it leads to, as far as they have been read."""
    waiting, seen = [*leads[name]], set[str]()
    while waiting:
        at = waiting.pop()
        if at not in seen:
            seen.add(at)
            waiting += leads.get(at, ())
    return name in seen


def _option(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _wrong_word(folder: Path, config: str, words: list[str]) -> str | None:
    """Which override names no key or no option; Hydra's own hint would turn a misspelt key into an
    accepted one.
    """
    picks = [word for word in words if _options(folder, word)]
    for word in picks:
        group, _, option = word.lstrip("+").partition("=")
        options = _options(folder, word)
        if option.strip("'\"") not in [*options, "null"]:
            return (
                f"{group}: no {option!r}{near(option, options)} (there are: {', '.join(options)})"
            )
    try:
        composed = _values(folder, config, picks)
    except WRONG:
        return _first_wrong(folder, config, [], picks)
    others = [word for word in words if word not in picks]
    for word in others:
        if fault := unknown_key(word, composed):
            return fault
    return _first_wrong(folder, config, picks, others)


def _options(folder: Path, word: str) -> list[str]:
    """What exists in the group that an override picks from, in the user's folder or shipped; none
    if it is no pick.
    """
    group = word.lstrip("+").partition("=")[0]
    if not re.fullmatch(r"[\w/]+", group):
        return []
    local = [
        path.relative_to(folder / group).with_suffix("").as_posix()
        for path in (folder / group).rglob("*.yaml")
    ]
    return sorted({*local, *names(group)})


def _first_wrong(folder: Path, config: str, fine: list[str], words: list[str]) -> str | None:
    """The first override that does not compose, with Hydra's reason."""
    for word in words:
        fine = [*fine, word]
        try:
            _values(folder, config, fine)
        except WRONG as error:
            return f"override {shortened(word)}: {reason(error)}"
    return None
