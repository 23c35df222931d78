"""Runs stages on this machine: one process a core with one thread each, each stage as soon as its
inputs are there.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType

from rich.console import Console

from distill.completions import BadInput
from experiments import private, provenance, source_code
from experiments.launch import estimate, one
from experiments.launch.progress import REFRESH_SECONDS, Monitor, shown, stage_names
from experiments.live import Live
from experiments.planning.costs import SECONDS, seconds
from experiments.planning.plan import Due, Plan
from experiments.settings.catalog import chosen_folders, plugin_fault, use_plugins
from experiments.stages.stage import Stage
from experiments.store import Store

LIBRARIES = [
    "torch",
    "transformers.models.llama.modeling_llama",
    "accelerate",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pandas",  # which pyarrow imports by itself
    "pydantic",
]
LONGEST = (
    70  # letters of a temporary folder in which a socket may lie; Linux has room for 107 in all
)


def run(
    plan: Plan, root: Path, workers: int, console: Console, threads: int = 1, keep_old: bool = False
) -> None:
    """Make every result of a plan that is missing or old; the first error stops the rest and is
    raised. After Ctrl-C no worker is left.

    Args:
        plan: of a study.
        root: of the store.
        workers: processes at most.
        console: where progress is shown.
        threads: a worker.
        keep_old: whether results by other code are left as they are.

    Raises:
        BadInput: a worker was killed, memory is too small, or a key or a folder is not known here.
    """
    store = Store(root)
    store.sweep()
    due = plan.due(store, threads, keep_old)
    _announce(due, store, keep_old, console)
    waiting = due.stages
    if not waiting:
        return
    for stage in waiting:
        private.check(stage.settings)
    code = source_code.sources(
        sorted({name for stage in waiting for name in provenance.modules(stage)})
    )
    # Children read this before they import torch; more threads than cores would oversubscribe them.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    workers, study = min(workers, len(waiting)), plan.study
    monitor = Monitor(waiting, stage_names(plan), estimate.measure(store, waiting), workers)
    watched = Live(study.name, study.tracking, root.parent / study.name, console.print)
    with shown(monitor, console) as show, _pool(workers, code) as pool:

        def update() -> None:
            show()
            watched.look((name, store.losses(kind, key)) for kind, key, name in monitor.under_way())

        def submit(stage: Stage) -> Future[float]:
            monitor.submit(stage)
            # A pool begins its workers when work is submitted; they inherit what is blocked then.
            with _deaf(), _without_main():
                return pool.submit(_make, stage, root, threads)

        try:
            _drain(waiting, submit, monitor, update)
        except BrokenProcessPool:
            raise _killed(waiting, store) from None
        finally:
            watched.close()


def _announce(due: Due, store: Store, keep_old: bool, console: Console) -> None:
    """Say what of the store is not used, and what of it is old."""
    if strange := store.other_kinds(SECONDS):
        console.print(
            f"note: {store.root} holds results of another version ({', '.join(strange)}); they are "
            "left as they are and not used",
            soft_wrap=True,
            highlight=False,
        )
    what = "old results are kept" if keep_old else "old results are made again"
    for line in due.why:
        console.print(f"note: {what}: {line}", soft_wrap=True, highlight=False)


def _killed(waiting: list[Stage], store: Store) -> BadInput:
    """What is said of a worker that was killed, and in which stages."""
    begun = [f"{s.kind}/{s.key}" for s in waiting if store.begun(s.kind, s.key)]
    return BadInput(
        f"a worker was killed (out of memory?) in {' or '.join(begun) or 'its first moments'}; "
        "take fewer --workers; the same command continues"
    )


@contextlib.contextmanager
def _pool(workers: int, code: list[source_code.Source]) -> Iterator[ProcessPoolExecutor]:
    """Worker processes. After an error what is under way is finished and kept; Ctrl-C and SIGTERM
    end it at once.
    """
    # A program that calls this may have children of its own, which are not ours to end.
    others = {*multiprocessing.active_children()}
    pool = ProcessPoolExecutor(
        workers, _context(), _begin, (code, private.stand_ins(), chosen_folders())
    )
    try:
        try:
            with _terminable():
                yield pool
        except Exception:
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown()
    except (KeyboardInterrupt, SystemExit):
        with _deaf():
            for worker in {*multiprocessing.active_children()} - others:
                worker.terminate()
            pool.shutdown(cancel_futures=True)
        raise


def _context() -> BaseContext:
    """Workers are forked from a process that has imported the libraries, and none of our code, once
    for all of them.
    """
    if (
        "forkserver" not in multiprocessing.get_all_start_methods()
        or len(tempfile.gettempdir()) > LONGEST
    ):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    return context


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Within, SIGTERM is heard as Ctrl-C is, but ends in its own exit code: workers and semaphores
    are put away.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    main, received = threading.get_ident(), list[int]()

    def end(number: int, _: object) -> None:
        received.append(number)
        signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # a shell's background jobs have it ignored
        signal.pthread_kill(main, signal.SIGINT)  # which waits where Ctrl-C must

    before = signal.signal(signal.SIGTERM, end), signal.getsignal(signal.SIGINT)
    try:
        yield
    except KeyboardInterrupt:
        if received:
            raise SystemExit(128 + received[0]) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C waits until this is over, and what is started within never hears it: a worker's parent
    ends it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """What is started within does not run this process's program again, as workers of
    multiprocessing do: a script that starts a study needs no `if __name__ == "__main__"`.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


