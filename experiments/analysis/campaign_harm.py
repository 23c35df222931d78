"""What honest accounts met beside campaigns, by access and segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distill.campaigns import SEGMENTS
from experiments.analysis.campaign_detection import customer_rate
from experiments.analysis.campaign_outcomes import Against, Runs
from experiments.results.schema.campaigns import (
    HarmResult,
    RateResult,
)
from experiments.results.schema.outcomes import CampaignOutcome, HonestAccounts
from experiments.results.schema.words import ALL


class HonestCounts:
    """Counts of honest accounts by seed; runs that share their honest accounts count once.

    Args:
        some: finished runs, of any campaigns under one access.
    """

    def __init__(self, some: Sequence[CampaignOutcome]) -> None:
        self.by_seed: dict[int, list[HonestAccounts]] = {}
        for outcome in some:
            self.by_seed.setdefault(outcome.seed, []).append(outcome.honest)

    def count(
        self, places: Sequence[int], by_segment: Callable[[HonestAccounts], list[int]]
    ) -> list[float]:
        """A count in these segments, by seed, mean over the runs of the seed.

        Args:
            places: numbers of segments.
            by_segment: the count of each segment in a run.

        Returns:
            In the order in which the seeds first come.
        """
        return [
            sum(by_segment(run)[s] for run in shared for s in places) / len(shared)
            for shared in self.by_seed.values()
        ]


def harm_results(runs: Runs, alpha: float) -> list[HarmResult]:
    """What honest accounts met under each access, beside each campaign and on average over
    campaigns.

    Runs of a seed share their honest accounts whatever the campaign, so these count once.

    Args:
        runs: of one split.
        alpha: level of the two-sided intervals.
    """
    over_all: Runs = {}
    for at, some in runs.items():
        over_all.setdefault(Against(ALL, at.access), []).extend(some)
    segments = [*((name, [s]) for s, name in enumerate(SEGMENTS)), (ALL, [*range(len(SEGMENTS))])]
    return [
        _harm(at, segment, places, some, alpha)
        for at, some in (runs | over_all).items()
        for segment, places in segments
    ]


def _harm(
    at: Against,
    segment: str,
    places: Sequence[int],
    some: Sequence[CampaignOutcome],
    alpha: float,
) -> HarmResult:
    """Shares of honest accounts of some segments, and of their exchanges."""
    counts, nobody = HonestCounts(some), [0] * len(SEGMENTS)  # runs of older code counted neither
    accounts = counts.count(places, lambda honest: honest.accounts)

    def share(by_segment: Callable[[HonestAccounts], list[int]]) -> RateResult:
        return customer_rate(counts.count(places, by_segment), accounts, alpha)

    def done(name: str) -> RateResult:
        return share(lambda honest: honest.done[name])

    sent = counts.count(places, lambda honest: honest.sent)
    refused = counts.count(places, lambda honest: honest.refused)
    reduced = counts.count(places, lambda honest: honest.reduced or nobody)
    return HarmResult(
        preset=at.preset,
        access=at.access,
        segment=segment,
        closed=share(lambda honest: honest.closed),
        limited=share(lambda honest: honest.limited),
        touched=share(lambda honest: honest.touched),
        done={name: done(name) for name in some[0].honest.done},
        refused=sum(refused) / max(sum(sent), 1),
        downgraded=share(lambda honest: honest.downgraded or nobody),
        reduced=sum(reduced) / max(sum(sent), 1),
    )
