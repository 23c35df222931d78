"""T, verdicts and the worst case on the students of laws.py: paired, failing and lucky seeds, with
exact truth.

`python -m tests.experiments.laws_transfer` prints the table, test_laws_transfer.py runs a small
part of it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from experiments.measure.contrast import combine, variance
from experiments.measure.scores import Arm
from experiments.measure.transfer import outside, transfer, unseen, worst_case
from experiments.measure.verdict import Case, Rules, judge
from tests.experiments.laws import Law, abilities, bounded, mixture, percentiles, students, uniforms
from tests.experiments.simulations import Line

ITEMS, CHOOSING = 300, 150
FLOOR, TOP = 0.1, 0.97
DONE = np.ones((3, ITEMS))  # a teacher that is always right, in three exams


def at(share: float, top: float = TOP) -> float:
    """The accuracy whose T is `share`."""
    return FLOOR + share * (top - FLOOR)


def study(
    rng: np.random.Generator, laws: Sequence[Law], seeds: Sequence[int], shared: float = 0.0
) -> list[Arm]:
    """One arm a law, of the first so many seeds, on items common to all; `shared`: what a seed does
    to all arms.
    """
    u_N, most = percentiles(rng, ITEMS), max(seeds)
    A = abilities(laws, uniforms(rng, len(laws), most, shared))
    return [Arm(students(rng, A[k, :n], u_N), tuple(range(n))) for k, n in enumerate(seeds)]


class Coverage(NamedTuple):
    """How often the intervals of D - F, U - D and T hold the truth, and the median width of T's."""

    uplift: float
    harm: float
    transfer: float
    width: float


def coverage(
    laws: Sequence[Law],
    means: Sequence[float],
    seeds: Sequence[int],
    runs: int,
    shared: float = 0.0,
) -> Coverage:
    """Arms F, U, D of these laws and true means."""
    rng, (F, U, D) = np.random.default_rng([1, *seeds, runs]), means
    seen, widths = [], []
    for _ in range(runs):
        arms = study(rng, laws, seeds, shared)
        parts = variance(arms)
        up, harm = combine(parts, [-1, 0, 1]), combine(parts, [0, 1, -1])
        share = transfer(*arms)
        widths.append(
            share.hi - share.lo if share.lo is not None and share.hi is not None else np.inf
        )
        seen.append(
            (
                up.lo <= D - F <= up.hi,
                harm.lo <= U - D <= harm.hi,
                outside(parts, (D - F) / (U - F), 0.05) <= 0,
            )
        )
    return Coverage(*np.mean(seen, 0), float(np.median(widths)))


def case(rng: np.random.Generator, top: Law, defended: Law, seeds: int) -> Case:
    """One defence against one attack, all arms of the same seeds."""
    F, U, D = study(rng, [bounded(FLOOR, 0.02), top, defended], [seeds] * 3)
    graded = Arm(DONE, (-1, -2, -3))
    return Case(F, [U], [D], graded, graded)


def words(
    top: Law, defended: Law, seeds: int, runs: int, defenses: int = 1
) -> tuple[Counter[str], float]:
    """How often each word is said of one defence, and how often *ineffective* of any of a study's
    defences.
    """
    rng, rules = np.random.default_rng([2, seeds, runs, defenses]), Rules(looks=(seeds,))
    counts: Counter[str] = Counter()
    any_of = 0
    for _ in range(runs):
        judged = [
            one.word
            for one in judge([case(rng, top, defended, seeds) for _ in range(defenses)], rules)
        ]
        counts.update(judged)
        any_of += "ineffective" in judged
    return Counter({word: n / runs / defenses for word, n in counts.items()}), any_of / runs


