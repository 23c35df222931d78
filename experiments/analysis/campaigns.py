"""From runs of campaigns to numbers: what leaked, what it taught, what it cost, who else was hit,
and who was seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.analysis.campaign_detection import detector_results, roc_results
from experiments.analysis.campaign_harm import harm_results
from experiments.analysis.campaign_leaks import days_results, leak_results, worst_campaigns
from experiments.analysis.campaign_outcomes import grouped
from experiments.analysis.comparisons import ArmTable
from experiments.results.schema.campaigns import CampaignMeasures
from experiments.results.schema.outcomes import CampaignOutcome
from experiments.settings.campaigns import Campaigns

ATLAS = {
    "AML.CS0056": "case study: distillation campaigns of February 2026",
    "AML.T0008.005": "acquire infrastructure: AI service proxies (resellers, pooled accounts)",
    "AML.T0024.002": "exfiltration by the inference interface: extract the model",
}
"""MITRE ATLAS, atlas-data at 8ee2c68: what a simulated campaign is an instance of."""


def measure(
    settings: Campaigns, outcomes: Sequence[CampaignOutcome], table: ArmTable
) -> CampaignMeasures:
    """Every number that is shown of campaigns, from the outcomes and the study's grades alone.

    Args:
        settings: of the study's campaigns.
        outcomes: of finished runs, of both splits.
        table: the study's graded arms.
    """
    runs, choosing = grouped(outcomes, "report"), grouped(outcomes, "select")
    leaks = [row for task in table.tasks() for row in leak_results(settings, runs, table, task)]
    return CampaignMeasures(
        leaks=leaks,
        worst=worst_campaigns(settings, table, leaks, choosing),
        detectors=detector_results(settings, runs, table.alpha),
        roc=roc_results(runs),
        days=days_results(settings, runs),
        harm=harm_results(runs, table.alpha),
        atlas=ATLAS,
        rates=settings.rates,
        horizon=settings.days,
        release=settings.release,
    )
