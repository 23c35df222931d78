"""Studies of seconds: run in this process, or in one of its own that may be killed.

Networks are as small as they can be: what such a study costs is starting it, and here it starts
from a process that has imported the libraries (see `launch.local`).
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from experiments import cli
from experiments.launch import local

SHAPES = [
    "teacher.hidden_size=16",
    "teacher.num_layers=1",
    "teacher.steps=2",
    "teacher.items=60",
    "student.hidden_size=16",
    "student.num_layers=1",
    "student.steps=1",
    # What is untrained never ends; the longest solution of these studies takes 28.
    "teacher.max_new_tokens=32",
    "student.max_new_tokens=32",
]
STUDY = [
    "name=quickstart",
    *SHAPES,
    "seeds=[0,1]",
    "baseline_seeds=2",
    "selection_seeds=[900]",
    "measure.items=10",
    "measure.selection_items=10",
    "measure.teacher_seeds=1",
    "measure.draws=100",
    "measure.plateau=false",
    "budget=8",
    "task=addition",
    "defense=release/answer_only",
    "attacker=sft",
]


def last(*words: str) -> list[str]:
    """Words of which the last of equal keys counts, as a command line may set none twice."""
    return list({word.partition("=")[0]: word for word in words}.values())


def command(folder: Path, *more: str, verb: str = "run", workers: int = 1) -> list[str]:
    """The quickstart at this size, with results below a folder."""
    processes = ["--workers", str(workers)] if verb == "run" else []
    return [verb, "quickstart", "--runs", str(folder), *processes, *last(*STUDY, *more)]


def run(folder: Path, *more: str) -> None:
    """Run the small study, with overrides and options of a test's own, in this process."""
    assert cli.main(command(folder, *more)) == 0


def apart(words: Sequence[str], output: Path, largest: int | None = None) -> BaseProcess:
    """Start a command in a process group of its own, where its workers are as well.

    Its streams go to the files `out` and `err` in the folder `output`; no file that it writes may
    be above `largest` bytes. Returns its process once that leads the group.
    """
    output.mkdir(parents=True, exist_ok=True)
    args = list(words), output, largest
    process: BaseProcess = local._context().Process(target=_begin, args=args)
    process.start()
    assert process.pid
    while process.is_alive() and os.getpgid(process.pid) != process.pid:
        time.sleep(0.01)
    return process


def _begin(words: list[str], output: Path, largest: int | None) -> None:
    os.setsid()
    # As of a terminal: a shell that runs the tests in the background has Ctrl-C ignored, and
    # workers have it blocked.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    local._context = lambda: multiprocessing.get_context("fork")
    sys.exit(cli.main(words))
