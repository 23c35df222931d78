"""Stage `calibration`: a provider's clean past says what is usual, and clean horizons how high
scores go.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from defenses.access import (
    Baseline,
    BaselineFitter,
    Line,
    NormalBaseline,
    RateBaseline,
    RhythmBaseline,
    ShadowMonitor,
)
from defenses.access.calibration import Calibration
from distill.completions import BadInput
from experiments.campaigns.population import Population
from experiments.campaigns.simulate import simulate
from experiments.seeds import SEEDS, seed_for
from experiments.stages.stage import Inputs
from experiments.stages.two_providers import SHARED, TrafficSpec, detectors, first_provider

VERSION = 2
PAST = 14  # days of clean traffic that a provider learned its baseline from
PAST_RELEASE = 7  # the day of its release in them
ARRAYS = ("segment", "owner", "topics", "rho")  # of the file, beside those of habits and scores
HABITS: dict[str, type[RateBaseline | RhythmBaseline | NormalBaseline | Line]] = {
    "phrase": RateBaseline,
    "newest": RateBaseline,
    "repeats": RateBaseline,
    "rhythm": RhythmBaseline,
    "start": NormalBaseline,
    "plan": NormalBaseline,
    "addresses": Line,
    "clients": Line,
}
"""Of a baseline, what is more than one array."""


class CalibrationSpec(TrafficSpec):
    """So many clean horizons."""

    STAGE: ClassVar[str] = "calibration"
    clean: int


def run(spec: CalibrationSpec, inputs: Inputs[Path], out: Path) -> None:
    """Learn what is usual from a clean past, then keep the highest scores of clean horizons."""
    honest = spec.honest
    learned = _learned(honest)
    highest: dict[str, list[np.ndarray]] = {}
    segment, owner = [], []
    parts = [one for one in spec.detectors if spec.other is None or one.name != SHARED]
    for number in range(spec.clean):
        watch = ShadowMonitor(detectors(parts, learned))
        seed = seed_for("clean", number)
        clean = simulate(honest, [], watch, days=spec.days, seed=seed, release=spec.release)
        for name, score in watch.highest.items():
            highest.setdefault(name, []).append(score[: clean.first])
        segment.append(clean.accounts.segment[: clean.first])
        owner.append(
            clean.truth.owner[: clean.first].astype(np.int64) + (number << 32)
        )  # customers of a horizon each
    arrays = {f"highest.{name}": np.concatenate(held) for name, held in highest.items()}
    plain = (np.concatenate(segment), np.concatenate(owner), learned.topics_SK, learned.rho_S)
    if len(parts) < len(spec.detectors):
        bare = {name.partition(".")[2]: array for name, array in arrays.items()}
        arrays[f"highest.{SHARED}"] = _suspected_elsewhere(
            spec, learned, Calibration(bare, plain[0], plain[1])
        )
    arrays |= dict(zip(ARRAYS, plain, strict=True))
    arrays |= {
        f"{name}.{part}": getattr(getattr(learned, name), part)
        for name, habit in HABITS.items()
        for part in habit._fields
    }
    save(out / "calibration.npz", arrays)


def _learned(honest: Population) -> Baseline:
    """What is usual in a clean past, of which nothing else is left in memory."""
    fitter = BaselineFitter(release=PAST_RELEASE)
    simulate(honest, [], fitter, days=PAST, seed=seed_for("past"), release=PAST_RELEASE)
    return fitter.baseline()


def _suspected_elsewhere(
    spec: CalibrationSpec, learned: Baseline, calibration: Calibration
) -> np.ndarray:
    """Highest scores of honest accounts by what a second provider suspects of its own, over the
    clean horizons: it names some that are honest, and some of those are here.
    """
    components = [one for one in spec.detectors if one.name == SHARED]
    highest = []
    for number in range(spec.clean):
        seed = seed_for("neighbour", SEEDS + number)
        there = first_provider(spec, [], learned, calibration, seed)
        watch = ShadowMonitor(detectors(components, learned))
        watch.receive(there.received)
        clean = simulate(
            spec.honest,
            [],
            watch,
            days=spec.days,
            seed=seed_for("clean", number),
            release=spec.release,
            neighbour=there.neighbour,
        )
        highest.append(watch.highest[SHARED][: clean.first])
    return np.concatenate(highest)


def calibrated(folder: Path) -> tuple[Baseline, Calibration]:
    """What the stage left.

    Args:
        folder: of the stage's result.

    Raises:
        BadInput: it is not whole.
    """
    arrays = load(folder / "calibration.npz")
    habits: dict[str, Any] = {
        name: habit(*(arrays[f"{name}.{part}"] for part in habit._fields))
        for name, habit in HABITS.items()
    }
    prefix = "highest."
    highest = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    segment, owner, topics, rho = (arrays[name] for name in ARRAYS)
    learned = Baseline(topics, rho, **habits)
    return learned, Calibration(highest, segment, owner)


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An uncompressed .npz whose bytes are a function of the arrays alone (numpy dates its members
    1980).

    Args:
        path: is written.
        arrays: `[...]` by name.
    """
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays `[...]` of a file by name.

    Raises:
        BadInput: it is not whole.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: not a whole file of arrays ({error})") from error
