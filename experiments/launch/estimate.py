"""How long stages will take: as their sizes say, corrected by what their kind took on this machine,
where the store knows.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distill.completions import BadInput
from experiments.planning.costs import seconds
from experiments.stages.stage import Stage
from experiments.store import Store

LOOKED_AT = 50  # results a kind that are read for their times


@dataclass(frozen=True)
class Estimate:
    """How many times as long as assumed stages take by kind, where this machine has made some.

    `measured` are medians over results; `same_study` are the kinds of them that come from the study
    itself.
    """

    measured: dict[str, float]
    same_study: frozenset[str]

    def of(self, stage: Stage) -> float:
        """Seconds that a stage takes in one process."""
        return self.measured.get(stage.kind, 1.0) * seconds(stage)

    def total(self, stages: Iterable[Stage], workers: int) -> float:
        """Seconds that stages take side by side, at best.

        Args:
            stages: to be made.
            workers: processes.
        """
        return sum(map(self.of, stages)) / workers

    def basis(self, stages: Sequence[Stage]) -> str:
        """What the estimate of these stages stands on, in words.

        Args:
            stages: to be made.
        """
        kinds = list(dict.fromkeys(stage.kind for stage in stages))
        groups = {
            "measured in this study": [k for k in kinds if k in self.same_study],
            "measured in other studies here": [
                k for k in kinds if k in self.measured and k not in self.same_study
            ],
            "assumed": [k for k in kinds if k not in self.measured],
        }
        return "; ".join(f"{words}: {', '.join(group)}" for words, group in groups.items() if group)


def measure(store: Store, stages: Sequence[Stage]) -> Estimate:
    """Read what stages took on this machine: those of the study, else any of the same kind.

    Args:
        store: results made before, each with the seconds that it took and those assumed of it.
        stages: all of the study's.
    """
    kinds = dict.fromkeys(stage.kind for stage in stages)
    in_study = {
        kind: _ratios(store, kind, [s.key for s in stages if s.kind == kind]) for kind in kinds
    }
    elsewhere = {
        kind: _ratios(store, kind, _keys(store, kind)) for kind in kinds if not in_study[kind]
    }
    ratios = {kind: in_study[kind] or elsewhere[kind] for kind in kinds}
    return Estimate(
        {kind: statistics.median(some) for kind, some in ratios.items() if some},
        frozenset(kind for kind in kinds if in_study[kind]),
    )


def _keys(store: Store, kind: str) -> list[str]:
    return sorted(path.parent.name for path in (store.root / kind).glob("[!.]*/done.json"))


def _ratios(store: Store, kind: str, keys: Sequence[str]) -> list[float]:
    """How many times as long as assumed results took, those left out that were copied from another
    address, or of which nothing was assumed.
    """
    ratios = []
    for key in [key for key in keys if store.has(kind, key)][:LOOKED_AT]:
        try:
            record = store.done(kind, key)
        except BadInput:  # a damaged one is made again, and says nothing
            continue
        if record.copied is None and record.assumed_seconds:
            ratios.append(record.seconds / record.assumed_seconds)
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
