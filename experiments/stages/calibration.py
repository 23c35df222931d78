"""Stage `calibration`: a provider's clean past says what is usual, and clean horizons how high
scores go.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from defenses.access import (
    BaseDetector,
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
from experiments.seeds import seed_for
from experiments.settings.components import ComponentSpec, build
from experiments.stages.stage import Inputs, Spec

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


class TrafficSpec(Spec):
    """Honest accounts over a horizon, the day of a release in it, and who watches."""

    honest: Population
    days: int
    release: int | None
    detectors: list[ComponentSpec]


class CalibrationSpec(TrafficSpec):
    """So many clean horizons."""

    STAGE: ClassVar[str] = "calibration"
    clean: int


def run(spec: CalibrationSpec, inputs: Inputs[Path], out: Path) -> None:
    """Learn what is usual from a clean past, then keep the highest scores of clean horizons."""
    honest = spec.honest
    fitter = BaselineFitter(release=PAST_RELEASE)
    simulate(honest, [], fitter, days=PAST, seed=seed_for("past"), release=PAST_RELEASE)
    learned = fitter.baseline()
    highest: dict[str, list[np.ndarray]] = {}
    segment, owner = [], []
    for number in range(spec.clean):
        watch = ShadowMonitor(detectors(spec.detectors, learned))
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
    arrays |= dict(zip(ARRAYS, plain, strict=True))
    arrays |= {
        f"{name}.{part}": getattr(getattr(learned, name), part)
        for name, habit in HABITS.items()
        for part in habit._fields
    }
    save(out / "calibration.npz", arrays)


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


def detectors(components: Sequence[ComponentSpec], learned: Baseline) -> list[BaseDetector]:
    """Detectors of resolved settings, as a provider that learned this baseline has them.

    Args:
        components: of the `detector` group.
        learned: of the provider's clean past.
    """
    return [build("detector", component, learned) for component in components]


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
