"""Horizons with every segment large enough to be judged, and all detectors on them."""

from types import SimpleNamespace

import numpy as np

from defenses.access import (
    ShadowMonitor,
    average,
    content,
    cotiming,
    homogeneity,
    mmd,
    phrase,
    pivot,
    templates,
    volume,
)
from experiments.campaigns.population import HONEST_SEGMENTS, Population
from experiments.campaigns.simulate import simulate

DAYS, RELEASE = 21, 8
SHARES = {
    "chat": 0.46,
    "agent": 0.15,
    "api": 0.14,
    "organisation": 0.13,
    "research": 0.07,
    "reseller": 0.05,
}
HONEST = Population(
    accounts=3000,
    segments={
        name: one.model_copy(update={"share": SHARES[name]})
        for name, one in HONEST_SEGMENTS.items()
    },
)
FILES = (volume, phrase, content, average, mmd, homogeneity, templates, cotiming, pivot)


def detectors(baseline):
    changed = {pivot: {"release": RELEASE}, mmd: {"window": 200}}
    return [file.Detector(file.Settings(**changed.get(file, {})), baseline) for file in FILES]


def horizon(baseline, campaigns=(), *, seed, thresholds=None, population=HONEST, parts=None):
    watch = ShadowMonitor(detectors(baseline) if parts is None else parts, thresholds)
    out = simulate(population, campaigns, watch, days=DAYS, seed=seed, release=RELEASE)
    return SimpleNamespace(out=out, watch=watch)


def merged(runs):
    """Clean runs as one: their accounts side by side, customers kept apart."""
    counts = [run.out.first for run in runs]
    highest = {
        name: np.concatenate(
            [run.watch.highest[name][:n] for run, n in zip(runs, counts, strict=True)]
        )
        for name in runs[0].watch.highest
    }
    segment = np.concatenate(
        [run.out.accounts.segment[:n] for run, n in zip(runs, counts, strict=True)]
    )
    owner = np.concatenate(
        [
            run.out.truth.owner[:n].astype(np.int64) + 10**6 * i
            for i, (run, n) in enumerate(zip(runs, counts, strict=True))
        ]
    )
    return highest, segment, owner
