"""A run's folder, or an archive of one: what may be in it, opened without trust, and packed."""

from __future__ import annotations

import json
import os
import stat
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from distill.completions import BadInput
from experiments.results.names import ANALYSIS, MANIFEST, SEAL

LOCK, SIGNATURE = "lock.txt", f"{MANIFEST}.sig"
ALWAYS = (
    "card.md",
    "card.json",
    MANIFEST,
    "config.json",
    ANALYSIS,
    SEAL,
    "grades.parquet",
    "arms.json",
    "measures.json",
    "results.json",
    "report.html",
    "transfer.svg",
)
SOMETIMES = (
    "budgets.svg",
    "outcomes.json",
    "campaigns.svg",
    "marks.json",
)  # where the study has such things
ALLOWED = {*ALWAYS, *SOMETIMES, LOCK, SIGNATURE}
KEPT = {"tracking.json", "wandb"}  # what tracking leaves beside a run; never exported
LARGEST = 2 * 2**30  # bytes, of all files together
# A file may be so many times larger than its packed form, and so many bytes beside.
RATIO, SLACK = 100, 2**24
CHUNK = 2**20
END = struct.Struct("<4s4H2LH")  # what stands at an archive's end: marks, counts, sizes, a remark's
NEAR_END = b"PK\x06\x07"  # before it where sizes have 64 bits
DIRECTORY = 2**14  # bytes; that of an export has about a thousand
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What a damaged or hostile archive makes the library raise (a RuntimeError for encryption and
# unknown packings); zlib's own error is an Exception and nothing narrower.
BROKEN = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
)


@contextmanager
def open_run(run: Path) -> Iterator[Path]:
    """The folder of a run, or of an archive while it is needed.

    Args:
        run: the folder, or the archive's file.

    Raises:
        BadInput: it is neither, or the archive is damaged or too large.
    """
    if run.is_dir():
        if not (run / MANIFEST).is_file():
            raise BadInput(
                f"{run}: no manifest.json there; a run is a folder like runs/quickstart, or an "
                "export of one"
            )
        yield run
        return
    if not run.is_file():
        raise BadInput(
            f"{run}: no such run; a run is a folder like runs/quickstart, or an export of one"
        )
    with tempfile.TemporaryDirectory() as folder:
        _unpack(run, Path(folder))
        yield Path(folder)


def _unpack(run: Path, folder: Path) -> None:
    """Write an archive's files into a fresh folder, piece by piece; BadInput, and nothing more, if
    it is not ours.
    """
    import zlib

    try:
        _check_end(run)
        with zipfile.ZipFile(run) as archive:
            _check(run, archive.infolist())
            _check_places(run, archive)
            for member in archive.infolist():
                with archive.open(member) as packed:
                    _write(folder / member.filename, iter(lambda: packed.read(CHUNK), b""))
    except BadInput:
        raise
    except (*BROKEN, zlib.error) as error:
        raise BadInput(
            f"{run}: not a whole archive ({' '.join(str(error).split())[:120]})"
        ) from error


def _check_end(run: Path) -> None:
    """The directory is as small as that of an export, or reading it would take any time and memory;
    its size is what the last bytes say, as all programs read it.
    """
    with run.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - END.size - 20))
        tail = file.read()
    last = tail[-END.size :]
    if len(last) < END.size or last[:4] != b"PK\x05\x06":
        raise BadInput(f"{run}: not a whole archive, or something stands behind its directory")
    _, _, _, entries, total, length, _, remark = END.unpack(last)
    if tail[:4] == NEAR_END or max(entries, total) > len(ALLOWED) or length > DIRECTORY or remark:
        raise BadInput(
            f"{run}: not an export of ours: its directory has {total} entries and {length} bytes, "
            f"at most {len(ALLOWED)} and {DIRECTORY}"
        )


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    """A new file of these pieces; BadInput, which blames no archive, where it cannot be written."""
    with path.open("xb") as file:
        for piece in pieces:
            try:
                file.write(piece)
                file.flush()
            except OSError as error:
                raise BadInput(
                    f"{path.parent}: an archive cannot be unpacked there ({error.strerror}); "
                    "TMPDIR names another folder"
                ) from error


