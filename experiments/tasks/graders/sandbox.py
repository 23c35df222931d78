"""A Python process for code that nobody trusts: an empty folder, no network, no other process, no
file written, and limits on time, memory and what it says.

Three walls stand behind one another. Limits of the kernel (`resource`) hold everywhere; as root the
process becomes nobody first. `bwrap`, or else `unshare`, gives it its own network and processes
where the machine lets them (`isolation()` says which). Inside, an audit hook refuses files, imports
beyond those of `_worker.py`, processes and sockets. A hook is no wall against who breaks the
interpreter itself: where `isolation()` is `limits`, grade no answers that may be written for that.
"""

from __future__ import annotations

import functools
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple

WORKER = Path(__file__).with_name("_worker.py")
LINE = 2**20  # bytes of one line that a process says
PROBE = ["/bin/true"]


class TooMuch(Exception):
    """A process took too long, said too much, or ended."""


class Limits(NamedTuple):
    """`seconds` of the processor, `patience` in seconds of the clock, `megabytes` of memory."""

    seconds: int
    patience: float
    megabytes: int


class Sandbox:
    """A process that reads lines and writes lines; nothing of it is left when it is closed.

    Args:
        code: Python source that it runs first.
        limits: what it may take.
        mode: what the code is, see `_worker.py`.
        names: of functions that tests may call.
    """

    def __init__(
        self,
        code: str,
        limits: Limits,
        *,
        mode: Literal["program", "calls", "tests"],
        names: Sequence[str] = (),
    ) -> None:
        self.ends, self.buffer = time.monotonic() + limits.patience, b""
        self.folder = tempfile.mkdtemp(prefix="distill-resist-code-")
        os.chmod(self.folder, 0o755)
        arguments = [str(limits.seconds), str(limits.megabytes), mode]
        python = [sys.executable, "-I", "-S", "-B", "-X", "utf8"]
        self.process = subprocess.Popen(
            [*_walls(self.folder), *python, "-c", WORKER.read_text(encoding="utf-8"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        self.say(repr((code, tuple(names))))

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                assert pipe
                pipe.close()
            except BrokenPipeError:
                pass
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def say(self, line: str) -> None:
        """Write a line to the process.

        Args:
            line: without its end.

        Raises:
            TooMuch: the process has ended, or does not read.
        """
        assert self.process.stdin
        descriptor, rest = self.process.stdin.fileno(), line.encode() + b"\n"
        os.set_blocking(descriptor, False)
        while rest:
            self._wait(self.process.stdin, selectors.EVENT_WRITE)
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BrokenPipeError:
                raise TooMuch("the process ended") from None

    def end_input(self) -> None:
        """No more lines follow."""
        assert self.process.stdin
        self.process.stdin.close()

    def hear(self) -> str:
        """The next line of the process, without its end.

        Raises:
            TooMuch: none comes.
        """
        while b"\n" not in self.buffer:
            if not (more := self._read()):
                raise TooMuch("the process ended")
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode("utf-8", "replace")

    def hear_all(self) -> str:
        """All that the process still says until it ends."""
        while more := self._read():
            self.buffer += more
        return self.buffer.decode("utf-8", "replace")

    def _read(self) -> bytes:
        assert self.process.stdout
        self._wait(self.process.stdout, selectors.EVENT_READ)
        if len(self.buffer) > LINE:
            raise TooMuch("the process says too much")
        return os.read(self.process.stdout.fileno(), 2**16)

    def _wait(self, pipe: object, event: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)  # type: ignore[arg-type]  # a pipe has a descriptor
            if not selector.select(max(0.0, self.ends - time.monotonic())):
                raise TooMuch("the process takes too long")


@functools.cache
def isolation() -> str:
    """What stands around a process beside limits and hook: `bwrap`, `unshare` or `limits`."""
    for name in ("bwrap", "unshare"):
        if shutil.which(name) and _works([*_around(name, "/tmp"), *PROBE]):
            return name
    return "limits"


def _works(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _walls(folder: str) -> list[str]:
    return _around(isolation(), folder)


def _around(name: str, folder: str) -> list[str]:
    if name == "bwrap":
        inside = ["--bind", folder, folder, "--chdir", folder]
        outside = ["--ro-bind", "/", "/", "--tmpfs", "/tmp", "--dev", "/dev", "--proc", "/proc"]
        return ["bwrap", "--unshare-all", "--die-with-parent", *outside, *inside, "--"]
    if name == "unshare":
        user = [] if os.geteuid() == 0 else ["--user"]
        return ["unshare", *user, "--net", "--ipc", "--pid", "--fork", "--kill-child", "--"]
    return []
