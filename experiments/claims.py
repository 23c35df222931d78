"""Which settings the folder of a study's name is of, so that no two write into one."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from distill.completions import BadInput, digest, write_bytes
from experiments.planning.plan import Plan
from experiments.settings.compose import APART
from experiments.stages.stage import canonical
from experiments.store import Store, writable

NOTE = re.compile(rb"([0-9a-f]{64}) ([0-9a-f]{64})\n(.*)", re.S)


class Claim(NamedTuple):
    """Whose a folder is: digests of the settings that its results follow from and of the overrides
    that led to them, and the study's file; empty where it is not known.
    """

    settings: str
    overrides: str
    file: str

    def is_same(self, other: Claim) -> bool:
        """Whether both are of the same settings, or of the same file and overrides: a file may be
        edited.

        Args:
            other: claim of the same name.
        """
        same_words = "" in (self.overrides, other.overrides) or self.overrides == other.overrides
        same_file = bool(self.file) and self.file == other.file and same_words
        return self.settings == other.settings or same_file

    @property
    def is_gone(self) -> bool:
        """Whether its file is no longer there, so that another may have the name."""
        return bool(self.file) and not os.path.isfile(self.file)  # False also of what is no path


def claim(
    plan: Plan, store: Store, file: Path | None = None, overrides: Sequence[str] = ()
) -> None:
    """Note that the folder of a study's name is that study's.

    Args:
        plan: of the study that is about to be run.
        store: beside the folder.
        file: the study's, where it is known.
        overrides: words of a command line, which a study of a known file has.

    Raises:
        BadInput: the folder is there, and holds results of other settings.
    """
    study = plan.study
    note = writable(store.root / ".studies") / study.name
    words = sorted(word for word in overrides if not word.lstrip("+").startswith(APART))
    ours = Claim(
        settings=_settings(plan),
        overrides=digest(os.fsencode("\n".join(words))),
        file=str(file or ""),
    )
    before, home = _read(note), store.root.parent / study.name
    if before and home.exists() and not (before.is_same(ours) or before.is_gone):
        whose = f"is that of {before.file}" if before.file else "is that of other settings"
        if before.file and before.file == ours.file:
            whose += " with other overrides"
        raise BadInput(
            f"{file or 'run'}: the name {study.name!r} {whose}, whose results are in {home}; give "
            "one of them another name (name=...), or remove that folder"
        )
    if before and before.settings == ours.settings and not file:
        return  # a script runs what a command of that file did
    line = f"{ours.settings} {ours.overrides}\n".encode()
    write_bytes(note, line + os.fsencode(ours.file))


def _settings(plan: Plan) -> str:
    """A digest of what results follow from: where a server is, say, is none of it."""
    study = plan.study
    results = sorted(stage.key for stage in plan.stages)
    return digest(canonical([results, study.measure.model_dump(mode="json"), study.question]))


def _read(note: Path) -> Claim | None:
    """What was noted before; notes were a file's path alone once."""
    raw = note.read_bytes() if note.is_file() else b""
    if not raw:
        return None
    if parts := NOTE.fullmatch(raw):
        return Claim(parts[1].decode(), parts[2].decode(), os.fsdecode(parts[3]))
    return Claim("", "", os.fsdecode(raw))
