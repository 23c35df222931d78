"""Campaigns beside honest customers, watched by four detectors: exchanges a second, peak memory,
linearity.

    python -m benchmarks.campaigns           three sizes, up to a tenth of the full one python -m
    benchmarks.campaigns --full    16 M campaign exchanges by 24,000 accounts beside 300,000 honest,
    45 days

Each size runs in its own process, so that peaks do not add up; detectors are calibrated on a clean
horizon of the same size first, and both are timed. Shadow mode: nothing is closed, so every
exchange is simulated.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from defenses.access import BaselineFitter, ShadowMonitor, content, homogeneity, templates, volume
from defenses.access.calibration import Calibration
from distill.campaigns import NEVER
from distill.campaigns.presets import preset, scaled
from experiments.campaigns.population import Population
from experiments.campaigns.simulate import simulate
from experiments.measure.detection import clopper_pearson

DAYS, HONEST, SIZES = 45, 300_000, (0.025, 0.05, 0.1)
TOY = 0.0005  # a share that takes a second
FULL = preset("qwen_2026", exchanges=16_000_000, accounts=24_000, days=DAYS)
LEVELS = (1e-2, 1e-3, 1e-4, 1e-5)
WATCHED = (volume, content, homogeneity, templates)


def measure(share: float) -> dict[str, object]:
    """Learn, calibrate and watch at a share of the full size."""
    learner = BaselineFitter(release=7)
    simulate(
        Population(accounts=2_000 if share == TOY else 20_000),
        [],
        learner,
        days=14,
        seed=1,
        release=7,
    )
    baseline = learner.baseline()
    honest = Population(accounts=round(HONEST * share))
    clock, wall = time.process_time(), time.perf_counter()
    watch = ShadowMonitor([part.Detector(part.Settings(), baseline) for part in WATCHED])
    clean = simulate(honest, [], watch, days=DAYS, seed=2)
    existing = slice(clean.accounts.count)
    calibration = Calibration(
        {name: held[existing] for name, held in watch.highest.items()},
        clean.accounts.segment[existing],
        clean.truth.owner[existing],
    )
    calibrated, calibrated_wall = time.process_time() - clock, time.perf_counter() - wall
    del watch
    thresholds = {
        name: np.stack([calibration.threshold(name, level) for level in LEVELS])
        for name in (part.Detector.name for part in WATCHED)
    }
    clock, wall = time.process_time(), time.perf_counter()
    watch = ShadowMonitor(
        [part.Detector(part.Settings(), baseline) for part in WATCHED], thresholds
    )
    out = simulate(honest, [scaled(FULL, share)], watch, days=DAYS, seed=3)
    took, took_wall = time.process_time() - clock, time.perf_counter() - wall
    leaked = {
        name: [float(out.got(0, level).sum() / out.got(0).sum()) for level in crossed]
        for name, crossed in watch.crossed.items()
    }
    caught = {
        name: [
            clopper_pearson(int(level.sum()), level.size)[:3]
            for level in crossed[:, out.first : out.accounts.count] < NEVER
        ]
        for name, crossed in watch.crossed.items()
    }
    return {
        "share": share,
        "events": out.events,
        "clean_events": clean.events,
        "seconds": took,
        "wall": took_wall,
        "calibration": calibrated,
        "calibration_wall": calibrated_wall,
        "campaign": int(scaled(FULL, share).exchanges),
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "leaked": leaked,
        "caught": caught,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--toy", action="store_true", help="sizes of a test; its ratios mean nothing")
    size.add_argument(
        "--full", action="store_true", help="the full size: minutes, and gigabytes of memory"
    )
    size.add_argument("--one", type=float, help="one share of the full size, as JSON")
    args = parser.parse_args(argv)
    if args.one is not None:
        print(json.dumps(measure(args.one)))
        return
    shares = (TOY,) if args.toy else (1.0,) if args.full else SIZES
    rows = []
    for share in shares:
        command = [sys.executable, "-m", "benchmarks.campaigns", "--one", str(share)]
        rows.append(
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        )
        r = rows[-1]
        print(
            f"{r['events']:>12,} events ({r['campaign']:,} of the campaign): {r['seconds']:.1f} "
            "s of CPU "
            f"({r['wall']:.1f} s), {r['events'] / r['seconds'] / 1e6:.2f} M events/s, peak "
            f"{r['gib']:.2f} GiB; "
            f"calibration before it {r['calibration']:.1f} s ({r['calibration_wall']:.1f} s)"
        )
        watched, clean = r["seconds"] / r["events"], r["calibration"] / r["clean_events"]
        print(
            f"  an event beside a campaign takes {watched / clean:.2f} x an event of the clean "
            "horizon"
        )
    for name, points in rows[-1]["caught"].items():
        shown = ", ".join(f"{v:.3f} [{lo:.3f}, {hi:.3f}]" for v, lo, hi in points)
        print(
            f"{name}: TPR {shown}; leaked {', '.join(f'{v:.3f}' for v in rows[-1]['leaked'][name])}"
        )
    if len(rows) > 1:
        ends = [(r["events"], r["seconds"]) for r in (rows[0], rows[-1])]
        power = np.log(ends[1][1] / ends[0][1]) / np.log(ends[1][0] / ends[0][0])
        print(f"seconds grow as events to the power {power:.2f}")


if __name__ == "__main__":
    main()
