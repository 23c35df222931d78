"""A standing attack: hostile inputs of several kinds, one file each in `kinds/`, and one judge of
what comes of them.

A kind's file holds one fixed symbol, `KIND`. `make fuzz` tries all of them for ten minutes; the
test suite tries a few examples of each. What it cannot find is what no kind draws.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.completions import BadInput
from experiments import cli

HANG = 5.0  # seconds of this process, whatever else the machine does


@dataclass(frozen=True)
class Outcome:
    """What came of a command: its exit code, what it printed, and what is wrong with that, if
    anything is.
    """

    code: int
    out: str
    error: str
    fault: str = ""


@dataclass(frozen=True)
class Kind:
    """One kind of hostile input.

    `cases`: a hypothesis strategy. `attempt(case, folder)`: one trial in an empty folder.
    `fine(case, folder)`: called where a case was accepted (exit code 0); "" if that was right, else
    what was taken in silence. `few`: how many the test suite tries. `shrinks`: whether a case that
    failed is made smaller, for which it is tried hundreds of times. `sockets`: whether it needs
    this machine's own network.
    """

    cases: Any
    attempt: Callable[[Any, Path], Outcome]
    fine: Callable[[Any, Path], str]
    few: int = 12
    shrinks: bool = True
    sockets: bool = False

    def fault(self, case: Any, folder: Path) -> str:
        """What is wrong with how a case was taken, or nothing."""
        outcome = self.attempt(case, folder)
        if outcome.fault or outcome.code == 2:
            return outcome.fault
        return self.fine(case, folder)


def every() -> dict[str, Kind]:
    """Every kind by its file's name."""
    files = sorted((Path(__file__).parent / "kinds").glob("[a-z]*.py"))
    return {
        path.stem: importlib.import_module(f"tests.fuzz.kinds.{path.stem}").KIND for path in files
    }


def corpus(name: str) -> list[str]:
    """The lines of a file in `corpus/`, in which odd characters are written as
    Python escapes them.
    """
    text = (Path(__file__).parent / "corpus" / f"{name}.txt").read_text("ascii")
    return [line.encode().decode("unicode_escape") for line in text.split("\n")[:-1]]


class Hang(BaseException):
    """Not an Exception, so that nothing on the way takes it for an error of its own."""


@contextlib.contextmanager
def limited(seconds: float = HANG) -> Iterator[None]:
    """Raise Hang once this process has worked so long, also where what was stopped made another
    error of it.
    """
    late: list[bool] = []

    def stop(*_: Any) -> None:
        late.append(True)
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    except BaseException:
        if not late:
            raise
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    if late:
        raise Hang


def call(work: Callable[[], object]) -> Outcome:
    """Call the library in a command's place: BadInput is its exit code 2, and its text must be one
    line.
    """
    try:
        with limited():
            work()
    except Hang:
        return Outcome(-1, "", "", f"hang: more than {HANG:g} s")
    except BadInput as error:
        return Outcome(2, "", str(error), "several lines" if "\n" in str(error) else "")
    except Exception as error:
        return Outcome(-1, "", "", f"traceback: {type(error).__name__}: {str(error)[:200]}")
    return Outcome(0, "", "")


def command(*words: str, codes: tuple[int, ...] = (0, 2)) -> Outcome:
    """Run a command of distill-resist in this process; exit code 2 must come with one line, and any
    other is a fault.

    Args:
        words: the command line.
        codes: exit codes that a user may see; `verify` has 1 for a FAIL.

    Returns:
        The outcome; `fault` is set for an exception that a user would see as a traceback, a hang, a
        wrong exit code, and an error of no line or several.
    """
    out, error = io.StringIO(), io.StringIO()
    try:
        with limited(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            code = cli.main(list(words))
    except Hang:
        return Outcome(-1, out.getvalue(), error.getvalue(), f"hang: more than {HANG:g} s")
    except SystemExit as ended:  # argparse prints its usage, then one line
        return Outcome(int(str(ended.code)), out.getvalue(), error.getvalue())
    except Exception as raised:
        return Outcome(
            -1,
            out.getvalue(),
            error.getvalue(),
            f"traceback: {type(raised).__name__}: {str(raised)[:200]}",
        )
    fault = "" if code in codes else f"exit code {code}"
    # What a command notes on its way is no error.
    lines = [line for line in error.getvalue().splitlines() if not line.startswith("note: ")]
    if code == 2 and (len(lines) != 1 or "Traceback" in error.getvalue()):
        fault = f"{len(lines)} lines: {error.getvalue()[:200]!r}"
    return Outcome(code, out.getvalue(), error.getvalue(), fault)