def shown(defended: Law, truth: float, seeds: int, runs: int) -> tuple[float, float]:
    """How often T's interval holds a true mean T, and how often it does with what unseen seeds
    could add.
    """
    rng, plain, honest = np.random.default_rng([3, seeds, runs]), 0, 0
    for _ in range(runs):
        F, U, D = study(rng, [bounded(FLOOR, 0.02), bounded(TOP, 0.01), defended], [seeds] * 3)
        share = transfer(F, U, D)
        assert share.value is not None and share.lo is not None and share.hi is not None
        plain += share.lo <= truth <= share.hi
        honest += share.lo <= truth <= max(share.hi, unseen(share.value, seeds))
    return plain / runs, honest / runs


class Bounds(NamedTuple):
    """How often the worst case's bounds hold the truth, and how often LCB alone would say
    *ineffective*.
    """

    lcb: float
    ucb: float
    above: float


def bounds(
    tops: Sequence[Law], means: Sequence[float], defended: Law, mean: float, seeds: int, runs: int
) -> Bounds:
    """As many attacks as ceilings, all alike behind the defence; both are chosen on two seeds and
    other items.
    """
    rng, truth = np.random.default_rng([4, seeds, runs]), (mean - FLOOR) / (max(means) - FLOOR)
    seen = []
    for _ in range(runs):
        F, U, D = _arms(rng, tops, defended, seeds, ITEMS)
        _, *selected = _arms(rng, tops, defended, 2, CHOOSING)
        worst = worst_case(F[0], U, D, (selected[0], selected[1]))
        seen.append(
            (
                worst.lcb is None or worst.lcb <= truth,
                worst.ucb is None or worst.ucb >= truth,
                worst.lcb is not None and worst.lcb > 0.8,
            )
        )
    return Bounds(*np.mean(seen, 0))


def _arms(
    rng: np.random.Generator, tops: Sequence[Law], defended: Law, seeds: int, items: int
) -> tuple[list[Arm], list[Arm], list[Arm]]:
    u_N, names = percentiles(rng, items), tuple(range(seeds))
    laws = [[bounded(FLOOR, 0.02)], tops, [defended] * len(tops)]
    F, U, D = (
        [Arm(students(rng, law(rng.random(seeds)), u_N), names) for law in some] for some in laws
    )
    return F, U, D


FAILS = mixture(0.48, TOP, 0.1)  # one undefended student in ten fails
FAILED = 0.9 * TOP + 0.1 * 0.48
HALF_LUCKY = mixture(at(1.0), at(0.45), 0.1), "T .45, one seed in ten 1"
# True mean T is .5 or more, so that *effective* is false.
FALSE = {
    HALF_LUCKY[1]: (bounded(TOP, 0.01), HALF_LUCKY[0]),
    "T .3, three seeds in ten 1": (bounded(TOP, 0.01), mixture(at(1.0), at(0.3), 0.3)),
    "U fails one in ten, T .5": (FAILS, bounded(at(0.5, FAILED), 0.02)),
    "U and D fail one in ten, T .5": (FAILS, mixture(at(0.25), at(0.53, FAILED), 0.1)),
    "T .5": (bounded(TOP, 0.01), bounded(at(0.5), 0.03)),
}
CEILINGS = {
    "the best fails one in five": (
        [mixture(0.73, 0.98, 0.2), *[bounded(0.85, 0.01)] * 10],
        [0.93, *[0.85] * 10],
        0.8,
    ),
    "all alike": ([bounded(0.9, 0.05)] * 11, [0.9] * 11, 0.75),
    "one best": ([bounded(0.95, 0.03), *[bounded(0.75, 0.03)] * 10], [0.95, *[0.75] * 10], 0.7),
    "all fail one in five": ([mixture(0.48, TOP, 0.2)] * 11, [0.8 * TOP + 0.2 * 0.48] * 11, 0.8),
}


def ceilings(name: str, seeds: int, runs: int) -> Bounds:
    tops, means, share = CEILINGS[name]
    mean = FLOOR + share * (max(means) - FLOOR)
    return bounds(tops, means, bounded(mean, 0.01), mean, seeds, runs)


