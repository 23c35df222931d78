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
from experiments.stages.served import CampaignReport, Detected, days_of
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
    if reports[0].detectors:
        save(out / "scores.npz", merged_scores([load(f / "scores.npz") for f in inputs.shards]))


def merged(reports: Sequence[CampaignReport]) -> CampaignReport:
    """What happened in all parts of a run.

    Args:
        reports: of the parts, at least one.
    """
    total = added([report.model_dump(exclude={"detectors"}) for report in reports])
    if watched := [report.detectors for report in reports if report.detectors]:
        total["detectors"] = {
            name: [_detected(rate) for rate in zip(*(one[name] for one in watched), strict=True)]
            for name in watched[0]
        }
    return CampaignReport(**total)


def _detected(parts: Sequence[Detected]) -> Detected:
    """What a detector found in all parts at one rate."""
    total = added([part.model_dump(exclude={"days"}) for part in parts])
    found_D = np.array(total.pop("found_D"), np.int64)
    return Detected(**total, days=days_of(found_D, total["of"]))


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


def merged_scores(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The accounts of all parts side by side.

    Args:
        parts: arrays by name as `scores.npz` has them.
    """
    owners, before = [], 0
    for part in parts:
        honest = ~part["guilty"]
        owners.append(np.where(honest, part["owner"] + before, part["owner"]))
        before += int(part["owner"][honest].max(initial=0))
    return {
        "p": np.concatenate([part["p"] for part in parts], axis=1),
        "guilty": np.concatenate([part["guilty"] for part in parts]),
        "segment": np.concatenate([part["segment"] for part in parts]),
        "owner": np.concatenate(owners),
        "names": parts[0]["names"],
    }
