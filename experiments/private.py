"""What is its owner's alone: a defence's key, and where models and data lie on this machine.

A digest stands for each in every label, address, result and export; the value itself is held by the
processes that need it. It is read from the study's settings, or handed over with `--private` or
`--where`. No file holds a key; where a place is, the store notes beside its results, for `verify`.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from distill.completions import BadInput, digest, file_digest, write_bytes

MARK = "sha256-"
KEY = "key"  # the setting of a defence that is the provider's secret
PLACES = ("path", "test_path", "clusters", "requests", "tokenizer", "adapter")
"""Settings that say where something lies."""
NOTES = ".places"  # folder of a store: where what it was made with lies on this machine
_held: dict[str, str] = {}


def stand_ins() -> dict[str, str]:
    """What this process knows, by what stands for it."""
    return dict(_held)


def hold(more: Mapping[str, str]) -> None:
    """Know these as well.

    Args:
        more: values by what stands for them.
    """
    _held.update(more)


def hidden(name: str, value: Any) -> Any:
    """What stands for a setting's value: for a key, and for a path to something that is there; else
    the value itself.

    Args:
        name: of the setting; only those of `PLACES`, and a key, are hidden.
        value: of any type.
    """
    if not isinstance(value, str) or value.startswith(MARK):
        return value
    if name == KEY:
        stands = _key(value)
    elif name in PLACES and os.path.exists(value):
        value = os.path.abspath(value)
        stands = contents(value)
    else:
        return value
    _held[stands] = value
    return stands


def _key(value: str) -> str:
    return MARK + digest(f"{KEY}\0{value}")[:16]


def contents(place: str) -> str:
    """What stands for a file or a folder, wherever it lies.

    Args:
        place: its path.
    """
    return MARK + folder_digest(Path(place))[:16]


def by_contents(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which every place that is there is told by what it holds, however it was
    written: the same data elsewhere are the same work.

    Args:
        settings: of one component, by name.
    """
    return {
        name: hidden(name, value) if name in PLACES else value for name, value in settings.items()
    }


def shown(value: Any) -> Any:
    """What a stand-in stands for where that is known here; anything else is itself.

    Args:
        value: of any type.
    """
    return _held.get(value, value) if isinstance(value, str) else value


def revealed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the values that stand-ins stand for.

    Args:
        settings: of one component, by name.
    """
    return {
        name: shown(value) if name in (KEY, *PLACES) else value for name, value in settings.items()
    }


def veiled(settings: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Checked settings with the stand-ins that they were given with.

    Args:
        settings: checked, by name.
        before: as they were given.
    """
    unchanged = {
        name for name, value in before.items() if isinstance(value, str) and value.startswith(MARK)
    }
    return {name: before[name] if name in unchanged else value for name, value in settings.items()}


def unknown(settings: Any) -> list[str]:
    """The stand-ins in a stage's settings whose values are not known here.

    Args:
        settings: of a stage, however deep.
    """
    if isinstance(settings, Mapping):
        named = [
            value
            for name, value in settings.items()
            if name in (KEY, *PLACES) and isinstance(value, str)
        ]
        strangers = [one for one in named if one.startswith(MARK) and one not in _held]
        return strangers + [one for value in settings.values() for one in unknown(value)]
    return (
        [one for value in settings for one in unknown(value)]
        if isinstance(settings, list | tuple)
        else []
    )


def server(model: str, revision: str) -> str:
    """What stands for where a model is served: the same model elsewhere is the same teacher.

    Args:
        model: by the name that it is served under.
        revision: what the researcher calls its version.
    """
    return MARK + digest(f"served\0{model}\0{revision}")[:16]


def meanings(value: str) -> dict[str, str]:
    """What a value that is handed over may be, by what would stand for it.

    Args:
        value: a key, the path of a folder or a file, or a server as MODEL=URL.
    """
    some = {_key(value): value}
    model, _, url = value.rpartition("=")
    if model and url.startswith(("http://", "https://")):
        name, _, revision = model.partition("@")
        some[server(name, revision)] = json.dumps({"url": url})
    if os.path.exists(value):
        some[contents(value)] = os.path.abspath(value)
    return some


def note_places(store: Path, stand_ins: Iterable[str]) -> None:
    """Write down beside results where the files and folders lie that they were made with, so that
    their author need not hand them over; no run and no export holds these notes.

    Args:
        store: folder of results.
        stand_ins: of files and folders.
    """
    for stand_in in {*stand_ins} & _held.keys():
        (store / NOTES).mkdir(parents=True, exist_ok=True)
        note = {"store": str(store.resolve()), "place": _held[stand_in]}
        write_bytes(store / NOTES / stand_in, json.dumps(note).encode())


def recall_places(store: Path, stand_ins: Iterable[str]) -> None:
    """Know what was noted, where it lies there still and holds the same. The notes of a store that
    came from elsewhere are not followed: a stranger could have written them.

    Args:
        store: folder of results.
        stand_ins: of files and folders.
    """
    for stand_in in {*stand_ins} - _held.keys():
        place = _noted(store, stand_in)
        if os.path.exists(place) and contents(place) == stand_in:
            _held[stand_in] = place


def _noted(store: Path, stand_in: str) -> str:
    """Where a place is by its note; nothing where there is none of this store."""
    path = store / NOTES / stand_in
    if not re.fullmatch(f"{MARK}[0-9a-f]+", stand_in) or not path.is_file():
        return ""
    try:
        note = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return ""
    same_store = isinstance(note, dict) and note.get("store") == str(store.resolve())
    return str(note.get("place", "")) if same_store else ""


def check(settings: Any) -> None:
    """Everything that a stage's settings stand for must be known here.

    Args:
        settings: of a stage, however deep.

    Raises:
        BadInput: a stand-in's value is not known.
    """
    if lost := unknown(settings):
        raise BadInput(
            f"{lost[0]} stands for a folder, a file or a key that is not known here; hand it over "
            f"with --where {lost[0]}=PATH, a key with --private KEY"
        )


def folder_digest(path: Path) -> str:
    """SHA-256 over the contents of a file, or over names and contents of all files below a folder.

    Args:
        path: of either.
    """
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    hashes = {file.relative_to(path).as_posix(): _unchanged_digest(file) for file in files}
    return digest(json.dumps(hashes, sort_keys=True, separators=(",", ":"), ensure_ascii=True))


def _unchanged_digest(file: Path) -> str:
    """A file's SHA-256, read once a process as long as the file is the same: gigabytes of weights
    are asked for many times while a study is planned.
    """
    about = file.stat()
    return _digest_of(file, about.st_ino, about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _digest_of(file: Path, *unchanged: int) -> str:
    return file_digest(file)
