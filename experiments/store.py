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
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from distill.completions import HERE, BadInput, digest, file_digest, sweep, write_bytes
from experiments.stages.stage import Stage, canonical


def writable(folder: Path) -> Path:
    """The folder, made if need be and without what killed writers left.

    Args:
        folder: of results.

    Raises:
        BadInput: nothing can be written there.
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


class Origin(BaseModel):
    """What makes a result: the version of its kind, digests of modules, versions of libraries, how
    many threads, and by key a digest over the files of each input. None where it was not recorded.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    version: int | None = None
    code: dict[str, str] | None = None
    libraries: dict[str, str] | None = None
    threads: int | None = None
    inputs: dict[str, str] | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether it says all; results of before code was recorded do not."""
        return None not in (self.version, self.code, self.libraries, self.threads, self.inputs)


UNRECORDED = Origin()


class Record(Origin):
    """`done.json`: what a finished result consists of, what made it, and the seconds that took.

    `files` has SHA-256 by name. `answer_seconds` is what answering alone took, `assumed_seconds`
    what all of it was assumed to take, `worked_with` a digest of the model that was trained or
    asked, `alike` a digest of all that the bytes depend on, `copied` the key of the result that
    this one was copied from.
    """

    files: dict[str, str] = Field(min_length=1)
    seconds: float
    cpu_seconds: float
    answer_seconds: float | None = None
    assumed_seconds: float | None = None
    worked_with: str | None = None
    alike: str | None = None
    copied: str | None = None

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, str]) -> dict[str, str]:
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
            raise ValueError("names files elsewhere")
        return files


class Store:
    """Results by stage and key below one folder.

    Args:
        root: folder of all results; made with the first.

    Arguments of its methods:
        stage: the kind of a stage.
        key: the address of a result.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, stage: str, key: str) -> Path:
        """Where a result is, or would be."""
        return self.root / stage / key

    def has(self, stage: str, key: str) -> bool:
        """Whether a result is there and was finished; its files are not looked at."""
        # Asked often, and a Path takes thrice the time.
        return os.path.isfile(f"{self.root}/{stage}/{key}/done.json")

    def losses(self, stage: str, key: str) -> Path:
        """Where a training that is under way writes its losses down."""
        return self.folder(stage, f".{key}.losses")

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

    def done(self, stage: str, key: str) -> Record:
        """What was written down of a finished result.

        Raises:
            BadInput: if it is not there, or its record is damaged.
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
        """The folder of a finished result, each file checked against its hash.

        Raises:
            BadInput: it is not there, or a file was altered, taken away or added.
        """
        folder, files = self.folder(stage, key), self.done(stage, key).files
        _check_files(folder, files)
        return folder

    def make(
        self,
        stage: str,
        key: str,
        build: Callable[[Path], Any],
        origin: Origin = UNRECORDED,
        current: Callable[[], bool] = lambda: True,
        alike: str = "",
    ) -> Path:
        """Return the result, building it first if it is not there; two processes never build the
        same one at once.

        One that is there and no longer `current` is built again, and replaced when that is done.

        Args:
            build: writes the files into a folder; a dictionary that it returns is written down in
                the record, and is no part of the result.
            origin: what makes it, for the record.
            current: whether the result that is there may stay.
            alike: all that its bytes depend on: a result of another address that says the same is
                copied instead of made.

        Returns:
            Its folder, each file checked against its hash.

        Raises:
            BadInput: if nothing can be written there.
        """
        from filelock import FileLock

        folder = self.folder(stage, key)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.parent / f".{key}.lock")
            with lock:
                # Asked within the lock: another process may have made it while this one waited.
                if not (self.has(stage, key) and current()):
                    _build(self, folder, build, origin, digest(alike) if alike else None)
        except OSError as error:
            raise BadInput(
                f"{self.root}: cannot be written ({error.strerror or error}); nothing done is "
                "lost, and the "
                "same command continues"
            ) from error
        return self.open(stage, key)


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    """A folder must hold these files by their SHA-256, and no others; itself it is no link."""
    if folder.is_symlink():
        raise BadInput(f"{folder}: is a link, and a result lies in the store itself; take it away")
    for name, expected in files.items():
        path = folder / name
        if not path.is_file() or file_digest(path) != expected:
            raise BadInput(
                f"{path}: missing or altered since it was written; delete {folder} to make it again"
            )
    # Libraries take what lies in a model's folder, whether or not we wrote it.
    if added := sorted(files_in(folder) - files.keys()):
        raise BadInput(
            f"{folder / added[0]}: was not there when {folder} was made; take it away, or "
            "delete the folder to make it again"
        )


def files_in(folder: Path) -> set[str]:
    """The files below a result's folder beside its record, and links; hidden ones are the system's
    own. No link is followed.

    Args:
        folder: of a result.

    Returns:
        Paths below it, with `/`.
    """
    names = set[Path]()
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        names |= {Path(place, name).relative_to(folder) for name in files + links}
    return {
        name.as_posix()
        for name in names
        if name.name != "done.json" and not name.name.startswith(".")
    }


def is_own(root: Path, path: Path) -> bool:
    """Whether a path below a folder is where it says: no link stands for it or on the way.

    Args:
        root: the folder, which may be a link itself.
        path: below it.
    """
    plain = os.path.join(os.path.realpath(root), os.path.relpath(path, root))
    return os.path.realpath(path) == plain


def _twin(store: Store, stage: str, alike: str | None) -> Path | None:
    """A whole result that says the same of what its bytes depend on."""
    try:
        key = (store.root / stage / ".alike" / alike).read_text() if alike else ""
        there = store.open(stage, key) if key else None
        return there if there and store.done(stage, key).alike == alike else None
    except (OSError, BadInput):
        return None


def _build(
    store: Store, folder: Path, build: Callable[[Path], Any], origin: Origin, alike: str | None
) -> None:
    """Build a result in a folder beside its own, and put it in its place."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    # What a killed stage left beside its result, to continue from; that of other code leads
    # elsewhere.
    checkpoint, maker = part.with_suffix(".checkpoint"), part.with_suffix(".maker")
    part.with_suffix(".losses").unlink(missing_ok=True)
    made_by = canonical(origin.model_dump(exclude_none=True))
    if not maker.is_file() or maker.read_text() != made_by:
        checkpoint.unlink(missing_ok=True)
        write_bytes(maker, made_by.encode())
    began, worked = time.perf_counter(), time.process_time()
    twin = _twin(store, folder.parent.name, alike)
    if twin:
        more = _copied(twin, part, store.done(twin.parent.name, twin.name))
    else:
        returned = build(part)
        more = returned if isinstance(returned, dict) else {}
    took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - worked}
    noted = dict(origin) | took | {"alike": alike} | more
    record = Record.model_validate(noted | {"files": _hashes(part)})
    write_bytes(part / "done.json", sealed(record))
    _share(part)
    _replace(folder, part)
    for left in (checkpoint, maker, part.with_suffix(".losses")):
        left.unlink(missing_ok=True)
    # Last, as it points to a result that is there. A copy leaves it at what it was copied from.
    if alike and not twin:
        (folder.parent / ".alike").mkdir(exist_ok=True)
        write_bytes(folder.parent / ".alike" / alike, folder.name.encode())


