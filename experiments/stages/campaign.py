"""Stage `campaign`: one campaign beside honest customers, against one access.

Under the open access every detector watches the same trajectory, which none of them touches, and an
oracle bounds them; under a policy the loop is closed and the campaign replaces what it loses. What
is kept is small: counts by day, capability and segment, and each account's p-values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from defenses.access import ShadowMonitor, oracle, policy
from defenses.access.calibration import Calibration
from distill.campaigns import CAPABILITIES, NEVER, SEGMENTS
from distill.campaigns.settings import Campaign
from experiments.campaigns.population import Population
from experiments.campaigns.simulate import Outcome, simulate
from experiments.campaigns.world import HONEST
from experiments.seeds import seed_for
from experiments.stages.arrays import save
from experiments.stages.calibration import calibrated
from experiments.stages.served import (
    CampaignCounts,
    CampaignReport,
    Detected,
    HonestCounts,
    Scores,
    days_of,
)
from experiments.stages.stage import Inputs
from experiments.stages.texts import read_texts
from experiments.stages.two_providers import Access, TrafficSpec, acting, detectors, first_provider

VERSION = 2
T = TypeVar("T")
ORACLE = "oracle"
HARM = (
    "throttle",
    "verify",
    "reduce",
    "downgrade",
    "ban",
    "ban_cluster",
)  # what an honest account is worse off by
LESS = ("reduce", "downgrade")  # what makes answers of an account worth less
ROC = np.logspace(-5, 0, 101)  # nominal rates at which a curve is drawn


class CampaignSpec(TrafficSpec):
    """One campaign against one access, None of which is open to all; thresholds hold these rates of
    false alarms. `shard`: its number, where it is one of several parts of a run.
    """

    STAGE: ClassVar[str] = "campaign"
    campaign: Campaign
    access: Access | None
    rates: list[float]
    seed: int
    shard: int | None = None


@dataclass(frozen=True)
class CampaignInputs(Inputs[T]):
    calibration: T
    texts: T | None = None  # what exchanges have, where a provider reads any


def run(spec: CampaignSpec, inputs: CampaignInputs[Path], out: Path) -> None:
    """One campaign against one access; `run.json` says what happened, `scores.npz` what detectors
    made of it.
    """
    learned, calibration = calibrated(inputs.calibration)
    if texts := read_texts(inputs.texts):
        learned = learned._replace(encoder=texts.encoder)
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
        provider = policy.PolicyEnforcer(
            spec.access, acting(spec.access, spec.detectors, learned), limits, spec.rates
        )
    neighbour = None
    if spec.other is not None:
        seed = seed_for("neighbour", spec.seed)
        there = first_provider(spec, [spec.campaign], learned, calibration, seed, texts)
        provider.receive(there.received)
        neighbour = there.neighbour
    happened = simulate(
        spec.honest,
        [spec.campaign],
        provider,
        days=spec.days,
        seed=spec.seed,
        release=spec.release,
        neighbour=neighbour,
        texts=texts,
    )
    report = _report(happened, provider)
    if spec.access is None:
        detected = {
            name: _detected(happened, provider.crossed[name], by_day=spec.shard is not None)
            for name in [*names, ORACLE]
        }
        report = report.model_copy(update={"detectors": detected})
        save(out / "scores.npz", _scores(happened, provider, calibration, names)._asdict())
    report.write(out)


def _guilty(honest: Population, wanted: Campaign) -> np.ndarray:
    """The campaign's rows in the table of accounts: all behind the honest ones."""
    room = honest.accounts + wanted.accounts + int(wanted.respawns * wanted.accounts)
    return np.arange(room) >= honest.accounts


def _report(happened: Outcome, provider: ShadowMonitor) -> CampaignReport:
    """What leaked by day and capability, what it took, and what honest accounts met, by segment."""
    first, count = happened.first, happened.accounts.count
    # By what a policy does, the day on which it did that to each account.
    measures: dict[str, np.ndarray] = {}
    refused_A = np.zeros(count, np.int64)
    if isinstance(provider, policy.PolicyEnforcer):
        measures = {name: day_A[:count] for name, day_A in provider.done.items()}
        refused_A = provider.gateway.refused[:count]
    leaked_ADC = happened.leaked_ADC[: count - first].astype(np.int64)
    return CampaignReport(
        planned=float(happened.planned[0]),
        events=happened.events,
        capabilities=list(CAPABILITIES),
        segments=list(SEGMENTS),
        leaked_DC=(leaked_ADC.sum(axis=0) + happened.bought_DC(0)).tolist(),
        reduced_DC=happened.reduced_NDC.sum(axis=0).tolist(),
        bought=[int(number) for number in happened.bought[0]],
        campaign=_campaign_counts(happened, measures),
        honest=_honest_counts(happened, measures, refused_A > 0),
        probes_D2=_probes(happened),
    )


