"""Simulated studies with known truth: what the estimators promise, held against pass bands.

`make simulations` runs all of it (2,000 studies a cell) and writes docs/simulations.md,
test_simulations.py a part. The truth: logit of success = arm + item + arm x item + seed + seed x
item (+ cluster); answers are coin flips.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, stats

from experiments.measure import curves, frontier, power
from experiments.measure.contrast import combine, variance
from experiments.measure.transfer import select

ITEM, ARM_ITEM, SEED_ITEM = 1.0, 0.3, 0.3  # standard deviations on the logit scale
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
CHUNK = 4_000_000  # scores held at once


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def mean_of(centre: float, sd: float) -> float:
    """E sigmoid(centre + sd Z), Z standard normal."""
    return float(WEIGHTS @ sigmoid(centre + sd * NODES) / WEIGHTS.sum())


def centre_of(mean: float, sd: float) -> float:
    """The logit at which the arm's population mean is `mean`."""
    return float(optimize.brentq(lambda c: mean_of(c, sd) - mean, -30, 30))


def seed_scale(mean: float, seed_sd: float, other: float) -> float:
    """Logit SD of seeds with which the arm's accuracy has SD `seed_sd` between seeds; NaN where no
    such SD exists.
    """
    if not seed_sd:
        return 0.0

    def spread(scale: float) -> float:
        centre = centre_of(mean, math.hypot(scale, other))
        p = np.array([mean_of(centre + scale * z, other) for z in NODES])
        return math.sqrt(max(float(WEIGHTS @ (p - mean) ** 2 / WEIGHTS.sum()), 0.0)) - seed_sd

    return float(optimize.brentq(spread, 0, 8, xtol=1e-3)) if spread(8) > 0 else math.nan


