"""Standard input, output and error of a command, whatever it was started with."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any

Complain = Callable[[str], None]


class _Unfailing(io.RawIOBase):
    """A stream of notes that stops no work: what it does not take is lost.

    `lost`: whether anything was, other than because its reader had enough.
    """

    lost = False

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def write(self, data: Any) -> int:
        try:
            return os.write(self.descriptor, data)
        except OSError as error:
            self.lost |= error.errno != errno.EPIPE
            return len(data)


def prepare() -> None:
    """Let output fail for no letter that a terminal lacks, for no stream that was closed, and let
    no note that cannot be written stop the work.
    """
    # A file that is opened later must not have the number of a stream, or it is written into.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    errors = sys.__stderr__
    if errors is not None and sys.stderr is errors:
        notes = io.BufferedWriter(_Unfailing(errors.fileno()))
        sys.stderr = io.TextIOWrapper(
            notes, errors.encoding, "backslashreplace", line_buffering=True
        )


def _raw() -> _Unfailing | None:
    """What standard error writes to, where that is ours."""
    raw = getattr(getattr(sys.stderr, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Unfailing) else None


def code(code: int, complain: Complain) -> int:
    """The exit code of a command that ended with one: 2 where its output was lost, or its notes and
    it was none.

    Args:
        code: that it ended with.
        complain: prints a line of what was lost.
    """
    if not flush(complain):
        return 2
    sys.stderr.flush()
    raw = _raw()
    return code or (2 if raw and raw.lost else 0)


def flush(complain: Complain) -> bool:
    """Whether standard output took all that was printed; a reader that had enough is no failure."""
    try:
        sys.stdout.flush()
        return True
    except OSError as error:
        # The interpreter flushes again at its end, and must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return True
        complain(f"standard output: {error.strerror}")
        return False
