"""The content-addressed store: a stage's result lives under the hash of its settings and inputs,
and is done once.

A result is built in a temporary folder, its files are hashed, and the folder is renamed into place:
a killed run loses the stage in flight and nothing else. Files are checked against their hashes
whenever a result is opened, and so name themselves where a failure of power took what was not on
the disk yet; `done.json`, which holds the hashes, carries its own.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from distill.completions import BadInput, digest, sweep, write_bytes
from experiments.stages.stage import Stage, canonical


def writable(folder: Path) -> Path:
    """The folder, made if need be and without what killed writers left; BadInput if nothing can be
    written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / ".probe", b"")
        (folder / ".probe").unlink(missing_ok=True)
        sweep(folder)
    except OSError as error:
        raise BadInput(
            f"{folder}: cannot be written ({error.strerror}); choose another folder with --runs"
        ) from error
    return folder


class Store:
    """Results by stage and key below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def has(self, stage: str, key: str) -> bool:
        # Asked often, and a Path takes thrice the time.
        return os.path.isfile(f"{self.root}/{stage}/{key}/done.json")

    def begun(self, stage: str, key: str) -> bool:
        """Whether a result is being made, or was until its maker was killed."""
        return self.folder(stage, f".{key}.part").is_dir()

    def other_kinds(self, kinds: Collection[str]) -> list[str]:
        """Kinds of results that lie here and are none of these: another version made them."""
        return sorted(
            folder.name
            for folder in self.root.glob("[!.]*/")
            if folder.name not in kinds and next(folder.glob("*/done.json"), None)
        )

    def sweep(self) -> None:
        """Remove what killed writers left beside results."""
        for folder in self.root.glob("*/"):
            sweep(folder)
            sweep(folder / ".alike")

    def done(self, stage: str, key: str) -> dict[str, Any]:
        """What was written down of a finished result: its files' hashes, what made it and the
        seconds that it took.
        """
        folder = self.folder(stage, key)
        if not (folder / "done.json").is_file():
            raise BadInput(f"{folder}: is not there yet; `distill-resist run` makes it")
        try:
            return _unsealed((folder / "done.json").read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise BadInput(
                f"{folder}: not a finished result ({error}); delete it to make it again"
            ) from error

    def open(self, stage: str, key: str) -> Path:
        """The folder of a finished result, each file checked against its hash; BadInput if one was
        altered.
        """
        folder = self.folder(stage, key)
        for name, expected in self.done(stage, key)["files"].items():
            path = folder / name
            if not path.is_file() or digest(path.read_bytes()) != expected:
                raise BadInput(
                    f"{path}: missing or altered since it was written; delete {folder} to make "
                    "it again"
                )
        return folder

    def make(
        self,
        stage: str,
        key: str,
        build: Callable[[Path], Any],
        noted: dict[str, Any] | None = None,
        current: Callable[[], bool] = lambda: True,
        alike: str = "",
    ) -> Path:
        """Return the result, building it first if it is not there; two processes never build the
        same one at once.

        One that is there and no longer `current` is built again, and replaced when that is done.
        `noted`, and what `build` returns, are written down beside the seconds that it took; they
        are no part of the result. `alike` says all that its bytes depend on: a result of another
        address that says the same is copied instead of made.
        """
        from filelock import FileLock

        folder = self.folder(stage, key)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.parent / f".{key}.lock")
            with lock:
                if not (self.has(stage, key) and current()):
                    _build(self, folder, build, noted or {}, digest(alike) if alike else "")
        except OSError as error:
            raise BadInput(
                f"{self.root}: cannot be written ({error.strerror or error}); nothing done is "
                "lost, and the "
                "same command continues"
            ) from error
        return self.open(stage, key)


def _twin(store: Store, stage: str, alike: str) -> Path | None:
    """A whole result that says the same of what its bytes depend on."""
    try:
        key = (store.root / stage / ".alike" / alike).read_text() if alike else ""
        there = store.open(stage, key) if key else None
        return there if there and store.done(stage, key).get("alike") == alike else None
    except (OSError, BadInput):
        return None


def _build(
    store: Store, folder: Path, build: Callable[[Path], Any], noted: dict[str, Any], alike: str
) -> None:
    """Build a result in a folder beside its own, and put it in its place."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    # What a killed stage left beside its result, to continue from; that of other code leads
    # elsewhere.
    checkpoint, maker = part.with_suffix(".checkpoint"), part.with_suffix(".maker")
    if not maker.is_file() or maker.read_text() != canonical(noted):
        checkpoint.unlink(missing_ok=True)
        write_bytes(maker, canonical(noted).encode())
    began, worked = time.perf_counter(), time.process_time()
    twin = _twin(store, folder.parent.name, alike)
    if twin:
        more = _copied(twin, part, store.done(twin.parent.name, twin.name))
    else:
        returned = build(part)
        more = returned if isinstance(returned, dict) else {}
    took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - worked}
    _finish(part, took | noted | ({"alike": alike} if alike else {}) | more)
    _replace(folder, part)
    for left in (checkpoint, maker):
        left.unlink(missing_ok=True)
    if alike and not twin:
        (folder.parent / ".alike").mkdir(exist_ok=True)
        write_bytes(folder.parent / ".alike" / alike, folder.name.encode())


