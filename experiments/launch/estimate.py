"""How long stages will take: as their sizes say, corrected by what their kind took on this machine
with the same model, where the store knows.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from distill.completions import BadInput
from experiments.planning.costs import is_served, model_of, seconds
from experiments.stages.stage import Stage
from experiments.store import Store

LOOKED_AT = 50  # results of a kind and model whose times are taken
READ = 500  # results of a kind that are read for them

BASES = (
    "measured in this study",
    "measured in other studies here",
    "assumed",
    "not counted, as how long a server takes is unknown until it is measured",
)
"""What an estimate stands on."""


class Work(NamedTuple):
    """What takes alike: stages of a kind, with one model."""

    kind: str
    model: str

    @classmethod
    def of(cls, stage: Stage) -> Work:
        """What a stage is."""
        return cls(stage.kind, model_of(stage))


@dataclass(frozen=True)
class Estimate:
    """How many times as long as assumed stages take by their work, where this machine has made
    some.

    `measured` are medians over results; `same_study` are those of them that come from the study
    itself.
    """

    measured: dict[Work, float]
    same_study: frozenset[Work]

    def of(self, stage: Stage) -> float:
        """Seconds that a stage takes in one process."""
        return self.measured.get(Work.of(stage), 1.0) * seconds(stage)

    def is_known(self, stage: Stage) -> bool:
        """Whether anything can be said of a stage: a server must have been measured."""
        return not is_served(stage) or Work.of(stage) in self.measured

    def total(self, stages: Iterable[Stage], workers: int) -> float:
        """Seconds that stages take side by side, at best, without those of which nothing is known.

        Args:
            stages: to be made.
            workers: processes.
        """
        return sum(self.of(stage) for stage in stages if self.is_known(stage)) / workers

    def words(self, stages: Sequence[Stage], workers: int) -> str:
        """How long stages take side by side, with what that stands on.

        Args:
            stages: to be made.
            workers: processes.
        """
        is_known = any(map(self.is_known, stages))
        time = f"about {duration(self.total(stages, workers))}" if is_known else "an unknown time"
        return f"{time} with {workers} workers ({self.basis(stages)})"

    def basis(self, stages: Sequence[Stage]) -> str:
        """What the estimate of these stages stands on, in words.

        Args:
            stages: to be made.
        """
        groups: dict[str, dict[str, None]] = {words: {} for words in BASES}
        for stage in stages:
            groups[self._basis(stage)][stage.kind] = None
        return "; ".join(f"{words}: {', '.join(group)}" for words, group in groups.items() if group)

    def _basis(self, stage: Stage) -> str:
        """Which of `BASES` is that of a stage."""
        if not self.is_known(stage):
            return BASES[3]
        work = Work.of(stage)
        return BASES[0 if work in self.same_study else 1 if work in self.measured else 2]


def measure(store: Store, stages: Sequence[Stage]) -> Estimate:
    """Read what stages took on this machine: those of the study, else any of the same kind and
    model.

    Args:
        store: results made before, each with the seconds that it took and those assumed of it.
        stages: all of the study's.
    """
    keys: dict[Work, list[str]] = {}
    for stage in stages:
        keys.setdefault(Work.of(stage), []).append(stage.key)
    in_study = {work: _ratios(store, work, some) for work, some in keys.items()}
    ratios = {
        work: some or _ratios(store, work, _keys(store, work.kind))
        for work, some in in_study.items()
    }
    return Estimate(
        {work: statistics.median(some) for work, some in ratios.items() if some},
        frozenset(work for work, some in in_study.items() if some),
    )


def _keys(store: Store, kind: str) -> list[str]:
    return sorted(path.parent.name for path in (store.root / kind).glob("[!.]*/done.json"))


def _ratios(store: Store, work: Work, keys: Iterable[str]) -> list[float]:
    """How many times as long as assumed results took, those left out that were copied from another
    address, are of another model, or of which nothing was assumed.
    """
    ratios: list[float] = []
    for key in islice((key for key in keys if store.has(work.kind, key)), READ):
        try:
            record = store.done(work.kind, key)
        except BadInput:  # a damaged one is made again, and says nothing
            continue
        if record.copied is None and record.assumed_seconds and record.worked_with == work.model:
            ratios.append(record.seconds / record.assumed_seconds)
        if len(ratios) == LOOKED_AT:
            break
    return ratios


def duration(seconds: float) -> str:
    """A length of time as people say it.

    Args:
        seconds: 0 or more.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
