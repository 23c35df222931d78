"""What a run says while it works: a bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.launch.estimate import Estimate, duration
from experiments.stages.stage import Stage

if TYPE_CHECKING:
    from experiments.planning.arms import Arm

LINE_SECONDS = 30.0  # between plain lines at first; later a twentieth of the time so far
REFRESH_SECONDS = 1.0
PRIOR = 0.1  # share of a run that must be done before its pace outweighs the estimate
NAMED = 2  # stages in one line, of those that are under way


class Arms(Protocol):
    """What has arms: a plan."""

    @property
    def arms(self) -> Sequence[Arm]: ...


def stage_names(plan: Arms) -> dict[str, str]:
    """Every stage by key as its first arm is called: `student trace release/top_k sft seed 3`."""
    names: dict[str, str] = {}
    for arm in plan.arms:
        words = f"{arm.task} {arm.defense} {arm.attacker} {arm.budget} seed {arm.seed}"
        for stage in arm.exam.walk():
            whole = stage.kind == "teacher"  # of all arms of its task
            names.setdefault(stage.key, f"{stage.kind} {arm.task if whole else words}")
    return names


class Monitor:
    """Counts finished stages and says what is under way and about how long the rest takes.

    Args:
        stages: to be made.
        names: of the stages by key.
        estimate: of how long they take.
        workers: processes.
        clock: seconds from any moment on.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        names: dict[str, str],
        estimate: Estimate,
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.names, self.estimate, self.workers, self.clock = names, estimate, workers, clock
        self.left = {stage.key: estimate.of(stage) for stage in stages}
        self.kinds = {stage.key: stage.kind for stage in stages}
        self.total, self.expected = len(stages), sum(self.left.values())
        self.submitted: list[str] = []  # in the order in which workers take them
        self.since: dict[str, float] = {}
        self.began = self.last_line = clock()

    def submit(self, stage: Stage) -> None:
        """A stage waits for a worker.

        Args:
            stage: one of those to be made.
        """
        self.names.setdefault(stage.key, f"{stage.kind}/{stage.key}")
        self.submitted.append(stage.key)
        self._start()

    def finish(self, stage: Stage) -> None:
        """A stage is made, and a worker takes the next one.

        Args:
            stage: one that was submitted.
        """
        self.submitted.remove(stage.key)
        self.left.pop(stage.key)
        self._start()

    def _start(self) -> None:
        now = self.clock()
        self.since = {key: self.since.get(key, now) for key in self.submitted[: self.workers]}

    def remaining(self) -> float:
        """Seconds to go: the estimate, corrected by how it has held so far."""
        now, left = self.clock(), sum(self.left.values())
        under_way = sum(min(now - began, self.left[key]) for key, began in self.since.items())
        trust = PRIOR * self.expected  # or the first stages alone would say it all
        worked = self.expected - left + under_way
        pace = ((now - self.began) * self.workers + trust) / (worked + trust or 1.0)
        return max(left - under_way, 0.0) * pace / self.workers

    def under_way(self) -> list[tuple[str, str, str]]:
        """Kind, key and name of each stage that runs now."""
        return [(self.kinds[key], key, self.names[key]) for key in self.since]

    def current(self) -> str:
        """The stages that run now."""
        return ", ".join(self.names[key] for key in [*self.since][:NAMED])

    def line(self) -> str:
        """All of it in one line."""
        finished, elapsed = self.total - len(self.left), duration(self.clock() - self.began)
        return (
            f"{finished}/{self.total} stages in {elapsed}, about {duration(self.remaining())} "
            f"left; now: {self.current()}"
        )

    def due_line(self) -> str | None:
        """The line, if the last one is long enough ago."""
        now = self.clock()
        if now - self.last_line < max(LINE_SECONDS, (now - self.began) / 20):
            return None
        self.last_line = now
        return self.line()


@contextmanager
def shown(monitor: Monitor, console: Console) -> Iterator[Callable[[], None]]:
    """Show a monitor's state; what is yielded brings it up to date and is called once a second.

    Args:
        monitor: of a run.
        console: a terminal gets a bar, anything else now and then a line.
    """
    if not console.is_terminal:

        def print_line() -> None:
            if line := monitor.due_line():
                console.print(line, soft_wrap=True, highlight=False)

        yield print_line
        return
    columns = (
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]} left", markup=False),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=monitor.total, left=duration(monitor.remaining()))

        def update() -> None:
            bar.update(
                task,
                completed=monitor.total - len(monitor.left),
                description=monitor.current(),
                left=duration(monitor.remaining()),
            )

        yield update