def _finish(part: Path, noted: dict[str, Any]) -> None:
    """Write down the hashes of a result's files, and what is noted of it."""
    files = {
        path.relative_to(part).as_posix(): digest(path.read_bytes())
        for path in sorted(part.rglob("*"))
        if path.is_file()
    }
    write_bytes(part / "done.json", sealed({"files": files} | noted))
    # Some libraries write files that nobody else can read, whatever the umask; a store may be
    # shared.
    for name in files:
        (part / name).chmod((part / "done.json").stat().st_mode)


def _replace(folder: Path, part: Path) -> None:
    """Put a finished result in its place; one that was there is gone when that is done."""
    past = folder.with_name(f".{folder.name}.past")
    shutil.rmtree(past, ignore_errors=True)
    if folder.exists():
        os.replace(folder, past)
    os.replace(part, folder)
    shutil.rmtree(past, ignore_errors=True)


def sealed(done: dict[str, Any]) -> bytes:
    """The bytes of a `done.json`: what it says, and the SHA-256 of that."""
    return canonical(done | {"sha256": digest(canonical(done))}).encode()


def _unsealed(data: bytes) -> dict[str, Any]:
    """What a `done.json` says; ValueError where it was altered, or names no files. Those of before
    carry no SHA-256.
    """
    done = json.loads(data)
    files = done.get("files") if isinstance(done, dict) else None
    if not files or not isinstance(files, dict):
        raise ValueError("its done.json names no file")
    seal = done.pop("sha256", None)
    # The bytes and not only what they mean: 1E-5 for 1e-5 is no word of ours either.
    if seal is not None and data != sealed(done):
        raise ValueError("its done.json was altered since it was written")
    if any(
        Path(name).is_absolute() or ".." in Path(name).parts or not isinstance(told, str)
        for name, told in files.items()
    ):
        raise ValueError("its done.json names files elsewhere")
    took = [done.get(name) for name in ("seconds", "cpu_seconds")]
    if not all(isinstance(one, int | float) for one in took):
        raise ValueError("its done.json does not say how long it took")
    return dict(done)


def _copied(twin: Path, part: Path, done: dict[str, Any]) -> dict[str, Any]:
    """Copy a result's files; what it noted of how they were made holds for the copy too."""
    for name in done["files"]:
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(twin / name, part / name)
    kept = {name: done[name] for name in ("answer_seconds",) if name in done}
    return kept | {"copied": twin.name}


def fingerprint(store: Store, stages: Sequence[Stage]) -> str:
    """One digest over the file hashes of all given results: equal runs have equal fingerprints."""
    files = [[s.kind, s.key, store.done(s.kind, s.key)["files"]] for s in stages]
    return digest(canonical(sorted(files)))