def _hashes(part: Path) -> dict[str, str]:
    """SHA-256 of each file of a result."""
    return {
        path.relative_to(part).as_posix(): file_digest(path)
        for path in sorted(part.rglob("*"))
        if path.is_file()
    }


def _share(part: Path) -> None:
    """Let all read the files who may read the record: some libraries write files that nobody else
    can read, whatever the umask, and a store may be shared.
    """
    for path in part.rglob("*"):
        if path.is_file():
            path.chmod((part / "done.json").stat().st_mode)


def _replace(folder: Path, part: Path) -> None:
    """Put a finished result in its place; one that was there is gone when that is done."""
    # Another user's may not be ours to remove, so that its name is no other's.
    past = folder.with_name(f".{folder.name}.{HERE}.{os.getpid()}.past.part")
    # A folder cannot be renamed over one that holds files, so the old one steps aside.
    if folder.exists():
        os.replace(folder, past)
    os.replace(part, folder)
    shutil.rmtree(past, ignore_errors=True)


def sealed(record: Record) -> bytes:
    """The bytes of a `done.json`: what it says, and the SHA-256 of that."""
    return _sealed(record.model_dump(exclude_none=True))


def _sealed(raw: dict[str, Any]) -> bytes:
    return canonical(raw | {"sha256": digest(canonical(raw))}).encode()


def _unsealed(data: bytes) -> Record:
    """What a `done.json` says; ValueError where it was altered, or says too little. Those of before
    carry no SHA-256.
    """
    raw = json.loads(data)
    if not isinstance(raw, dict):
        raise ValueError("its done.json is no object")
    seal = raw.pop("sha256", None)
    # The bytes and not only what they mean: 1E-5 for 1e-5 is no word of ours either.
    if seal is not None and data != _sealed(raw):
        raise ValueError("its done.json was altered since it was written")
    try:
        return Record.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"its done.json: {place}: {first['msg']}") from None


def _copied(twin: Path, part: Path, record: Record) -> dict[str, Any]:
    """Copy a result's files; what it noted of how they were made holds for the copy too."""
    for name in record.files:
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(twin / name, part / name)
    return {"answer_seconds": record.answer_seconds, "copied": twin.name}


def fingerprint(store: Store, stages: Sequence[Stage]) -> str:
    """One digest over the file hashes of all given results: equal runs have equal fingerprints.

    Args:
        store: of results.
        stages: whose results are there, in any order.

    Raises:
        BadInput: one is not there.
    """
    files = [[s.kind, s.key, store.done(s.kind, s.key).files] for s in stages]
    return digest(canonical(sorted(files)))