def _check(run: Path, members: list[zipfile.ZipInfo]) -> None:
    """Names are those of an export, once each: so none is a path, and nothing is
    written elsewhere.
    """
    names = [member.filename for member in members]
    for member in members:
        mode = stat.S_IFMT(member.external_attr >> 16)
        why = (
            "that is no file of an export"
            if member.filename not in ALLOWED
            else "twice"
            if names.count(member.filename) > 1
            else "as a link or a device"
            if mode not in (0, stat.S_IFREG)
            else "encrypted"
            if member.flag_bits & 1
            else "packed in an unknown way"
            if member.compress_type not in PACKINGS
            else "packed too densely"
            if member.file_size > SLACK + RATIO * member.compress_size
            else ""
        )
        if why:
            raise BadInput(
                f"{run}: not an export of ours: it holds {member.filename[:80]!r}, {why}"
            )
    size = sum(member.file_size for member in members)
    if size > LARGEST:
        raise BadInput(
            f"{run}: not an export of ours: {size / 2**30:.1f} GiB unpacked, at most "
            f"{LARGEST / 2**30:.0f}"
        )
    if missing := [name for name in ALWAYS if name not in names]:
        raise BadInput(f"{run}: not an export of ours: no {', '.join(missing)}")


def _check_places(run: Path, archive: zipfile.ZipFile) -> None:
    """Members lie one behind the other from the first byte on, say nothing beside their names, say
    it in both places, and hold nothing behind their end: another program finds the same files.
    """
    place = 0
    with run.open("rb") as file:
        for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
            head = member.FileHeader(zip64=False)
            if (
                (member.extra or member.comment or member.header_offset != place)
                or file.read(len(head)) != head
                or not _is_whole(file, member)
            ):
                raise BadInput(
                    f"{run}: not an export of ours: something stands before {member.filename}, "
                    "beside its name or behind its end; `distill-resist export` writes an archive "
                    "anew"
                )
            place += len(head) + member.compress_size
    if archive.comment or place != archive.start_dir:
        raise BadInput(f"{run}: not an export of ours: something stands behind its files")


def _is_whole(file: IO[bytes], member: zipfile.ZipInfo) -> bool:
    """Whether all the bytes that a member takes are those of its contents; they are read."""
    if member.compress_type == zipfile.ZIP_STORED:
        file.seek(member.compress_size, 1)
        return member.compress_size == member.file_size
    import zlib

    inflating, left = zlib.decompressobj(-zlib.MAX_WBITS), member.compress_size
    while left and (chunk := file.read(min(left, CHUNK))):
        left -= len(chunk)
        while chunk and not inflating.eof:
            inflating.decompress(chunk, CHUNK)
            chunk = inflating.unconsumed_tail
        if chunk or inflating.unused_data:
            return False
    return inflating.eof


def pack(home: Path, target: Path, signature: bytes | None = None) -> list[str]:
    """Write what a reviewer needs as one archive, the same bytes for the same run.

    Args:
        home: the run's folder.
        target: the archive's file.
        signature: of the manifest, or None.

    Returns:
        The names in it.

    Raises:
        BadInput: the run lacks a file.
    """
    missing = [name for name in ALWAYS if not (home / name).is_file()]
    if missing:
        raise BadInput(
            f"{home}: cannot be exported, {', '.join(missing)} missing; `distill-resist report` "
            "writes them"
        )
    names = [*ALWAYS, *(name for name in SOMETIMES if (home / name).is_file())]
    manifest = json.loads((home / MANIFEST).read_bytes())
    added = {LOCK: lock(manifest["lock"])} | ({SIGNATURE: signature} if signature else {})
    part = target.with_name(f".{target.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in [*names, *added]:
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                archive.writestr(
                    entry, added.get(name) or (home / name).read_bytes(), zipfile.ZIP_DEFLATED
                )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return [*names, *added]


def lock(packages: list[str]) -> bytes:
    """What pip installs the same packages from.

    Args:
        packages: lines as `name==version`.
    """
    return ("\n".join(packages) + "\n").encode()
