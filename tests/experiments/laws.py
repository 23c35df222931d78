"""Simulated students of another kind than simulations.py has: bimodal items, bounded or failing
seeds, exact truth.

Item i has a percentile u_i, uniform on (0, 1) and common to all arms. A student of ability A is
right with certainty RHO where u_i < A, and where not never; else it flips a coin of bias A. So
P(right) = A exactly, whatever the law of A over seeds, and items are nearly always or nearly never
right. A law is a quantile function: what a uniform number means as an ability. Arms that are handed
the same uniforms share their seeds.

`python -m tests.experiments.laws` prints the table of curves, campaigns, rates and frontiers;
test_laws_curves.py runs a small part of it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from experiments.measure import curves, detection, frontier, leak
from tests.experiments.simulations import Line

RHO = 0.9  # of answers that follow the item and not a coin
Law = Callable[[np.ndarray], np.ndarray]


# Students


def percentiles(rng: np.random.Generator, items: int, cluster: int = 1) -> np.ndarray:
    """What an ability must exceed for each item (N); the items of a cluster share theirs."""
    return np.repeat(rng.random(-(-items // cluster)), cluster)[:items]


def bounded(mean: float, sd: float) -> Law:
    """Beta law of this mean and standard deviation, which is cut where no law on [0, 1] spreads so
    far.
    """
    sd = min(sd, 0.6 * math.sqrt(mean * (1 - mean)))
    if sd <= 1e-9:
        return lambda u: np.full(np.shape(u), mean)
    size = mean * (1 - mean) / sd**2 - 1
    return lambda u: np.asarray(stats.beta.ppf(u, mean * size, (1 - mean) * size))


def mixture(low: Law | float, high: Law | float, q: float) -> Law:
    """`low` with probability q (a student that fails, or one that is lucky), else `high`."""

    def evaluate(law: Law | float, u: np.ndarray) -> np.ndarray:
        return (
            law(np.clip(u, 1e-9, 1 - 1e-9)) if callable(law) else np.full(np.shape(u), float(law))
        )

    return lambda u: np.where(
        u < q, evaluate(low, u / max(q, 1e-12)), evaluate(high, (u - q) / max(1 - q, 1e-12))
    )


def uniforms(rng: np.random.Generator, arms: int, seeds: int, shared: float = 0.0) -> np.ndarray:
    """Uniform numbers (arms x S) whose normal scores correlate by `shared` between the arms of a
    seed.
    """
    common, separate = rng.standard_normal((1, seeds)), rng.standard_normal((arms, seeds))
    return np.asarray(stats.norm.cdf(math.sqrt(shared) * common + math.sqrt(1 - shared) * separate))


def abilities(laws: Sequence[Law], uniform_AS: np.ndarray) -> np.ndarray:
    """Abilities of each arm's seeds (arms x S)."""
    return np.stack([law(u_S) for law, u_S in zip(laws, uniform_AS, strict=True)])


def students(
    rng: np.random.Generator, ability_S: np.ndarray, percentile_N: np.ndarray
) -> np.ndarray:
    """Right answers (..., S x N) of students of those abilities (..., S)."""
    A = np.asarray(ability_S, float)[..., None]
    shape = (*np.shape(ability_S), len(percentile_N))
    sure = rng.random(shape) < RHO
    return np.where(sure, percentile_N < A, rng.random(shape) < A).astype(float)


# Curves


@dataclass(frozen=True)
class Curve:
    """Accuracy after n questions, from `low`: smooth at a slope of 1 or 2, a step at 16."""

    low: float = 0.05
    top: float = 0.85
    half: float = 200.0
    slope: float = 1.5

    def __call__(self, n: np.ndarray | float) -> np.ndarray:
        n = np.maximum(np.asarray(n, float), 1e-9)
        return np.asarray(self.low + (self.top - self.low) / (1 + (self.half / n) ** self.slope))

    def shifted(self, times: float) -> Curve:
        """The curve of an attacker who needs so many times the questions."""
        return replace(self, half=self.half * times)


def sharp(slope: float = 8.0) -> Curve:
    """0.05 to 0.95 around 150 questions."""
    return Curve(0.05, 0.95, 150.0, slope)


BUDGETS = np.array([25, 50, 100, 200, 400, 800])


