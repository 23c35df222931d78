"""Stage `campaign`: one campaign beside honest customers, against one access.

Under the open access every detector watches the same trajectory, which none of them touches, and an
oracle bounds them; under a policy the loop is closed and the campaign replaces what it loses. What
is kept is small: counts by day, capability and segment, and each account's p-values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from defenses.access import Calibration, Watch, oracle, policy
from distill.campaigns import CAPABILITIES, HONEST, OPEN, SEGMENTS
from distill.campaigns.population import Population
from distill.campaigns.presets import Campaign
from distill.campaigns.simulate import Outcome, simulate
from distill.completions import write_bytes
from experiments.stages.calibration import calibrated, detectors, save
from experiments.stages.stage import canonical

VERSION = 1
ORACLE = "oracle"
HARM = (
    "throttle",
    "verify",
    "reduce",
    "ban",
    "ban_cluster",
)  # what an honest account notices of a policy
ROC = np.logspace(-5, 0, 101)  # nominal rates at which a curve is drawn


def run(settings: Any, inputs: list[Path], out: Path) -> None:
    """One campaign against one access; `run.json` says what happened, `scores.npz` what detectors
    made of it.
    """
    learned, calibration = calibrated(inputs[0])
    wanted, honest, rates = (
        Campaign(**settings["campaign"]),
        Population(**settings["honest"]),
        settings["rates"],
    )
    names = [one["name"] for one in settings["detectors"]]
    limits = {
        name: np.stack([calibration.threshold(name, rate) for rate in rates]) for name in names
    }
    if settings["access"] is None:
        bound = oracle.Detector(oracle.Settings(), learned, _guilty(honest, wanted))
        limits[ORACLE] = np.zeros((len(rates), len(SEGMENTS)))
        provider: Watch = Watch([*detectors(settings["detectors"], learned), bound], limits)
    else:
        told = policy.Settings(**settings["access"])
        acting = [
            one
            for one in settings["detectors"]
            if one["name"] in {rule.detector for rule in told.rules}
        ]
        provider = policy.Desk(told, detectors(acting, learned), limits, rates)
    happened = simulate(
        honest,
        [wanted],
        provider,
        days=settings["days"],
        seed=settings["seed"],
        release=settings["release"],
    )
    report = _counts(happened, provider)
    if settings["access"] is None:
        report["detectors"] = {
            name: _detected(happened, provider.crossed[name]) for name in [*names, ORACLE]
        }
        save(out / "scores.npz", _scores(happened, provider, calibration, names))
    write_bytes(out / "run.json", canonical(report).encode())


def _guilty(honest: Population, wanted: Campaign) -> np.ndarray:
    """The campaign's rows in the table of accounts: all behind the honest ones."""
    room = honest.accounts + wanted.accounts + int(wanted.respawns * wanted.accounts)
    return np.arange(room) >= honest.accounts


def _counts(happened: Outcome, provider: Watch) -> dict[str, Any]:
    """What leaked by day and capability, what it took, and what honest accounts met, by segment."""
    accounts, first = happened.accounts, happened.first
    theirs, known = slice(first, accounts.count), slice(accounts.count)
    done: dict[str, np.ndarray] = getattr(provider, "done", {})
    leaked_ADC = happened.leaked_ADC[: accounts.count - first].astype(np.int64)
    since = done["reduce"][theirs] if "reduce" in done else np.full(accounts.count - first, OPEN)
    reduced_AD = since[:, None] < np.arange(happened.days)
    shut = accounts.closed[known]
    refused = getattr(provider, "gateway", None)
    segment = accounts.segment[:first]
    limited = refused.refused[known] > 0 if refused else np.zeros(accounts.count, bool)
    touched = np.any(
        [shut < OPEN, *(done[name][known] < OPEN for name in HARM if name in done)], axis=0
    )

    def by_segment(mask: np.ndarray) -> list[int]:
        return [int(one) for one in np.bincount(segment[mask[:first]], minlength=len(SEGMENTS))]

    opened = np.maximum(accounts.created[theirs], 0)
    turned = happened.turned_away[theirs]
    proved = (
        accounts.verified[theirs] & (done["verify"][theirs] < OPEN)
        if "verify" in done
        else np.zeros(1)
    )
    return {
        "planned": float(happened.planned[0]),
        "events": happened.events,
        "capabilities": list(CAPABILITIES),
        "segments": list(SEGMENTS),
        "leaked_DC": leaked_ADC.sum(axis=0).tolist(),
        "reduced_DC": np.einsum("adc,ad->dc", leaked_ADC, reduced_AD).tolist(),
        "bought": [int(one) for one in happened.bought[0]],
        "campaign": {
            "opened": int((~turned).sum()),
            "turned_away": int(turned.sum()),
            "verified": int(proved.sum()),
            "opened_D": np.bincount(opened[~turned], minlength=happened.days).tolist(),
            "closed_D": np.bincount(
                shut[first:][(shut[first:] < OPEN) & ~turned], minlength=happened.days
            ).tolist(),
            "done": {name: int((one[theirs] < OPEN).sum()) for name, one in done.items()},
        },
        "honest": {
            "accounts": by_segment(np.ones(first, bool)),
            "closed": by_segment(shut < OPEN),
            "done": {name: by_segment(one[known] < OPEN) for name, one in done.items()},
            "limited": by_segment(limited),
            "touched": by_segment(touched),
            "sent": [int(one) for one in happened.sent_SD.sum(axis=1)],
            "refused": [int(one) for one in happened.refused_SD.sum(axis=1)],
        },
    }


def _detected(happened: Outcome, crossed: np.ndarray) -> list[dict[str, Any]]:
    """By rate: accounts found and when, what had leaked by then, and honest customers flagged, by
    segment.
    """
    first, count, days = happened.first, happened.accounts.count, happened.days
    segment, owner = happened.accounts.segment[:first], happened.truth.owner[:first]
    customers = [np.unique(owner[segment == s]) for s in range(len(SEGMENTS))]
    held = []
    for level in crossed:
        hit, when = level[:first] < OPEN, np.sort(level[first:count])
        false = [int(len(np.unique(owner[(segment == s) & hit]))) for s in range(len(SEGMENTS))]
        until = np.arange(days)[None] <= level[first:count][:, None]
        leaked_C = np.einsum(
            "adc,ad->c", happened.leaked_ADC[: count - first].astype(np.int64), until
        )
        found = int((when < OPEN).sum())
        held.append(
            {
                "found": found,
                "of": len(when),
                "leaked_C": leaked_C.tolist(),
                "false": false,
                "customers": [len(one) for one in customers],
                "days": {f"{share:g}": _day(when, share) for share in (0.0, 0.5, 0.9)},
            }
        )
    return held


def _day(when: np.ndarray, share: float) -> int | None:
    """The day by which this share of the accounts was found (0: the first of them);
    None is never.
    """
    at = max(int(np.ceil(share * len(when))) - 1, 0)
    return int(when[at]) if when[at] < OPEN else None


def _scores(
    happened: Outcome, watch: Watch, calibration: Calibration, names: list[str]
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
