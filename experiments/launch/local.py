"""Runs stages on this machine: one process a core with one thread each, each stage as soon as its inputs are there."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments import provenance
from experiments.launch import one
from experiments.plan import Plan, seconds
from experiments.stage import Stage
from experiments.store import Store


def run(plan: Plan, root: Path, workers: int, console: Console, threads: int = 1, keep_old: bool = False) -> None:
    """Make every result of a plan that is missing or old; the first error stops the rest and is raised."""
    due = plan.due(Store(root), threads, keep_old)
    for line in due.why:
        what = "old results are kept" if keep_old else "old results are made again"
        console.print(f"note: {what}: {line}", soft_wrap=True, highlight=False)
    waiting = due.stages
    if not waiting:
        return
    code = sorted({name for stage in waiting for name in provenance.modules(stage)})
    # Children read this before they import torch; more threads than cores would oversubscribe them.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (code,)) as pool,
        Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("stages", total=len(waiting))
        try:
            _drain(waiting, lambda stage: pool.submit(one.make, stage, root, threads), lambda: bar.advance(task))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(code: list[str]) -> None:
    """Import all code at once and note its digests: what is edited during a run neither acts nor is recorded."""
    _end_with_parent()
    provenance.remember(code)


def _end_with_parent() -> None:
    """Let a worker of a killed run end as well, instead of holding the lock of the stage in flight."""
    parent = multiprocessing.parent_process()
    assert parent

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _drain(waiting: list[Stage], submit: Callable[[Stage], Future[float]], advance: Callable[[], None]) -> None:
    missing = {stage.key for stage in waiting}
    # Longest first: a teacher that starts last would leave a core idle at the end.
    queue = sorted(waiting, key=lambda stage: -seconds(stage))
    running: dict[Future[float], Stage] = {}
    while queue or running:
        ready = [stage for stage in queue if not any(one.key in missing for one in stage.inputs)]
        for stage in ready:
            queue.remove(stage)
            running[submit(stage)] = stage
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
            missing.discard(running.pop(future).key)
            advance()
