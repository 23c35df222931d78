"""`make fuzz`: every kind in turn until the time is over; what failed is printed, in its smallest
form where the kind can be tried that often.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky

from tests.fuzz import Kind, every

ROUND = 50  # examples of a kind before the next has its turn


def main() -> int:
    parser = argparse.ArgumentParser("tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kind", nargs="*", default=[*every()], choices=[*every()])
    parser.add_argument("--examples", type=int, help="of each kind, instead of minutes")
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    args = parser.parse_args()
    kinds = {name: kind for name, kind in every().items() if name in args.kind}
    until, rounds, failed = time.monotonic() + 60 * args.minutes, 0, False
    counts: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in kinds}
    while True:
        for name, kind in kinds.items():
            failed |= not _round(name, kind, args.seed + rounds, counts[name])
        rounds += 1
        progress = ", ".join(f"{name} {dict(count)}" for name, count in counts.items())
        print(f"round {rounds}: {progress}", flush=True)
        done = min(sum(count.values()) for count in counts.values())
        if done >= args.examples if args.examples else time.monotonic() > until:
            break
    for name, count in counts.items():
        print(f"{name}: {sum(count.values())} trials, {dict(count)}")
    return int(failed)


def _round(name: str, kind: Kind, number: int, count: collections.Counter[str]) -> bool:
    """One round of a kind; whether nothing was found."""
    faults: list[str] = []

    @seed(number)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        print_blob=False,
        phases=[Phase.generate, *([Phase.shrink] if kind.shrinks else [])],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=kind.cases)
    def tried(case: object) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fault = kind.fault(case, Path(folder))
        if not faults:  # what comes after a fault only makes that smaller
            count[fault.partition(":")[0] or "as it should be"] += 1
        faults.extend([fault] if fault else [])
        assert not fault, fault

    try:
        tried()
    except (AssertionError, Flaky) as error:  # which of two trials of a case failed in one
        print(f"{name}, seed {number}: {error}", *getattr(error, "__notes__", []), sep="\n  ")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
