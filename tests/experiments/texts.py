"""What detectors of content find where a provider reads recorded texts, as a table of
docs/campaigns.md.

    python -m tests.experiments.texts /path/to/completions.parquet

Two presets, each scaled down to so many accounts at its own rate, alone beside honest customers;
thresholds by segment on clean horizons that are read in the same way. Buckets are learned from
several seeds, since what they come to matters. `stand-in` is how campaigns
are without texts: topics are known, and prompts lie around their centres.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from defenses.access import (
    BaseDetector,
    Baseline,
    BaselineFitter,
    ShadowMonitor,
    average,
    content,
    homogeneity,
    mmd,
)
from distill.campaigns import NEVER
from distill.campaigns.settings import Campaign
from distill.tables import Source, read_rows
from distill.text_vectors import EncoderFolder, embed
from experiments.campaigns.lens import Texts
from experiments.campaigns.simulate import Outcome, simulate
from experiments.settings.texts import ENCODERS
from experiments.stages import texts as stage
from experiments.stages.arrays import save
from tests.experiments.indicators import Scale, pooled

RATE = 1e-2
FILES = (content, average, mmd, homogeneity)
WINDOW = 100  # exchanges that mmd looks at
STAND_IN = "stand-in"


class Found(NamedTuple):
    """Of a run, by detector: the share of the campaign's accounts, and of honest customers."""

    theirs: dict[str, float]
    honest: dict[str, float]


def read(recording: str, encoder: str, per_task: int, starts: int) -> list[Texts | None]:
    """Texts embedded once, in buckets that were begun in so many ways."""
    if encoder == STAND_IN:
        return [None]
    how = encoder if encoder in ENCODERS else EncoderFolder(path=encoder)
    spec = stage.TextsSpec(path=recording, encoder=how, per_task=per_task)
    some = stage.sample(spec, read_rows(Source(recording)))
    task, vectors = np.array([one.task for one in some]), embed([one.text for one in some], how)
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(starts):
            arrays = stage.arrays(task, stage.learning(some), vectors, seed)
            save(Path(folder) / stage.FILE, arrays)
            made.append(stage.read_texts(Path(folder)))
    return made


def detectors(learned: Baseline) -> list[BaseDetector]:
    changed = {mmd: {"window": WINDOW}}
    return [file.Detector(file.Settings(**changed.get(file, {})), learned) for file in FILES]


def horizon(
    scale: Scale,
    watch: ShadowMonitor,
    campaigns: Sequence[Campaign],
    seed: int,
    texts: Texts | None,
) -> Outcome:
    return simulate(scale.honest, campaigns, watch, days=scale.days, seed=seed, texts=texts)


def measured(
    scale: Scale, texts: Texts | None, presets: Sequence[str], seeds: int
) -> dict[str, list[Found]]:
    """By preset, what was found in each run."""
    fitter = BaselineFitter(release=7)
    simulate(scale.honest, [], fitter, days=14, seed=1000, release=7, texts=texts)
    learned = fitter.baseline()._replace(encoder=texts.encoder if texts else None)
    runs = []
    for number in range(scale.clean):
        watch = ShadowMonitor(detectors(learned))
        runs.append((horizon(scale, watch, [], 2000 + number, texts), watch))
    calibration = pooled(runs)
    limits = {name: calibration.threshold(name, RATE)[None] for name in calibration.sorted}
    found_by: dict[str, list[Found]] = {}
    for name in presets:
        for seed in range(seeds):
            watch = ShadowMonitor(detectors(learned), limits)
            out = horizon(scale, watch, [scale.campaign(name)], seed, texts)
            found_by.setdefault(name, []).append(shares(out, watch))
    return found_by


def shares(out: Outcome, watch: ShadowMonitor) -> Found:
    theirs, owner = slice(out.first, out.accounts.count), out.truth.owner[: out.first]
    hit = {name: crossed[0] < NEVER for name, crossed in watch.crossed.items()}
    customers = len(np.unique(owner))
    return Found(
        {name: float(mask[theirs].mean()) for name, mask in hit.items()},
        {name: len(np.unique(owner[mask[: out.first]])) / customers for name, mask in hit.items()},
    )


def cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def table(by_encoder: dict[str, dict[str, list[Found]]]) -> Iterator[str]:
    """Detectors and presets down, encoders across."""
    yield "| preset | detector | " + " | ".join(by_encoder) + " |"
    yield "|---|---|" + "--:|" * len(by_encoder)
    presets = next(iter(by_encoder.values()))
    for preset in presets:
        for name in presets[preset][0].theirs:
            cells = [
                cell([run.theirs[name] for run in runs[preset]]) for runs in by_encoder.values()
            ]
            yield f"| `{preset}` | `{name}` | " + " | ".join(cells) + " |"
    for name in presets[preset][0].honest:
        cells = [
            cell([run.honest[name] for some in runs.values() for run in some])
            for runs in by_encoder.values()
        ]
        yield f"| honest customers | `{name}` | " + " | ".join(cells) + " |"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recording", help="completions with their task")
    parser.add_argument("--encoders", nargs="*", default=[STAND_IN, *ENCODERS])
    parser.add_argument("--per-task", type=int, default=32, help="texts of each task")
    parser.add_argument("--presets", nargs="*", default=["qwen_2026", "moonshot_2026"])
    parser.add_argument("--accounts", type=int, default=3000, help="honest ones")
    parser.add_argument("--operators", type=int, default=100, help="accounts of a campaign")
    parser.add_argument("--clean", type=int, default=4, help="horizons to calibrate on")
    parser.add_argument("--days", type=int, default=21)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument(
        "--buckets", type=int, default=4, help="seeds of the k-means, each with all"
    )
    args = parser.parse_args(argv)
    scale = Scale(args.accounts, args.clean, args.days, args.operators)
    by_encoder: dict[str, dict[str, list[Found]]] = {}
    for name in args.encoders:
        runs = by_encoder.setdefault(name, {})
        for texts in read(args.recording, name, args.per_task, args.buckets):
            for preset, some in measured(scale, texts, args.presets, args.seeds).items():
                runs.setdefault(preset, []).extend(some)
    print("\n".join(table(by_encoder)))


if __name__ == "__main__":
    main()