@dataclass(frozen=True)
class Students:
    """How students scatter around a curve: their spread, what a seed's budgets share, failures (to
    a half), items.
    """

    seeds: int = 5
    sd: float = 0.04
    shared: float = 0.5
    fail: float = 0.0
    items: int = 300

    def mean(self, curve: Curve, n: np.ndarray | float) -> np.ndarray:
        """The true mean accuracy after n questions."""
        return np.asarray(curve(n)) * (1 - self.fail / 2)

    def laws(self, curve: Curve, n: np.ndarray) -> list[Law]:
        return [
            mixture(0.5 * y, bounded(y, self.sd), self.fail) if self.fail else bounded(y, self.sd)
            for y in map(float, curve(n))
        ]

    def draw(self, rng: np.random.Generator, budgets: np.ndarray = BUDGETS) -> np.ndarray:
        """What a seed brings at each budget (budgets x S); curves that are handed the same share
        their seeds.
        """
        return uniforms(rng, len(budgets), self.seeds, self.shared)

    def curve(
        self,
        rng: np.random.Generator,
        curve: Curve,
        percentile_N: np.ndarray,
        uniform_KS: np.ndarray,
        budgets: np.ndarray = BUDGETS,
    ) -> np.ndarray:
        """Right answers, budgets x S x N."""
        return students(rng, abilities(self.laws(curve, budgets), uniform_KS), percentile_N)


class Covered(NamedTuple):
    """Of `runs` simulated studies: how often an interval holds the truth, and the median of what it
    is to be near.
    """

    coverage: float
    middle: float
    width: float
    runs: int


def multiplier(
    curve: Curve,
    times: float,
    who: Students,
    runs: int,
    level: float = 0.5,
    draws: int = 200,
    floor: float = 0.1,
    paired: bool = False,
) -> Covered:
    """M at a level of capability, U on a curve and D on the same one shifted, of the same seeds if
    `paired`.

    The median is of M over its truth, the width that of the interval in doublings.
    """
    slow, rng = curve.shifted(times), np.random.default_rng([7, who.seeds, runs])
    want = floor + level * (float(who.mean(curve, BUDGETS[-1])) - floor)
    need = lambda c: optimize.brentq(lambda x: float(who.mean(c, math.exp(x))) - want, -5, 15)  # noqa: E731
    truth = math.exp(need(slow) - need(curve))
    hits, ratios, widths = [], [], []
    for _ in range(runs):
        u_N = percentiles(rng, who.items)
        F = students(rng, bounded(floor, 0.02)(rng.random(who.seeds)), u_N)
        draws_KS = who.draw(rng)
        U, D = (
            who.curve(rng, curve, u_N, draws_KS),
            who.curve(rng, slow, u_N, draws_KS if paired else who.draw(rng)),
        )
        seeds = (tuple(range(who.seeds)),) * 2 if paired else None
        m = curves.multiplier(
            curves.needs(F, U, D, BUDGETS, levels=(level,), draws=draws, seeds=seeds)[0]
        )
        hits.append(m.lo <= truth <= m.hi)
        ratios.append(m.value / truth)
        widths.append(math.log2(m.hi / m.lo) if m.lo > 0 else math.inf)
    return Covered(float(np.mean(hits)), float(np.median(ratios)), float(np.median(widths)), runs)


def campaign(
    curve: Curve,
    who: Students,
    leaks: int,
    runs: int,
    floor: float = 0.1,
    spread: float = 0.25,
    at: float | None = None,
) -> tuple[Covered, Covered]:
    """A campaign's gain, by the curve and by students of exactly what leaked: `leaks` runs a study.

    Runs leak about `at` questions, or about anything between the smallest and the largest budget,
    each off by a lognormal of that spread. The middle is the median error in points, width that of
    the interval in points.
    """
    rng = np.random.default_rng([11, who.seeds, leaks, runs])
    grid = stats.norm.ppf((np.arange(400) + 0.5) / 400)
    outcomes: list[list[tuple[bool, float, float]]] = [[], []]
    for _ in range(runs):
        centre = math.log(at) if at else rng.uniform(*np.log(BUDGETS[[0, -1]]))
        leaked = lambda z, c=centre: np.minimum(np.exp(c + spread * z), BUDGETS[-1])  # noqa: E731
        over = who.mean(curve, leaked(grid)) - floor
        n_R = leaked(rng.standard_normal(leaks))
        u_N = percentiles(rng, who.items)
        F = students(rng, bounded(floor, 0.02)(rng.random(who.seeds)), u_N)
        zero, Y = (
            students(rng, np.full(who.seeds, 0.02), u_N),
            who.curve(rng, curve, u_N, who.draw(rng)),
        )
        D = students(rng, abilities(who.laws(curve, n_R), rng.random((leaks, 1)))[:, 0], u_N)
        read = leak.gained(F, zero, list(Y), BUDGETS, n_R, draws=2)
        taught = leak.taught(F, D)
        for rows, gain, truth in (
            (outcomes[0], read, np.maximum(over, 0).mean()),
            (outcomes[1], taught, over.mean()),
        ):
            rows.append(
                (
                    gain.lo - 1e-12 <= truth <= gain.hi + 1e-12,
                    100 * (gain.value - truth),
                    100 * (gain.hi - gain.lo),
                )
            )
    tables = [np.array(kept, float) for kept in outcomes]
    of_curve, of_students = (
        Covered(float(t[:, 0].mean()), float(np.median(t[:, 1])), float(np.median(t[:, 2])), runs)
        for t in tables
    )
    return of_curve, of_students