def _probes(happened: Outcome) -> list[list[int]]:
    """The campaign's probes that were answered in full and in part, by day; none where it has
    none.
    """
    if happened.probes_ND2 is None or not happened.probes_ND2.any():
        return []
    by_day: list[list[int]] = happened.probes_ND2[0].tolist()
    return by_day


def _campaign_counts(happened: Outcome, measures: Mapping[str, np.ndarray]) -> CampaignCounts:
    """The campaign's accounts: what was opened and closed, and what the policy did to them."""
    accounts, theirs = happened.accounts, slice(happened.first, happened.accounts.count)
    turned_away = happened.turned_away[theirs]
    opened = np.maximum(accounts.created[theirs], 0)[~turned_away]
    closed = accounts.closed[theirs]
    asked_A = measures.get("verify", np.full(accounts.count, NEVER))
    proved = accounts.verified[theirs] & (asked_A[theirs] < NEVER)
    return CampaignCounts(
        opened=len(opened),
        turned_away=int(turned_away.sum()),
        verified=int(proved.sum()),
        opened_D=np.bincount(opened, minlength=happened.days).tolist(),
        closed_D=np.bincount(
            closed[(closed < NEVER) & ~turned_away], minlength=happened.days
        ).tolist(),
        done={name: int((day[theirs] < NEVER).sum()) for name, day in measures.items()},
    )


def _honest_counts(
    happened: Outcome, measures: Mapping[str, np.ndarray], limited: np.ndarray
) -> HonestCounts:
    """What honest accounts met, by segment.

    Args:
        measures: by what a policy did, the day by account.
        limited: by account, whether a limit refused it an exchange.
    """
    first = happened.first
    segment = happened.accounts.segment[:first]
    shut = happened.accounts.closed[:first]
    less = [measures[name][:first] < NEVER for name in LESS if name in measures]
    noticed = [shut < NEVER, *(measures[name][:first] < NEVER for name in HARM if name in measures)]

    def by_segment(mask: np.ndarray) -> list[int]:
        counted: list[int] = np.bincount(segment[mask], minlength=len(SEGMENTS)).tolist()
        return counted

    return HonestCounts(
        accounts=by_segment(np.ones(first, bool)),
        closed=by_segment(shut < NEVER),
        done={name: by_segment(day[:first] < NEVER) for name, day in measures.items()},
        limited=by_segment(limited[:first]),
        touched=by_segment(np.any(noticed, axis=0)),
        sent=happened.sent_SD.sum(axis=1).tolist(),
        refused=happened.refused_SD.sum(axis=1).tolist(),
        reduced=happened.reduced_SD.sum(axis=1).tolist(),
        downgraded=by_segment(np.any(less, axis=0) if less else np.zeros(first, bool)),
    )


def _detected(happened: Outcome, crossed: np.ndarray, by_day: bool = False) -> list[Detected]:
    """By rate: accounts found and when, what had leaked by then, and honest customers flagged, by
    segment.

    Args:
        crossed: the day on which each account was found, by rate `[rates, accounts]`.
        by_day: whether how many were found on each day is left, as parts are merged by it.
    """
    first, count, days = happened.first, happened.accounts.count, happened.days
    segment, owner = happened.accounts.segment[:first], happened.truth.owner[:first]
    customers = [np.unique(owner[segment == s]) for s in range(len(SEGMENTS))]
    rates = []
    for level in crossed:
        hit, when = level[:first] < NEVER, level[first:count]
        found_D = np.bincount(when[when < NEVER], minlength=days)
        false = [int(len(np.unique(owner[(segment == s) & hit]))) for s in range(len(SEGMENTS))]
        until = np.arange(days)[None] <= level[first:count][:, None]
        leaked_C = np.einsum(
            "adc,ad->c", happened.leaked_ADC[: count - first].astype(np.int64), until
        )
        rates.append(
            Detected(
                found=int(found_D.sum()),
                of=len(when),
                leaked_C=(leaked_C + happened.bought_DC(0).sum(axis=0)).tolist(),
                false=false,
                customers=[len(owners) for owners in customers],
                days=days_of(found_D, len(when)),
                found_D=found_D.tolist() if by_day else [],
            )
        )
    return rates


def _scores(
    happened: Outcome, watch: ShadowMonitor, calibration: Calibration, names: list[str]
) -> Scores:
    """Conformal p-values of each detector's highest score, by account [F, A]; who is who."""
    accounts = slice(happened.accounts.count)
    segment = happened.accounts.segment[accounts]
    p = np.stack(
        [calibration.p_value(name, watch.highest[name][accounts], segment) for name in names]
    )
    guilty = happened.truth.campaign[accounts] != HONEST
    owner = happened.truth.owner[accounts].astype(np.int64)
    return Scores(p.astype(np.float32), guilty, segment, owner, np.array(names))
