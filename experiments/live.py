"""Losses of trainings that are under way, in a wandb run of their own; what is finished is replayed
later by `tracking`, and losing this loses nothing.

A training writes a line a loss beside its checkpoint. Nothing is sent of a run that is over within
a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.tracking import Tracking, environment, quiet, reachable, short_line

AFTER = 60.0  # seconds from which a run is long enough to be watched
EVERY = 10.0  # seconds between two looks
LOSSES = ".losses"
"""What the file beside a checkpoint ends in."""


class Live:
    """A wandb run with a curve a training: `<name>/loss` against `<name>/step`.

    Args:
        study: its name.
        settings: where it is sent.
        folder: of the study's results; wandb's files are below it.
        say: where trouble is told of, once; it stops the watching and nothing else.
    """

    def __init__(
        self, study: str, settings: Tracking, folder: Path, say: Callable[[str], None]
    ) -> None:
        self.study, self.settings, self.folder, self.say = study, settings, folder, say
        self.sink: Any = None
        self.seen: dict[str, int] = {}  # lines that were sent, by name
        self.began = self.looked = time.monotonic()
        self.broken = settings.mode == "off"

    def look(self, files: Iterable[tuple[str, Path]]) -> None:
        """Send what is new in the files of trainings, each with the training's name.

        Args:
            files: the training's name, and where its losses are; a file may not be there yet.
        """
        now = time.monotonic()
        if self.broken or now - self.began < AFTER or now - self.looked < EVERY:
            return
        self.looked = now
        with self._unbroken():
            for name, path in files:
                self._send(name, losses(path))

    def _send(self, name: str, points: list[tuple[int, float]]) -> None:
        """Send what was not sent of a training."""
        before = self.seen.get(name, 0)
        if points and not before:
            self._open().define_metric(f"{name}/loss", step_metric=f"{name}/step", summary="none")
        for step, loss in points[before:]:
            self._open().log({f"{name}/loss": loss, f"{name}/step": step})
        self.seen[name] = max(before, len(points))

    def close(self) -> None:
        """End the run, if there is one."""
        if self.sink is not None:
            with self._unbroken(), environment(self.folder / "wandb"):
                self.sink.finish()

    @contextmanager
    def _unbroken(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever wandb raises, the study goes on
            self.broken = True
            self.say(f"wandb: live losses are not sent ({short_line(error)})")

    def _open(self) -> Any:
        """The run, begun when the first loss is there."""
        import wandb

        if self.sink is None:
            with environment(self.folder / "wandb"):
                online = self.settings.mode == "online" and reachable(
                    self.settings, self.folder, self.say
                )
                self.sink = wandb.init(
                    project=self.settings.project,
                    entity=self.settings.entity,
                    dir=self.folder / "wandb",
                    mode="online" if online else "offline",
                    name=f"live/{self.study}",
                    group=self.study,
                    job_type="live",
                    settings=quiet(self.settings),
                )
        return self.sink


def losses(path: Path) -> list[tuple[int, float]]:
    """Step and loss of each whole line of a file; none where there is no file yet."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [(int(step), float(loss)) for step, loss in whole]
