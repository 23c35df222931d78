"""Whether what a run says of its campaigns can be of the settings that they were simulated with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from experiments.results.schema.outcomes import CampaignOutcome
from experiments.settings.campaigns import OPEN, Campaigns
from experiments.stages.campaign import ORACLE


def faults(outcomes: Sequence[CampaignOutcome], campaigns: Campaigns) -> Iterator[str]:
    """What no simulated run of these settings has, in words.

    Args:
        outcomes: of a run.
        campaigns: its settings.
    """
    for outcome in outcomes:
        where = f"{outcome.preset} {outcome.access} seed {outcome.seed}"
        yield from (f"{where}: {fault}" for fault in _faults(outcome, campaigns))


def _faults(outcome: CampaignOutcome, campaigns: Campaigns) -> Iterator[str]:
    days, width = campaigns.days, len(outcome.capabilities)
    for name in ("leaked_DC", "reduced_DC"):
        counts = getattr(outcome, name)
        if len(counts) != days or any(len(row) != width for row in counts):
            yield f"{name} is not of {days} days and {width} capabilities"
    if len({len(outcome.campaign.opened_D), len(outcome.campaign.closed_D), days}) > 1:
        yield f"accounts are not told of for {days} days"
    answered, reduced = (sum(map(sum, c)) for c in (outcome.leaked_DC, outcome.reduced_DC))
    if reduced > answered:
        yield f"{reduced} answers were reduced, of {answered}"
    if lost := {*campaigns.stands_for} - {*outcome.capabilities}:
        yield f"has no {min(lost)} among its capabilities"
    if outcome.access == OPEN:
        yield from _detected(outcome, campaigns)


def _detected(outcome: CampaignOutcome, campaigns: Campaigns) -> Iterator[str]:
    """What detectors found, where all of them look."""
    if {*outcome.detectors} != {*campaigns.detectors, ORACLE}:
        yield f"detectors are {', '.join(sorted(outcome.detectors)) or 'none'}"
    if any(len(rates) != len(campaigns.rates) for rates in outcome.detectors.values()):
        yield f"detectors are not at {len(campaigns.rates)} rates"
    results = [result for rates in outcome.detectors.values() for result in rates]
    if any(r.found > r.of or len(r.false) != len(outcome.segments) for r in results):
        yield "detectors found more accounts than there are, or segments that there are not"