_failed: list[str] = []
"""In a worker: why it could not begin."""


def _begin(code: list[source_code.Source], stand_ins: dict[str, str], folders: list[Path]) -> None:
    """Import all code at once and note its digests: what is edited during a run neither acts nor is
    recorded.
    """
    _end_with_parent()
    private.hold(stand_ins)
    try:
        use_plugins(folders)
        source_code.remember(code)
    except Exception as error:
        _failed.append(f"{type(error).__name__}: {error}")


def _make(stage: Stage, root: Path, threads: int) -> float:
    if _failed:
        raise BadInput(f"a worker cannot begin ({_failed[0]})")
    try:
        return one.make(stage, root, threads)
    except Exception as error:
        # Here, as the place of an error does not reach the process that waits.
        if not isinstance(error, BadInput) and (fault := plugin_fault(error)):
            raise BadInput(fault) from error
        raise


def _end_with_parent() -> None:
    """Let a worker of a killed run end as well, instead of holding the lock of the
    stage in flight.
    """
    parent = multiprocessing.parent_process()
    assert parent

    def watch() -> None:
        parent.join()
        # sys.exit would end this thread alone.
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _drain(
    waiting: list[Stage],
    submit: Callable[[Stage], Future[float]],
    monitor: Monitor,
    update: Callable[[], None],
) -> None:
    """Submit each stage once what it needs is there; the first error is raised."""
    missing = {stage.key for stage in waiting}
    needs = {stage.key: {one.key for one in stage.inputs} & missing for stage in waiting}
    needed_by = dict[str, list[Stage]]()
    for stage in waiting:
        for key in needs[stage.key]:
            needed_by.setdefault(key, []).append(stage)
    # Longest first: a teacher that starts last would leave a core idle at the end.
    place = {stage.key: i for i, stage in enumerate(sorted(waiting, key=lambda s: -seconds(s)))}
    ready = [stage for stage in waiting if not needs[stage.key]]
    ended = SimpleQueue[tuple[Stage, Future[float]]]()
    left = len(waiting)
    while left:
        for stage in sorted(ready, key=lambda one: place[one.key]):
            end = functools.partial(_put, ended, stage)
            submit(stage).add_done_callback(end)
        ready = []
        try:
            done, future = ended.get(timeout=REFRESH_SECONDS)
        except Empty:
            update()
            continue
        future.result()
        left -= 1
        monitor.finish(done)
        for stage in needed_by.get(done.key, []):
            needs[stage.key].discard(done.key)
            ready += [] if needs[stage.key] else [stage]
        update()


Ended = SimpleQueue[tuple[Stage, Future[float]]]


def _put(ended: Ended, stage: Stage, done: Future[float]) -> None:
    ended.put((stage, done))