def symmetric(share: float, sd: float, seeds: Sequence[int], shared: float, runs: int) -> Coverage:
    """Laws about as wide below their mean as above."""
    means = FLOOR, 0.9, at(share, 0.9)
    laws = [bounded(FLOOR, 0.02), bounded(0.9, min(sd, 0.03)), bounded(means[2], sd)]
    return coverage(laws, means, seeds, runs, shared)


def false_effective(name: str, seeds: int, runs: int) -> float:
    return words(*FALSE[name], seeds, runs)[0]["effective"]


def false_ineffective(sd: float, seeds: int, runs: int) -> float:
    return words(bounded(TOP, 0.01), bounded(at(0.8), sd), seeds, runs, 24)[1]


def lucky(seeds: int, runs: int) -> tuple[float, float]:
    """T 0, but one seed in ten reaches .9."""
    return shown(mixture(at(0.9), at(0.0), 0.1), 0.09, seeds, runs)


CELLS = [
    (T, sd, seeds, shared)
    for T, sd in ((0.2, 0.03), (0.5, 0.02), (0.5, 0.08), (0.8, 0.05), (1.0, 0.03))
    for seeds in ((5, 5, 5), (8, 8, 8), (15, 15, 5), (24, 24, 8))
    for shared in (0.0, 0.9)
]


def lines(runs: int, workers: int) -> Iterator[Line]:
    """Every row of the table."""
    with ProcessPoolExecutor(workers) as pool:
        covers = [(cell, pool.submit(symmetric, *cell, runs)) for cell in CELLS]
        false = [
            (name, S, pool.submit(false_effective, name, S, runs // 4))
            for name in FALSE
            for S in (5, 8)
        ]
        rare = [(S, pool.submit(lucky, S, runs // 2)) for S in (5, 8)]
        alike = [
            (sd, S, pool.submit(false_ineffective, sd, S, runs // 8))
            for sd in (0.03, 0.1)
            for S in (5, 8)
        ]
        worst = [
            (name, S, pool.submit(ceilings, name, S, runs // 4))
            for name in CEILINGS
            for S in (5, 8)
        ]
        for (T, sd, seeds, shared), future in covers:
            got = future.result()
            name = (
                f"T {T:g}, D's seed SD {sd:g}, seeds F/U/D {'/'.join(map(str, seeds))}, shared "
                f"{shared:g}"
            )
            seen = f"{got.uplift:.3f}, {got.harm:.3f}, {got.transfer:.3f}; T {got.width:.2f} wide"
            yield Line(f"coverage of D - F, U - D, T: {name}", seen, ">= .93", min(got[:3]) >= 0.93)
        for name, S, future in false:
            n = future.result()
            yield Line(f"false effective, {S} seeds: {name}", f"{n:.3f}", "<= .05", n <= 0.05)
        for S, future in rare:
            plain, honest = future.result()
            yield Line(
                f"T 0, one seed in ten .9, {S} seeds: true mean T held",
                f"{honest:.3f} with unseen seeds, {plain:.3f} without",
                ">= .95 with",
                honest >= 0.95,
            )
        for sd, S, future in alike:
            n = future.result()
            name = f"false ineffective of any of 24 at T .8, D's seed SD {sd:g}, {S} seeds"
            yield Line(name, f"{n:.3f}", "<= .05", n <= 0.05)
        for name, S, of in worst:
            b = of.result()
            yield Line(
                f"worst of 11 attacks with 11 ceilings, {S} seeds: {name}",
                f"LCB {b.lcb:.3f}, UCB {b.ucb:.3f}, LCB above .8 in {b.above:.3f}",
                "both >= .97",
                min(b.lcb, b.ucb) >= 0.97,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="simulated studies a cell")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    for line in lines(args.runs, args.workers):
        print(
            f"| {line.test} | {line.seen} | {line.band} | {'yes' if line.holds else 'NO'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
