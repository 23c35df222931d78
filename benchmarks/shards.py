"""The largest reported campaign beside three million honest accounts, in shards on two processes.

    python -m benchmarks.shards           1/100, 1/50 and 1/25 of it, in two shards each
    python -m benchmarks.shards --full    those and the full size, in 16 shards: minutes

GTG-16005: 151 M exchanges by 3,500 accounts in 92 days, watched by four detectors; with the honest
ones some two thousand million events. The stages of a study make it: clean horizons of one shard's
size, the shards, and their sum, all of which counts. Memory is the sum of the highest resident sets
of this process and of the two workers, whenever each was reached, so no less than all of them ever
had at once; what they share is counted in each.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.launch import one
from experiments.planning.campaign_runs import campaign_runs
from experiments.settings import schema
from experiments.stages.served import CampaignReport
from experiments.stages.stage import Stage
from experiments.store import Store

HONEST, DAYS, FULL, SIZES = 3_000_000, 92, 16, (1 / 100, 1 / 50, 1 / 25)
TOY = 0.0006  # a share that takes a second, and fills no VPN exit and no campus
WATCHED = ("volume", "phrase", "content", "rhythm")


class Made(NamedTuple):
    """A worker after a stage: which it is, CPU seconds of the stage, and its peak in KiB."""

    worker: int
    seconds: float
    peak: int


class Result(NamedTuple):
    """A size: CPU seconds of all stages and of the shards, seconds on the wall, and GiB of all
    processes.
    """

    report: CampaignReport
    seconds: float
    of_shards: float
    wall: float
    gib: float


def planned(share: float, shards: int) -> Stage:
    """The run as a study plans it.

    Args:
        share: of the full size.
        shards: how many.
    """
    words = [
        "campaigns=full",
        f"campaigns.honest.accounts={round(HONEST * share)}",
        f"campaigns.days={DAYS}",
        "campaigns.release=null",
        f"campaigns.shards={shards}",
        "campaigns.students=false",
        f"preset=gtg_16005(scale={share:.6f})",
        f"detector=[{','.join(WATCHED)}]",
        "access=open",
        "seeds=[0]",
    ]
    words += ["campaigns.honest.vpn=0", "campaigns.honest.campus=0"] if share == TOY else []
    (leak,) = campaign_runs(schema.load("campaigns", words))
    return leak.run


def begin() -> None:
    """Import in a worker what its stages need: it is none of their seconds."""
    for name in ("torch", "experiments.stages.campaign", "experiments.stages.merged_campaign"):
        importlib.import_module(name)


def make(stage: Stage, root: Path) -> Made:
    """Make a stage whose inputs are there.

    Args:
        stage: of a run.
        root: of the store.
    """
    before = time.process_time()
    one.make(stage, root)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Made(os.getpid(), time.process_time() - before, peak)


def measure(share: float, shards: int) -> Result:
    """Calibrate, simulate and add up at a share of the full size.

    Args:
        share: of the full size.
        shards: how many.
    """
    run = planned(share, shards)
    (clean,) = {stage.key: stage for shard in run.inputs for stage in shard.inputs}.values()
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(2, mp_context=context, initializer=begin) as pool,
    ):
        root, began = Path(folder), time.perf_counter()
        made = [pool.submit(make, clean, root).result()]
        shards_made = [each.result() for each in [pool.submit(make, s, root) for s in run.inputs]]
        made += [*shards_made, pool.submit(make, run, root).result()]
        wall = time.perf_counter() - began
        report = CampaignReport.read(Store(root).open(run.kind, run.key))
    peaks = {each.worker: 0 for each in made}
    for each in made:
        peaks[each.worker] = max(peaks[each.worker], each.peak)
    peak = sum(peaks.values()) + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, of_shards = (sum(each.seconds for each in some) for some in (made, shards_made))
    return Result(report, seconds, of_shards, wall, peak / 2**20)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--toy", action="store_true", help="a size of a test; its ratio means nothing"
    )
    size.add_argument("--full", action="store_true", help="the full size as well: minutes")
    args = parser.parse_args(argv)
    sizes = [(TOY, 2)] if args.toy else [(share, 2) for share in SIZES]
    rows = []
    for share, shards in [*sizes, *([(1.0, FULL)] if args.full else [])]:
        rows.append(measure(share, shards))
        report, seconds, of_shards, wall, gib = rows[-1]
        print(
            f"{report.events:>13,} events ({report.bought[0]:,} of the campaign) in {shards} "
            f"shards: {seconds:.1f} s of CPU ({wall:.1f} s) with calibration, of the "
            f"shards {of_shards:.1f} s or {report.events / of_shards / 1e6:.2f} M events a second, "
            f"at most {gib:.2f} GiB in three processes; CPU is {seconds / wall:.2f} x the wall"
        )
    for name, (strict, *_) in (rows[-1].report.detectors or {}).items():
        false, customers = sum(strict.false), sum(strict.customers)
        print(f"{name}: {strict.found} of {strict.of} accounts, {false} of {customers} customers")
    if len(rows) > 1:
        events, seconds = np.log([[row.report.events, row.of_shards] for row in rows]).T
        power = np.polyfit(events, seconds, 1)[0]
        print(f"seconds of the shards grow as events to the power {power:.2f}")


if __name__ == "__main__":
    main()
