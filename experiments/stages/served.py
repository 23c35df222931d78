"""Which of its questions a campaign was served, from what happened to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, NamedTuple

import numpy as np

from experiments.stages.files import ResultFile
from experiments.stages.stage import Sparse


class Scores(NamedTuple):
    """Conformal p-values (F detectors x A accounts) of a run under the open access; who is who."""

    p: np.ndarray
    guilty: np.ndarray
    segment: np.ndarray
    owner: np.ndarray
    names: np.ndarray

    @property
    def features_AF(self) -> np.ndarray:
        """-log10 p, an account a row."""
        return np.asarray(-np.log10(self.p.astype(float)).T)


class CampaignCounts(Sparse):
    """The campaign's accounts; `opened_D` and `closed_D` by day, `done` by what a policy did."""

    opened: int
    turned_away: int
    verified: int
    opened_D: list[int]
    closed_D: list[int]
    done: dict[str, int]


class HonestCounts(Sparse):
    """Honest accounts and requests by segment, and what they met; `downgraded` accounts got
    `reduced` answers, all or some.
    """

    accounts: list[int]
    closed: list[int]
    done: dict[str, list[int]]
    limited: list[int]
    touched: list[int]
    sent: list[int]
    refused: list[int]
    reduced: list[int] = []
    downgraded: list[int] = []


class Detected(Sparse):
    """What a detector found at one rate: accounts `found` `of` all, what had leaked by then by
    capability, honest customers flagged of all by segment, and the `days` by which shares of the
    accounts were found. `found_D`, accounts found by day, is left by a shard alone.
    """

    found: int
    of: int
    leaked_C: list[int]
    false: list[int]
    customers: list[int]
    days: dict[str, int | None]
    found_D: list[int] = []


def days_of(found_D: np.ndarray, of: int) -> dict[str, int | None]:
    """The days by which shares of a campaign's accounts were found (0: the first of them); None is
    never, and where there are no accounts.

    Args:
        found_D: accounts found by day.
        of: all of them.
    """
    ends = np.cumsum(found_D)
    days: dict[str, int | None] = {}
    for share in (0.0, 0.5, 0.9):
        at = max(int(np.ceil(share * of)) - 1, 0)
        day = int(np.searchsorted(ends, at, side="right"))
        days[f"{share:g}"] = day if day < len(ends) else None
    return days


class Leakage(Sparse):
    """Exchanges that a campaign got, and those of them that were reduced; axes: D days, C
    capabilities.
    """

    capabilities: list[str]
    leaked_DC: list[list[int]]
    reduced_DC: list[list[int]]

    def by_day(self, stands_for: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Exchanges that stand for the task and were answered in full and reduced, by day.

        Args:
            stands_for: names of capabilities.

        Returns:
            `[D]` each.
        """
        columns = [self.capabilities.index(name) for name in stands_for]
        leaked_D, reduced_D = (
            np.array(counts_DC)[:, columns].sum(axis=1)
            for counts_DC in (self.leaked_DC, self.reduced_DC)
        )
        return leaked_D - reduced_D, reduced_D


class CampaignReport(Leakage, ResultFile):
    """What happened in a campaign's run.

    `planned` exchanges, and accounts `bought`; `detectors` by name and rate where nobody acts;
    `probes_D2`, quality probes that were answered in full and in part, by day, where there are any.
    """

    FILE: ClassVar[str] = "run.json"
    planned: float
    events: int
    segments: list[str]
    bought: list[int]
    campaign: CampaignCounts
    honest: HonestCounts
    detectors: dict[str, list[Detected]] | None = None
    probes_D2: list[list[int]] = []


def questions(
    happened: Leakage, stands_for: Iterable[str], per_question: float, budget: int
) -> list[bool]:
    """Which of its questions a campaign was served, in order, each with whether the answer was a
    reduced one.

    A campaign goes through its list: every `per_question`-th exchange that it got carries the next
    question.

    Args:
        happened: what a campaign was served, by day.
        stands_for: capabilities that the questions stand for.
        per_question: exchanges.
        budget: questions at most.
    """
    full_D, reduced_D = happened.by_day(stands_for)
    ends = np.cumsum(np.stack([full_D, reduced_D], axis=1).ravel())
    count = min(budget, round(float(ends[-1]) / per_question))
    at = np.minimum((np.arange(count) + 0.5) * per_question, max(ends[-1] - 0.5, 0))
    return [bool(place % 2) for place in np.searchsorted(ends, at, side="right")]
