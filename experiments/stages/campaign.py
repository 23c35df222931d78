"""Stage `campaign`: one campaign beside honest customers, against one access.

Under the open access every detector watches the same trajectory, which none of them touches, and an
oracle bounds them; under a policy the loop is closed and the campaign replaces what it loses. What
is kept is small: counts by day, capability and segment, and each account's p-values.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from pydantic import Field

from defenses.access import Calibration, ShadowMonitor, oracle, policy
from distill.campaigns import CAPABILITIES, NEVER, SEGMENTS
from distill.campaigns.presets import Campaign
from experiments.campaigns.population import Population
from experiments.campaigns.simulate import Outcome, simulate
from experiments.campaigns.world import HONEST
from experiments.stages.calibration import TrafficSpec, calibrated, detectors, save
from experiments.stages.served import CampaignCounts, CampaignReport, Detected, HonestCounts
from experiments.stages.stage import Inputs

VERSION = 1
T = TypeVar("T")
ORACLE = "oracle"
HARM = (
    "throttle",
    "verify",
    "reduce",
    "ban",
    "ban_cluster",
)  # what an honest account notices of a policy
ROC = np.logspace(-5, 0, 101)  # nominal rates at which a curve is drawn


class Access(policy.Settings):
    """A policy as a run is told of it: what an answer is worth is for the referee to say."""

    worth: float = Field(default=0.3, exclude=True)


class CampaignSpec(TrafficSpec):
    """One campaign against one access, None of which is open to all; thresholds hold these rates of
    false alarms.
    """

    STAGE: ClassVar[str] = "campaign"
    campaign: Campaign
    access: Access | None
    rates: list[float]
    seed: int


@dataclass(frozen=True)
class CampaignInputs(Inputs[T]):
    calibration: T


def run(spec: CampaignSpec, inputs: CampaignInputs[Path], out: Path) -> None:
    """One campaign against one access; `run.json` says what happened, `scores.npz` what detectors
    made of it.
    """
    learned, calibration = calibrated(inputs.calibration)
    names = [detector.name for detector in spec.detectors]
    limits = {
        name: np.stack([calibration.threshold(name, rate) for rate in spec.rates]) for name in names
    }
    if spec.access is None:
        bound = oracle.Detector(oracle.Settings(), learned, _guilty(spec.honest, spec.campaign))
        limits[ORACLE] = np.zeros((len(spec.rates), len(SEGMENTS)))
        provider: ShadowMonitor = ShadowMonitor(
            [*detectors(spec.detectors, learned), bound], limits
        )
    else:
        ruling = {rule.detector for rule in spec.access.rules}
        acting = [detector for detector in spec.detectors if detector.name in ruling]
        provider = policy.PolicyEnforcer(
            spec.access, detectors(acting, learned), limits, spec.rates
        )
    happened = simulate(
        spec.honest,
        [spec.campaign],
        provider,
        days=spec.days,
        seed=spec.seed,
        release=spec.release,
    )
    report = _report(happened, provider)
    if spec.access is None:
        found = {name: _detected(happened, provider.crossed[name]) for name in [*names, ORACLE]}
        report = report.model_copy(update={"detectors": found})
        save(out / "scores.npz", _scores(happened, provider, calibration, names))
    report.write(out)


def _guilty(honest: Population, wanted: Campaign) -> np.ndarray:
    """The campaign's rows in the table of accounts: all behind the honest ones."""
    room = honest.accounts + wanted.accounts + int(wanted.respawns * wanted.accounts)
    return np.arange(room) >= honest.accounts


