"""Stage `merged_campaign`: the parts of a campaign's run, which were simulated apart, as one run.

Counts add up. Honest customers of two parts are two customers; the campaign is one in all parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from experiments.stages.arrays import load, save
from experiments.stages.served import CampaignReport, Detected, Scores, days_of
from experiments.stages.stage import Inputs, Spec

VERSION = 1
T = TypeVar("T")


class MergedSpec(Spec):
    """There is nothing to say of it but its parts."""

    STAGE: ClassVar[str] = "merged_campaign"


@dataclass(frozen=True)
class MergedInputs(Inputs[T]):
    shards: tuple[T, ...]


def run(spec: MergedSpec, inputs: MergedInputs[Path], out: Path) -> None:
    """`run.json` and `scores.npz` as of a run in one piece."""
    reports = [CampaignReport.read(folder) for folder in inputs.shards]
    merged(reports).write(out)
    scores = [Scores(**load(folder / "scores.npz")) for folder in inputs.shards]
    save(out / "scores.npz", merged_scores(scores)._asdict())


def merged(reports: Sequence[CampaignReport]) -> CampaignReport:
    """What happened in all parts of a run under the open access.

    Args:
        reports: of the parts, at least one.
    """
    counts = added([report.model_dump(exclude={"detectors"}) for report in reports])
    watched = [report.detectors or {} for report in reports]
    detectors = {
        name: [_detected(rate) for rate in zip(*(one[name] for one in watched), strict=True)]
        for name in watched[0]
    }
    return CampaignReport(**counts, detectors=detectors)


def _detected(parts: Sequence[Detected]) -> Detected:
    """What a detector found in all parts at one rate."""
    total = Detected(**added([part.model_dump(exclude={"days"}) for part in parts]), days={})
    days = days_of(np.array(total.found_D, np.int64), total.of)
    return total.model_copy(update={"days": days, "found_D": []})


def added(parts: Sequence[Any]) -> Any:
    """Numbers added up, wherever they stand in values of one form; texts are the same in all.

    Args:
        parts: values as JSON has them, at least one; what a part lacks counts as 0.
    """
    first = parts[0]
    if isinstance(first, dict):
        names = dict.fromkeys(name for part in parts for name in part)
        return {name: added([part[name] for part in parts if name in part]) for name in names}
    if isinstance(first, list):
        columns = zip(*(part for part in parts if part), strict=True)
        return [added(column) for column in columns]
    return first if isinstance(first, str) else sum(parts)


def merged_scores(parts: Sequence[Scores]) -> Scores:
    """The accounts of all parts side by side.

    Args:
        parts: of the shards, at least one.
    """
    owners, before = [], 0
    for part in parts:
        owners.append(np.where(part.guilty, part.owner, part.owner + before))
        before += int(part.owner[~part.guilty].max(initial=0))
    return Scores(
        p=np.concatenate([part.p for part in parts], axis=1),
        guilty=np.concatenate([part.guilty for part in parts]),
        segment=np.concatenate([part.segment for part in parts]),
        owner=np.concatenate(owners),
        names=parts[0].names,
    )
