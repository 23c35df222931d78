"""A study that is killed at some moment, and run again to its end: the same bytes as if
nothing had happened.

A process of our own makes one stage after the other, so that nearly all of its time is work that a
kill can hit;
whole commands with their workers are killed in tests/experiments/test_study.py.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import tempfile
from pathlib import Path

from hypothesis import strategies as st

from experiments import preregistration, run_folder
from experiments.launch import one
from experiments.planning import plan as planning
from experiments.settings import schema
from experiments.store import Store
from tests.experiments import small
from tests.fuzz import Kind, Outcome, command

STUDY = small.last(*small.STUDY, "seeds=[0]", "baseline_seeds=1")
SAME = (
    "grades.parquet",
    "arms.json",
    "measures.json",
    "results.json",
    "report.html",
    "analysis.yaml",
    "config.json",
)


def work(runs: Path) -> None:
    """All that `run` does, in this process."""
    planned, store = planning.make(schema.load("quickstart", STUDY)), Store(runs / "store")
    home = runs / "quickstart"
    home.mkdir(parents=True, exist_ok=True)
    preregistration.freeze(planned, store, home)
    store.sweep()  # as launch.local does
    for stage in planned.due(store, 1).stages:
        one.make(stage, store.root, 1)
    run_folder.write(planned, store, home)


def worked(runs: Path, seconds: float = 0) -> int:
    """Work in a child, which is killed once it has worked for so long; how it ended, as os.wait
    tells it.
    """
    child = os.fork()
    if not child:
        try:
            signal.signal(
                signal.SIGPROF, signal.SIG_DFL
            )  # which ends a process as SIGKILL does, nothing cleaned up
            signal.setitimer(signal.ITIMER_PROF, seconds)
            work(runs)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


@functools.cache
def whole() -> tuple[dict[str, bytes], float]:
    """What is left by a run that nothing happened to, and the seconds that it worked."""
    with tempfile.TemporaryDirectory() as runs:
        began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        assert worked(Path(runs)) == 0
        return timeless(Path(runs)), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - began


def timeless(runs: Path) -> dict[str, bytes]:
    """The files that hold no times, and the fingerprint of all results."""
    home = runs / "quickstart"
    fingerprint = json.loads((home / "manifest.json").read_bytes())["fingerprint"]
    files = {name: (home / name).read_bytes() for name in SAME}
    return files | {"fingerprint": fingerprint.encode()}


def attempt(moment: float, folder: Path) -> Outcome:
    """Killed at a moment from 0 to 1 of its work; what is left is run to its end and verified."""
    killed = worked(folder, max(moment * whole()[1], 0.001))
    if killed not in (0, signal.SIGPROF):
        return Outcome(-1, "", "", f"traceback: the killed run ended with {killed}")
    if again := worked(folder):
        return Outcome(-1, "", "", f"traceback: the second run ended with {again}")
    return command("verify", str(folder / "quickstart"), codes=(0,))


def fine(moment: float, folder: Path) -> str:
    """All bytes are those of the run that nothing happened to, and nothing of a writer is left."""
    other = [name for name, data in timeless(folder).items() if data != whole()[0][name]]
    left = [path.name for path in folder.rglob("*.part")]
    return f"silence: {other} differ, {left} are left" if other or left else ""


KIND = Kind(st.floats(0, 1), attempt, fine, few=2, shrinks=False)