def _report(happened: Outcome, provider: ShadowMonitor) -> CampaignReport:
    """What leaked by day and capability, what it took, and what honest accounts met, by segment."""
    accounts, first = happened.accounts, happened.first
    theirs, known = slice(first, accounts.count), slice(accounts.count)
    done: dict[str, np.ndarray] = getattr(provider, "done", {})
    leaked_ADC = happened.leaked_ADC[: accounts.count - first].astype(np.int64)
    since = done["reduce"][theirs] if "reduce" in done else np.full(accounts.count - first, NEVER)
    reduced_AD = since[:, None] < np.arange(happened.days)
    shut = accounts.closed[known]
    refused = getattr(provider, "gateway", None)
    segment = accounts.segment[:first]
    limited = refused.refused[known] > 0 if refused else np.zeros(accounts.count, bool)
    touched = np.any(
        [shut < NEVER, *(done[name][known] < NEVER for name in HARM if name in done)], axis=0
    )

    def by_segment(mask: np.ndarray) -> list[int]:
        counted: list[int] = np.bincount(segment[mask[:first]], minlength=len(SEGMENTS)).tolist()
        return counted

    opened = np.maximum(accounts.created[theirs], 0)
    turned = happened.turned_away[theirs]
    proved = (
        accounts.verified[theirs] & (done["verify"][theirs] < NEVER)
        if "verify" in done
        else np.zeros(1)
    )
    closed = shut[first:][(shut[first:] < NEVER) & ~turned]
    campaign = CampaignCounts(
        opened=int((~turned).sum()),
        turned_away=int(turned.sum()),
        verified=int(proved.sum()),
        opened_D=np.bincount(opened[~turned], minlength=happened.days).tolist(),
        closed_D=np.bincount(closed, minlength=happened.days).tolist(),
        done={name: int((day[theirs] < NEVER).sum()) for name, day in done.items()},
    )
    honest = HonestCounts(
        accounts=by_segment(np.ones(first, bool)),
        closed=by_segment(shut < NEVER),
        done={name: by_segment(day[known] < NEVER) for name, day in done.items()},
        limited=by_segment(limited),
        touched=by_segment(touched),
        sent=happened.sent_SD.sum(axis=1).tolist(),
        refused=happened.refused_SD.sum(axis=1).tolist(),
    )
    return CampaignReport(
        planned=float(happened.planned[0]),
        events=happened.events,
        capabilities=list(CAPABILITIES),
        segments=list(SEGMENTS),
        leaked_DC=leaked_ADC.sum(axis=0).tolist(),
        reduced_DC=np.einsum("adc,ad->dc", leaked_ADC, reduced_AD).tolist(),
        bought=[int(count) for count in happened.bought[0]],
        campaign=campaign,
        honest=honest,
    )


def _detected(happened: Outcome, crossed: np.ndarray) -> list[Detected]:
    """By rate: accounts found and when, what had leaked by then, and honest customers flagged, by
    segment.
    """
    first, count, days = happened.first, happened.accounts.count, happened.days
    segment, owner = happened.accounts.segment[:first], happened.truth.owner[:first]
    customers = [np.unique(owner[segment == s]) for s in range(len(SEGMENTS))]
    rates = []
    for level in crossed:
        hit, when = level[:first] < NEVER, np.sort(level[first:count])
        false = [int(len(np.unique(owner[(segment == s) & hit]))) for s in range(len(SEGMENTS))]
        until = np.arange(days)[None] <= level[first:count][:, None]
        leaked_C = np.einsum(
            "adc,ad->c", happened.leaked_ADC[: count - first].astype(np.int64), until
        )
        rates.append(
            Detected(
                found=int((when < NEVER).sum()),
                of=len(when),
                leaked_C=leaked_C.tolist(),
                false=false,
                customers=[len(owners) for owners in customers],
                days={f"{share:g}": _day(when, share) for share in (0.0, 0.5, 0.9)},
            )
        )
    return rates


def _day(when: np.ndarray, share: float) -> int | None:
    """The day by which this share of the accounts was found (0: the first of them);
    None is never.
    """
    at = max(int(np.ceil(share * len(when))) - 1, 0)
    return int(when[at]) if when[at] < NEVER else None


def _scores(
    happened: Outcome, watch: ShadowMonitor, calibration: Calibration, names: list[str]
) -> dict[str, np.ndarray]:
    """Conformal p-values of each detector's highest score, by account [F, A]; who is who."""
    known = slice(happened.accounts.count)
    segment = happened.accounts.segment[known]
    p = np.stack([calibration.p_value(name, watch.highest[name][known], segment) for name in names])
    guilty = happened.truth.campaign[known] != HONEST
    owner = happened.truth.owner[known].astype(np.int64)
    return {
        "p": p.astype(np.float32),
        "guilty": guilty,
        "segment": segment,
        "owner": owner,
        "names": np.array(names),
    }