@dataclass(frozen=True)
class Design:
    """One cell: true means of the arms, seeds of each, items, SD between seeds (share), items a
    cluster.
    """

    means: tuple[float, ...]
    seeds: tuple[int, ...]
    items: int
    seed_sd: float = 0.02
    cluster: int = 1
    runs: int = 2000
    label: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)

    def scales(self) -> list[tuple[float, float]]:
        """Centre and seed scale of each arm."""
        other = math.sqrt(ITEM**2 + ARM_ITEM**2 + SEED_ITEM**2 + (self.cluster > 1))
        seeds = [seed_scale(mean, self.seed_sd, other) for mean in self.means]
        return [
            (centre_of(m, math.hypot(s, other)), s) for m, s in zip(self.means, seeds, strict=True)
        ]

    @property
    def possible(self) -> bool:
        return all(math.isfinite(scale) for _, scale in self.scales())

    def studies(self, seed: int = 0) -> Iterator[list[np.ndarray]]:
        """Chunks of studies: one array a arm, runs x seeds x items."""
        rng, size = np.random.default_rng([seed, self.items, *self.seeds]), self.items
        scales = [(np.float32(c), np.float32(s)) for c, s in self.scales()]
        step = max(1, CHUNK // (sum(self.seeds) * size))
        for start in range(0, self.runs, step):
            R = min(step, self.runs - start)
            draw = lambda *shape: rng.standard_normal(shape, dtype=np.float32)  # noqa: E731
            item = ITEM * draw(R, 1, size)
            if self.cluster > 1:
                item = (
                    item
                    + np.repeat(draw(R, 1, -(-size // self.cluster)), self.cluster, -1)[..., :size]
                )
            yield [
                (
                    rng.random((R, S, size), dtype=np.float32)
                    < sigmoid(
                        centre
                        + item
                        + ARM_ITEM * draw(R, 1, size)
                        + scale * draw(R, S, 1)
                        + SEED_ITEM * draw(R, S, size)
                    )
                ).astype(np.float32)
                for S, (centre, scale) in zip(self.seeds, scales, strict=True)
            ]

    def labels(self) -> np.ndarray | None:
        return np.arange(self.items) // self.cluster if self.cluster > 1 else None


class Contrasts(NamedTuple):
    """Over all runs of a cell: coverage of D - F and U - D, bias in standard errors, rejections of
    U = D.
    """

    uplift: float
    harm: float
    bias: float
    rejected: float
    fieller: float
    bounded_wrongly: int
    not_identified: float
    size: float


def contrasts(design: Design, theta: float = 0.5) -> Contrasts:
    """Arms F, U, D of a design through the report's own functions."""
    F, U, D = design.means
    checks: dict[str, list[np.ndarray]] = {}
    for arms in design.studies():
        parts = variance(arms, design.labels())
        up, harm, gap = (combine(parts, c) for c in ([-1, 0, 1], [0, 1, -1], [-1, 1, 0]))
        test = combine(parts, [theta - 1, -theta, 1])
        share = (D - F) / (U - F) if U != F else 0.0
        at_truth = combine(parts, [share - 1, -share, 1])
        shown = gap.lo > 0
        for name, value in {
            "uplift": inside(up, D - F),
            "harm": inside(harm, U - D),
            "zero": inside(harm, 0.0),
            "off": harm.value - (U - D),
            "se": harm.se,
            "fieller": inside(at_truth, 0.0),
            "shown": shown,
            "wrong": shown & (gap.value / gap.se < stats.t.ppf(0.975, gap.df)),
            "p": test.value + stats.t.ppf(0.975, test.df) * test.se < 0,
        }.items():
            checks.setdefault(name, []).append(np.asarray(value))
    all_ = {name: np.concatenate(values) for name, values in checks.items()}
    bias = float(all_["off"].mean() / all_["off"].std()) if all_["off"].std() else 0.0
    return Contrasts(
        float(all_["uplift"].mean()),
        float(all_["harm"].mean()),
        bias,
        1 - float(all_["zero"].mean()),
        float(all_["fieller"].mean()),
        int(all_["wrong"].sum()),
        1 - float(all_["shown"].mean()),
        float(all_["p"].mean()),
    )


def inside(estimate: Any, truth: float) -> np.ndarray:
    """Whether intervals hold the truth; where nothing varied there is no interval, and the value
    itself must be it.
    """
    return np.where(
        estimate.se > 0,
        (estimate.lo <= truth + 1e-12) & (truth - 1e-12 <= estimate.hi),
        np.isclose(estimate.value, truth, atol=1e-9),
    )


def grid(runs: int = 2000) -> list[Design]:
    """The grid of E2; cells whose spread between seeds no accuracy of that level can have are left
    out.
    """
    designs = []
    for S, N, sd, acc, T in itertools.product(
        (2, 3, 5, 10),
        (50, 200, 500),
        (0.0, 0.01, 0.02, 0.03),
        (0.02, 0.3, 0.5, 0.97),
        (0.0, 0.5, 1.0),
    ):
        F, U = (acc, acc + 0.2) if acc <= 0.5 else (acc - 0.2, acc)
        label = {"seeds": S, "items": N, "seed SD": sd, "accuracy": acc, "T": T}
        designs.append(Design((F, U, F + T * (U - F)), (S,) * 3, N, sd, runs=runs, label=label))
    F, U, D = 0.3, 0.5, 0.4
    designs += [
        Design(
            (F, U, D),
            (3, 5, 8),
            N,
            sd,
            runs=runs,
            label={"seeds": "3/5/8", "items": N, "seed SD": sd},
        )
        for N in (50, 200, 500)
        for sd in (0.0, 0.02, 0.03)
    ]
    designs += [
        Design((F, U, D), (5,) * 3, N, sd, 10, runs, {"clusters of": 10, "items": N, "seed SD": sd})
        for N in (200, 500)
        for sd in (0.0, 0.02)
    ]
    return designs


def gaps(runs: int = 2000) -> list[Design]:
    """E3 near a zero denominator."""
    return [
        Design(
            (0.3, 0.3 + gap, 0.3 + gap * T),
            (5,) * 3,
            500,
            0.018,
            runs=runs,
            label={"gap": gap, "T": T},
        )
        for gap in (0.0, 0.04, 0.1, 0.2)
        for T in ((0.0, 0.5, 1.0) if gap else (0.0,))
    ]


class Power(NamedTuple):
    predicted: float
    seen: float


def seen_power(design: Design) -> Power:
    """Power of U - D as E12 predicts it from the components of one large pilot, and as it is."""
    pilot = Design(design.means, (60,) * 3, 4000, design.seed_sd, runs=1)
    arms = next(pilot.studies(seed=1))
    parts = power.difference_components(arms[1][0], arms[2][0])
    change = design.means[1] - design.means[2]
    return Power(
        power.power(change, parts, design.seeds[0], design.items), contrasts(design).rejected
    )


class Selection(NamedTuple):
    """E6: bias of the split estimate in standard errors and in points, of the naive maximum,
    coverage of the bounds.
    """

    split_bias: float
    naive_points: float
    ucb: float
    lcb: float


def selection(
    attacks: int, winner: float, seeds: int = 5, items: int = 400, runs: int = 2000
) -> Selection:
    """K attacks of accuracy 0.4, one of them `winner` better, selected on 2 seeds x 300 items and
    reported afresh.
    """
    truth = np.full(attacks, 0.4)
    truth[0] += winner
    report = Design(tuple(truth), (seeds,) * attacks, items, 0.03, runs=runs)
    choose = Design(tuple(truth), (2,) * attacks, 300, 0.03, runs=runs)
    offs, naive, upper, lower = [], [], [], []
    chunks = (Design(d.means, d.seeds, d.items, d.seed_sd, runs=d.runs) for d in (report, choose))
    both = (_single(design, seed) for seed, design in enumerate(chunks))
    for reported, selected in zip(*both, strict=True):
        best = select(selected)
        means = [combine(variance([arm]), [1], alpha=0.05) for arm in reported]
        offs.append(means[best].value - truth[best])
        naive.append(max(e.value for e in means) - truth.max())
        upper.append(max(e.hi for e in means) >= truth.max())
        lower.append(means[best].lo <= truth.max())
    off = np.array(offs)
    return Selection(
        float(off.mean() / off.std()),
        100 * float(np.mean(naive)),
        float(np.mean(upper)),
        float(np.mean(lower)),
    )


def _single(design: Design, seed: int) -> Iterator[list[np.ndarray]]:
    for arms in design.studies(seed):
        yield from ([arm[i] for arm in arms] for i in range(len(arms[0])))


class Inverted(NamedTuple):
    """E9: median of M over the truth, coverage, how often `>` was said, how often the common shape
    was shown.
    """

    ratio: float
    coverage: float
    greater: float
    shown: float


BUDGETS = np.array([250 * 2**k for k in range(8)])


def multiplier(
    case: str, factor: float, runs: int = 2000, draws: int = 200, seeds: int = 5
) -> Inverted:
    """Logistic curves in log n from 0.1 to 0.6; `shift`: D needs `factor` times more, `ceiling`: D
    gains 60 % of U.
    """
    floor, top = 0.1, 0.6
    hill = lambda n: n / (2000.0 + n)  # noqa: E731
    u = floor + (top - floor) * hill(BUDGETS)
    d = floor + (top - floor) * (hill(BUDGETS / factor) if case == "shift" else 0.6 * hill(BUDGETS))
    level = 0.5 * (u[-1] - floor)
    need = lambda gain: 2000.0 * gain / (top - floor - gain)  # noqa: E731
    truth = factor if case == "shift" else need(level / 0.6) / need(level)
    beyond = floor + level > d[-1]
    design = Design((floor, *u, *d), (seeds,) * 17, 500, 0.018, runs=runs)
    ratios, hits, greater, shown = [], [], [], []
    for arms in _nested(design):
        U, D = np.stack(arms[1:9]), np.stack(arms[9:])
        m = curves.multiplier(curves.needs(arms[0], U, D, BUDGETS, levels=(0.5,), draws=draws)[0])
        hits.append(m.lo <= truth <= m.hi)
        ratios.append(m.value / truth)
        greater.append(m.sign == ">")
        if not beyond:
            shown.append(curves.common_shape(float(arms[0].mean()), U, D, BUDGETS, m.value).shown)
    return Inverted(
        float(np.median(ratios)),
        float(np.mean(hits)),
        float(np.mean(greater)),
        float(np.mean(shown)) if shown else math.nan,
    )


def _nested(design: Design) -> Iterator[list[np.ndarray]]:
    """Studies in which all budgets of a seed share half of what that seed brings, as nested queries
    do.
    """
    rng = np.random.default_rng(5)
    scales = design.scales()
    for _ in range(design.runs):
        item = ITEM * rng.standard_normal(design.items)
        shared = {name: rng.standard_normal((design.seeds[0], 1)) for name in "UDF"}
        arms = []
        for k, (centre, scale) in enumerate(scales):
            S = design.seeds[k]
            common = shared["F" if not k else "U" if k < 9 else "D"]
            seed = scale * math.sqrt(0.5) * (common + rng.standard_normal((S, 1)))
            noise = ARM_ITEM * rng.standard_normal(design.items) + SEED_ITEM * rng.standard_normal(
                (S, design.items)
            )
            arms.append(
                (rng.random((S, design.items)) < sigmoid(centre + item + seed + noise)).astype(
                    float
                )
            )
        yield arms


class Frontier(NamedTuple):
    """E8: bias of the hypervolume where it was selected and on the held-out split, and coverage
    there.
    """

    naive: float
    held_out: float
    coverage: float


def hypervolumes(runs: int = 2000, draws: int = 200) -> Frontier:
    """Eight configurations near a frontier, non-dominated ones chosen on 2 seeds x 300 items, then
    5 x 500 afresh.
    """
    rng, losses = np.random.default_rng(3), np.linspace(0.0, 0.045, 8)
    shares = 0.9 - 0.7 * (losses / 0.045) ** 0.5 + rng.uniform(0, 0.1, 8)
    F, U, Te = 0.2, 0.5, 0.95
    means = (F, U, Te, *(F + shares * (U - F)), *(Te - losses))
    naive, seen, hits = [], [], []

    def split(seeds: int, items: int, seed: int) -> Iterator[list[np.ndarray]]:
        return _single(Design(means, (seeds,) * len(means), items, 0.02, runs=runs), seed)

    for selected, reported in zip(split(2, 300, 1), split(5, 500, 2), strict=True):
        f, u, te = (arm.mean() for arm in selected[:3])
        gain = np.array([(arm.mean() - f) / (u - f) for arm in selected[3:11]])
        lost = np.array([te - arm.mean() for arm in selected[11:]])
        best = frontier.non_dominated(lost, gain)
        truth = frontier.hypervolume(losses[best], shares[best], 0.05)
        naive.append(frontier.hypervolume(lost[best], gain[best], 0.05) - truth)
        F_SN, U_SN, Te_SN = reported[:3]
        v = frontier.volume(F_SN, U_SN, reported[3:11], Te_SN, reported[11:], best, draws=draws)
        seen.append(v.value - truth)
        hits.append(v.lo <= truth <= v.hi)
    return Frontier(float(np.mean(naive)), float(np.mean(seen)), float(np.mean(hits)))


class Splits(NamedTuple):
    """Undefended against undefended: how often the interval of U - D covers 0, over splits of real
    students.
    """

    covered: float
    splits: int
    students: int


def undefended_splits(right_SN: np.ndarray, splits: int = 400, seed: int = 0) -> Splits:
    """Split the students of one arm into halves at random, on half of the items drawn anew each
    time.
    """
    rng, (S, N) = np.random.default_rng(seed), right_SN.shape
    hits = []
    for _ in range(splits):
        order, items = rng.permutation(S), rng.choice(N, N // 2, replace=False)
        U, D = right_SN[order[: S // 2]][:, items], right_SN[order[S // 2 :]][:, items]
        e = combine(variance([U, D]), [1, -1])
        hits.append(bool(e.lo <= 0 <= e.hi) if e.se else bool(e.value == 0))
    return Splits(float(np.mean(hits)), splits, S)


def family_error(m: int = 10, runs: int = 2000) -> float:
    """How often Holm rejects any of m true nulls, p-values from the two-way test of U - D with U =
    D.
    """
    design = Design((0.4,) * (2 * m), (5,) * (2 * m), 200, 0.02, runs=runs)
    rejected = []
    for arms in design.studies(7):
        ps = []
        for k in range(m):
            e = combine(variance([arms[2 * k], arms[2 * k + 1]]), [-1, 1])
            ps.append(2 * stats.t.sf(np.abs(e.value / e.se), e.df))
        rejected += [min(power.holm(list(column))) <= 0.05 for column in np.array(ps).T]
    return float(np.mean(rejected))


def stopping(runs: int = 2000) -> float:
    """Type I error of two planned looks, at 5 and at 10 seeds, each at alpha / 2."""
    hits = []
    for U, D in Design((0.4, 0.4), (10, 10), 500, 0.02, runs=runs).studies(9):
        looks = [combine(variance([U[:, :S], D[:, :S]]), [-1, 1], alpha=0.025) for S in (5, 10)]
        hits.append(np.any([(e.lo > 0) | (e.hi < 0) for e in looks], 0))
    return float(np.concatenate(hits).mean())


class Line(NamedTuple):
    """One line of the table: what was asked, what was seen, the band, and whether it holds."""

    test: str
    seen: str
    band: str
    holds: bool


def _contrast_lines(cells: list[tuple[Design, Contrasts]]) -> list[Line]:
    """E2 and E3 over the whole grid; the band's edges have the Monte Carlo error of 2,000 runs."""
    both = np.array([[c.uplift, c.harm] for _, c in cells])
    edge = 2 * math.sqrt(0.99 * 0.01 / cells[0][0].runs)
    equal = [c.rejected for d, c in cells if d.means[1] == d.means[2]]
    worst = max(cells, key=lambda one: max(one[1].uplift, one[1].harm))[0].label
    bias, fieller = max(abs(c.bias) for _, c in cells), min(c.fieller for _, c in cells)
    return [
        Line(
            f"E2 coverage, each of {len(cells)} cells",
            f"{both.min():.3f} to {both.max():.3f} (highest: {worst})",
            f".93 to .99 (+{edge:.3f})",
            both.min() >= 0.93 and both.max() <= 0.99 + edge,
        ),
        Line(
            "E2 coverage, mean over cells",
            f"{both.mean():.3f}",
            ".945 to .975",
            0.945 <= both.mean() <= 0.975,
        ),
        Line("E2 bias, largest, in SE", f"{bias:.3f}", "< .1", bias < 0.1),
        Line(
            "E2 type I error (U = D), largest", f"{max(equal):.3f}", "<= .065", max(equal) <= 0.065
        ),
        Line("E3 Fieller coverage, lowest cell", f"{fieller:.3f}", ">= .93", fieller >= 0.93),
    ]


def _gap_lines(cells: list[tuple[Design, Contrasts]]) -> list[Line]:
    zero = next(c for d, c in cells if d.label["gap"] == 0)
    others = [c for d, c in cells if d.label["gap"]]
    size = max(c.size for d, c in cells if d.label["gap"] and d.label["T"] == 0.5)
    wrong, low = sum(c.bounded_wrongly for _, c in cells), min(c.fieller for c in others)
    return [
        Line("E3 coverage at gaps .04, .1, .2", f"{low:.3f}", ">= .93", low >= 0.93),
        Line(
            "E3 gap 0: not identified",
            f"{zero.not_identified:.3f}",
            ">= .94",
            zero.not_identified >= 0.94,
        ),
        Line("E3 bounded below t_crit", str(wrong), "0", wrong == 0),
        Line("E4 size at T = theta0", f"{size:.4f}", "<= .0325", size <= 0.0325),
    ]


def lines(runs: int, workers: int) -> list[Line]:
    """Every row of the table."""
    with ProcessPoolExecutor(workers) as pool:
        designs = [d for d in grid(runs) if d.possible]
        e2 = pool.map(contrasts, designs, chunksize=4)
        e3 = pool.map(contrasts, gaps(runs))
        powers = [
            Design((0.3, 0.5, 0.5 - c), (S,) * 3, N, 0.02, runs=runs)
            for S, N, c in ((3, 200, 0.1), (5, 500, 0.05), (10, 1000, 0.05), (5, 200, 0.06))
        ]
        e12 = [pool.submit(seen_power, d) for d in powers]
        attacks = [(1, 0.0), (5, 0.0), (10, 0.0), (5, 0.05), (10, 0.05)]
        e6 = [pool.submit(selection, K, winner, runs=runs) for K, winner in attacks]
        cases = [("shift", 1.0), ("shift", 3.0), ("shift", 10.0), ("ceiling", 0.6), ("shift", 60.0)]
        e9 = [pool.submit(multiplier, case, factor, max(runs // 5, 20)) for case, factor in cases]
        e8 = pool.submit(hypervolumes, max(runs // 4, 20))
        holm, looks = pool.submit(family_error, 10, runs), pool.submit(stopping, runs)
        rows = _contrast_lines(list(zip(designs, e2, strict=True))) + _gap_lines(
            list(zip(gaps(runs), e3, strict=True))
        )
        for d, future in zip(powers, e12, strict=True):
            p = future.result()
            rows.append(
                Line(
                    f"E12 power, S={d.seeds[0]} N={d.items}",
                    f"{p.seen:.3f}, predicted {p.predicted:.3f}",
                    "within .05",
                    abs(p.seen - p.predicted) <= 0.05,
                )
            )
        for (K, winner), future in zip(attacks, e6, strict=True):
            e = future.result()
            seen = (
                f"bias {e.split_bias:+.3f} SE, UCB {e.ucb:.3f}, LCB {e.lcb:.3f}; naive "
                f"{e.naive_points:+.1f} points"
            )
            ok = e.split_bias < 0.2 and min(e.ucb, e.lcb) >= 0.97
            rows.append(
                Line(
                    f"E6 K={K}, winner +{100 * winner:g} points", seen, "bias < .2, both >= .97", ok
                )
            )
        for (case, factor), future in zip(cases, e9, strict=True):
            m = future.result()
            if factor == 60.0:
                rows.append(
                    Line("E9 censored", f"said > in {m.greater:.3f}", ">= .95", m.greater >= 0.95)
                )
                continue
            ok = (
                0.93 <= m.ratio <= 1.07
                and m.coverage >= 0.93
                and (case == "shift" or m.shown <= 0.2)
            )
            seen = (
                f"median ratio {m.ratio:.3f}, coverage {m.coverage:.3f}, common shape shown "
                f"{m.shown:.2f}"
            )
            rows.append(
                Line(f"E9 {case} {factor:g}", seen, ".93 to 1.07, >= .93; ceiling: shown <= .2", ok)
            )
        f = e8.result()
        seen = f"bias {f.held_out:+.4f} held out, {f.naive:+.4f} naive, coverage {f.coverage:.3f}"
        ok = abs(f.held_out) < abs(f.naive) and f.coverage >= 0.9
        rows.append(Line("E8 hypervolume", seen, "held out < naive, >= .9", ok))
        rows.append(
            Line("Holm, 10 true nulls", f"{holm.result():.4f}", "<= .06", holm.result() <= 0.06)
        )
        rows.append(
            Line(
                "looks at 5 and 10 seeds", f"{looks.result():.4f}", "<= .06", looks.result() <= 0.06
            )
        )
    return rows


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="simulated studies a cell")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--controls",
        type=Path,
        help="folder of the study `controls`, for the control on real students",
    )
    parser.add_argument("--write", type=Path, default=Path("docs/simulations.md"))
    args = parser.parse_args(words)
    from tests.experiments import laws, laws_transfer  # they take this file's Line

    rows = lines(args.runs, args.workers)
    rows += [
        *laws_transfer.lines(args.runs, args.workers),
        *laws.lines(args.runs, args.workers),
    ]
    if args.controls:
        from experiments.planning.arms import IDENTITY
        from experiments.results import grades, grades_file

        exams = grades_file.read(args.controls / "grades.parquet")
        arms = [
            exams[grades.Key("trace", defense, "sft", 800, "report")].right_SN
            for defense in ("none", IDENTITY)
        ]
        got = undefended_splits(np.concatenate(arms))
        rows.append(
            Line(
                f"undefended against undefended, {got.students} real students, {got.splits} splits",
                f"{got.covered:.3f}",
                ">= .93",
                got.covered >= 0.93,
            )
        )
    table = "\n".join(
        f"| {line.test} | {line.seen} | {line.band} | {'yes' if line.holds else 'NO'} |"
        for line in rows
    )
    text = f"""# What the estimators promise, and what they do

`make simulations` writes this page: {args.runs} simulated studies a cell with known truth (words,
bounds and E8 a quarter of that, E9 a fifth, families of 24 an eighth), through the functions that
reports use. The truth of the lines E2 to E12 is a logistic model with effects of item, arm x item,
seed and seed x item (`simulations.py` in `tests/experiments`); that of the others are students that
answer an item nearly always or nearly never, whose seeds may fail or be lucky (`laws.py`,
`laws_transfer.py`). A part of all of it runs in every `make test`.

| test | seen | pass band | holds |
|---|---|---|---|
{table}
"""
    args.write.parent.mkdir(exist_ok=True)
    args.write.write_text(text)
    print(text)
    if not all(line.holds for line in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
