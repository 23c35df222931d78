"""What detectors saw of campaigns, at each rate of false alarms: shares of accounts over runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from distill.campaigns import CAPABILITIES, SEGMENTS
from experiments.analysis.campaign_outcomes import Runs
from experiments.measure.detection import Rate, across_runs
from experiments.results.schema.campaigns import (
    DetectorResult,
    RateResult,
    RocResult,
)
from experiments.results.schema.outcomes import CampaignOutcome, Detected
from experiments.results.schema.words import FUSION
from experiments.settings import campaigns
from experiments.settings.campaigns import OPEN, Campaigns

FEWEST_EXPECTED = 3
"""Rule of three: fewer honest customers than 3 / rate cannot show the rate at all."""


def customer_rate(hits_R: Sequence[float], of_R: Sequence[float], alpha: float) -> RateResult:
    """A share of honest customers or of their accounts, mean over runs (`detection.across_runs`).

    Args:
        hits_R: those that were hit, by run.
        of_R: those that there were, by run.
        alpha: level of the two-sided interval.
    """
    return _result(across_runs(hits_R, of_R, alpha), hits_R)


def operator_rate(hits_R: Sequence[float], of_R: Sequence[float], alpha: float) -> RateResult:
    """A share of a campaign's accounts, mean over runs, each of which is one operator's
    (`detection.across_runs`).

    Args:
        hits_R: accounts that were hit, by run.
        of_R: accounts that there were, by run.
        alpha: level of the two-sided interval.
    """
    return _result(across_runs(hits_R, of_R, alpha, operators=True), hits_R)


def _result(rate: Rate, hits_R: Sequence[float]) -> RateResult:
    return RateResult(
        value=rate.value if rate.n else None,
        lo=rate.lo,
        hi=rate.hi,
        n=rate.n,
        hits=float(np.sum(hits_R)),
        runs=len(hits_R),
    )


def detector_results(settings: Campaigns, runs: Runs, alpha: float) -> list[DetectorResult]:
    """A row a campaign, detector and rate, of runs under the open access.

    Args:
        settings: of the study's campaigns.
        runs: of one split.
        alpha: level of the two-sided intervals.
    """
    return [
        row
        for at, some in runs.items()
        if at.access == OPEN
        for row in [
            *_detector_rows(settings, at.preset, some, alpha),
            *_fusion_rows(settings, at.preset, some, alpha),
        ]
    ]


def _detector_rows(
    settings: Campaigns, preset: str, some: Sequence[CampaignOutcome], alpha: float
) -> list[DetectorResult]:
    return [
        _detector_row(
            settings, preset, name, rate, [run.detectors[name][level] for run in some], some, alpha
        )
        for name in some[0].detectors
        for level, rate in enumerate(settings.rates)
    ]


def _detector_row(
    settings: Campaigns,
    preset: str,
    name: str,
    rate: float,
    detected: Sequence[Detected],
    some: Sequence[CampaignOutcome],
    alpha: float,
) -> DetectorResult:
    """What one detector found at one rate in each run: shares, days, and what leaked before."""
    false_RS = np.array([one.false for one in detected])
    of_RS = np.array([one.customers for one in detected])
    return DetectorResult(
        preset=preset,
        lawful=campaigns.parse_campaign(preset).lawful,
        detector=name,
        rate=rate,
        found=operator_rate([one.found for one in detected], [one.of for one in detected], alpha),
        false=customer_rate(false_RS.sum(1), of_RS.sum(1), alpha),
        segments={
            segment: customer_rate(hits_R, of_R, alpha)
            for segment, hits_R, of_R in zip(SEGMENTS, false_RS.T, of_RS.T, strict=True)
        },
        leaked=_leaked_before(settings, detected, some),
        days={key: _median([one.days[key] for one in detected]) for key in detected[0].days},
        measurable=bool(of_RS.sum() * rate >= FEWEST_EXPECTED),
    )


def _leaked_before(
    settings: Campaigns, detected: Sequence[Detected], some: Sequence[CampaignOutcome]
) -> float:
    """Share of what leaks that had leaked when its account was found, mean over runs."""
    columns = [list(CAPABILITIES).index(name) for name in settings.stands_for]
    shares = [
        np.take(one.leaked_C, columns).sum() / max(np.array(run.leaked_DC)[:, columns].sum(), 1)
        for one, run in zip(detected, some, strict=True)
    ]
    return float(np.mean(shares))


def _fusion_rows(
    settings: Campaigns, preset: str, some: Sequence[CampaignOutcome], alpha: float
) -> list[DetectorResult]:
    """Of the runs on which the fusion could be judged."""
    judged = [outcome.fused for outcome in some if outcome.fused]
    if not judged:
        return []
    return [
        _fusion_row(preset, rate, [run[level] for run in judged], alpha)
        for level, rate in enumerate(settings.rates)
    ]


def _fusion_row(
    preset: str, rate: float, counts: Sequence[Sequence[int]], alpha: float
) -> DetectorResult:
    """Fusion judges whole horizons, so it has no day on which it alarms."""
    found_R, accounts_R, false_R, customers_R = np.transpose(counts)
    return DetectorResult(
        preset=preset,
        lawful=campaigns.parse_campaign(preset).lawful,
        detector=FUSION,
        rate=rate,
        found=operator_rate(found_R, accounts_R, alpha),
        false=customer_rate(false_R, customers_R, alpha),
        segments={},
        leaked=None,
        days={},
        measurable=bool(customers_R.sum() * rate >= FEWEST_EXPECTED),
    )


def _median(values: Sequence[int | None]) -> int | None:
    """None is never; the median of an even number leans to the later."""
    ordered = sorted(values, key=lambda value: np.inf if value is None else value)
    return ordered[len(ordered) // 2]


def roc_results(runs: Runs) -> list[RocResult]:
    """Means over runs of the curves of each campaign and detector."""
    return [
        _mean_roc(at.preset, name, some)
        for at, some in runs.items()
        if at.access == OPEN
        for name in _scored(some)
    ]


def _scored(some: Sequence[CampaignOutcome]) -> Iterable[str]:
    """The detectors whose curves the first run with any has."""
    return next((outcome.roc for outcome in some if outcome.roc), {})


def _mean_roc(preset: str, name: str, some: Sequence[CampaignOutcome]) -> RocResult:
    curves = [outcome.roc[name] for outcome in some if name in outcome.roc]
    return RocResult(
        preset=preset,
        detector=name,
        fpr=np.mean([curve.fpr for curve in curves], axis=0).tolist(),
        tpr=np.mean([curve.tpr for curve in curves], axis=0).tolist(),
    )