class Best(NamedTuple):
    """What is reported of the best of equal defences over the truth: chosen by other students, and
    by its own.
    """

    elsewhere: float
    same: float
    error: float


def best_of(
    defences: int, runs: int, truth: float = 0.8, sd: float = 0.1, seeds: int = 5, items: int = 300
) -> Best:
    """Defences all of one T; chosen by two seeds x `items` of the selection split, or by the
    students reported.
    """
    rng, F, U = np.random.default_rng([13, defences, runs]), 0.1, 0.95
    law, seen = bounded(F + truth * (U - F), sd), []
    for _ in range(runs):
        sides = []
        for S in (2, seeds):
            u_N = percentiles(rng, items)
            f, u = (students(rng, bounded(m, 0.02)(rng.random(S)), u_N).mean() for m in (F, U))
            D = students(rng, law(rng.random((defences, S))), u_N).mean((1, 2))
            sides.append((D - f) / (u - f))
        passing = [frontier.best_at([(0.0, t) for t in side], 0.01) for side in sides]
        seen.append([sides[1][place] - truth for place in passing])
    table = np.array(seen)
    return Best(
        float(table[:, 0].mean()), float(table[:, 1].mean()), float(table[:, 0].std() / runs**0.5)
    )


def rates(
    runs: int, leaks: int, mean: float = 0.01, cv: float = 0.7, accounts: int = 10_000
) -> tuple[float, float]:
    """Coverage of a rate of honest accounts that differs between runs (gamma law): over runs, and
    as if independent.
    """
    rng, hits = np.random.default_rng([17, runs, leaks]), []
    for _ in range(runs):
        of_R = rng.binomial(accounts, np.minimum(rng.gamma(1 / cv**2, mean * cv**2, leaks), 1))
        over_runs = detection.across_runs(of_R.tolist(), [accounts] * leaks)
        alone = detection.clopper_pearson(int(of_R.sum()), accounts * leaks)
        hits.append([one.lo <= mean <= one.hi for one in (over_runs, alone)])
    over, pooled = np.mean(hits, axis=0)
    return float(over), float(pooled)


def accounts_found(
    runs: int, campaigns: int, share: float = 0.3, alike: float = 0.1, accounts: int = 100
) -> tuple[float, float]:
    """Coverage of the share of a campaign's accounts that are found, which differs between runs
    (beta law): over runs, and as if accounts were independent.

    Args:
        runs: studies.
        campaigns: runs of each.
        share: of all operators' accounts.
        alike: correlation of two accounts of one operator.
        accounts: of each operator.
    """
    rng, hits, spread = np.random.default_rng([23, runs, campaigns]), [], 1 / alike - 1
    for _ in range(runs):
        theirs = rng.beta(share * spread, (1 - share) * spread, campaigns)
        of_R, whole = rng.binomial(accounts, theirs), accounts * campaigns
        over_runs = detection.across_runs(of_R.tolist(), [accounts] * campaigns, operators=True)
        alone = detection.clopper_pearson(int(of_R.sum()), whole)
        hits.append([one.lo <= share <= one.hi for one in (over_runs, alone)])
    over, pooled = np.mean(hits, axis=0)
    return float(over), float(pooled)


def clustered(runs: int, size: int, declared: bool, who: Students = Students()) -> float:
    """Coverage of U - D at one budget on items that come in clusters of a size, with and without
    their labels.
    """
    rng, hits = np.random.default_rng([19, size, runs]), []
    for _ in range(runs):
        u_N = percentiles(rng, who.items, size)
        arms = [students(rng, bounded(m, who.sd)(rng.random(who.seeds)), u_N) for m in (0.8, 0.45)]
        labels = np.arange(who.items) // size if declared else None
        e = curves.area_between(arms[0][None], arms[1][None], clusters=labels)
        hits.append(e.lo <= 0.35 <= e.hi)
    return float(np.mean(hits))


# The table

OPERATORS = {(0.3, 0.1): 0.93, (0.95, 0.1): 0.91, (0.05, 0.3): 0.80}
"""Of operators' accounts, share found and correlation, and the coverage that a few runs can have:
runs rarely show how much a share near 0 or 1 varies."""
SHAPES: dict[str, Curve] = {"smooth": Curve(), "sharp": sharp(8.0), "a step": sharp(16.0)}


def lines(runs: int, workers: int) -> list[Line]:
    """Every row of the table."""
    rows: list[Line] = []
    with ProcessPoolExecutor(workers) as pool:
        of_m = {
            (name, times, S): pool.submit(multiplier, curve, times, Students(S), max(runs // 5, 20))
            for name, curve in SHAPES.items()
            for times in (1.0, 2.0, 3.0)
            for S in (5, 8)
        }
        failing = {
            (name, S): pool.submit(
                multiplier, SHAPES[name], 2.0, Students(S, fail=0.2), max(runs // 5, 20)
            )
            for name in ("smooth", "sharp")
            for S in (5, 8)
        }
        pairs = {
            (name, S): pool.submit(
                multiplier, SHAPES[name], 2.0, Students(S), max(runs // 5, 20), paired=True
            )
            for name in ("smooth", "sharp")
            for S in (5, 8)
        }
        gains = {
            (name, S, R): pool.submit(campaign, curve, Students(S), R, runs)
            for name, curve in SHAPES.items()
            for S in (5, 8)
            for R in (3, 5)
        }
        best, rate = (
            pool.submit(best_of, 24, runs),
            {R: pool.submit(rates, runs, R) for R in (3, 5)},
        )
        seen_by = {
            (share, alike, R): pool.submit(accounts_found, runs, R, share, alike)
            for share, alike in OPERATORS
            for R in (3, 5)
        }
        groups = {told: pool.submit(clustered, runs, 5, told) for told in (True, False)}
        for (name, times, S), future in of_m.items():
            m = future.result()
            seen = (
                f"coverage {m.coverage:.3f}, median ratio {m.middle:.2f}, width {m.width:.2f} "
                "doublings"
            )
            rows.append(
                Line(f"M, {name}, shift {times:g}, {S} seeds", seen, ">= .93", m.coverage >= 0.93)
            )
        for (name, S), future in failing.items():
            m = future.result()
            rows.append(
                Line(
                    f"M, {name}, shift 2, {S} seeds, a fifth fail",
                    f"coverage {m.coverage:.3f}",
                    ">= .93",
                    m.coverage >= 0.93,
                )
            )
        for (name, S), future in pairs.items():
            m = future.result()
            seen = f"coverage {m.coverage:.3f}, width {m.width:.2f} doublings"
            rows.append(
                Line(f"M, {name}, shift 2, {S} seeds shared", seen, ">= .93", m.coverage >= 0.93)
            )
        for place, what in enumerate(("by the curve", "trained")):
            for (name, S, R), both in gains.items():
                g = both.result()[place]
                seen = (
                    f"coverage {g.coverage:.3f}, median error {g.middle:+.1f}, width "
                    f"{g.width:.1f} points"
                )
                band = (
                    ">= .90" if name == "a step" else ">= .93"
                )  # few runs rarely show all that a step makes of them
                rows.append(
                    Line(
                        f"campaign {what}, {name}, {R} runs, {S} seeds",
                        seen,
                        band,
                        g.coverage >= float(band[3:]),
                    )
                )
        b = best.result()
        seen = f"bias {b.elsewhere:+.4f} of T, {b.same:+.4f} if chosen by its own students"
        rows.append(
            Line(
                "best of 24 equal defences",
                seen,
                "within 3 errors",
                abs(b.elsewhere) <= 3 * b.error,
            )
        )
        for R, future in rate.items():
            over, pooled = future.result()
            rows.append(
                Line(
                    f"honest rate, {R} runs, cv .7",
                    f"coverage {over:.3f}; as if independent {pooled:.3f}",
                    ">= .93",
                    over >= 0.93,
                )
            )
        for (share, alike, R), future in seen_by.items():
            over, pooled = future.result()
            band = OPERATORS[share, alike]
            rows.append(
                Line(
                    f"accounts found, {share:.0%}, {R} runs, correlation {alike:g}",
                    f"coverage {over:.3f}; as if independent {pooled:.3f}",
                    f">= {band:.2f}".replace("0.", "."),
                    over >= band,
                )
            )
        declared, undeclared = groups[True].result(), groups[False].result()
        rows.append(
            Line(
                "U - D, clusters of 5 declared",
                f"coverage {declared:.3f}; undeclared {undeclared:.3f}",
                ">= .93",
                declared >= 0.93,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=2000, help="simulated studies a cell; a fifth of that for M"
    )
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    rows = lines(args.runs, args.workers)
    for line in rows:
        print(f"| {line.test} | {line.seen} | {line.band} | {'yes' if line.holds else 'NO'} |")
    if not all(line.holds for line in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
