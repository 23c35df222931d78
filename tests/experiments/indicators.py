"""What the detector of each published indicator finds of every preset, as docs/indicators.md.

    python -m tests.experiments.indicators --out docs/indicators.md
    python -m tests.experiments.indicators --accounts 2000 --clean 2 --presets qwen_2026

Each preset is scaled down to so many accounts at its own rate and runs alone beside honest
customers, of whom the small segments are more than in life, so that thresholds at rare rates can
be. Thresholds are by segment, on clean horizons; where a segment has too few customers for a
rate, nobody there is found at it. Intervals are over runs, in each of which the accounts are one
operator's (`detection.across_runs`). A first provider, which shares what `templates` and
`addresses` find at 1e-3, stands beside the one that is measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from defenses.access import (
    BaseDetector,
    Baseline,
    BaselineFitter,
    ShadowMonitor,
    addresses,
    average,
    content,
    cotiming,
    homogeneity,
    mmd,
    onset,
    phrase,
    pivot,
    plan,
    repeats,
    rhythm,
    shared,
    templates,
    volume,
)
from defenses.access.calibration import Calibration
from defenses.access.indicators import ACROSS, INDICATORS, Indicator, covered
from defenses.access.policy import PolicyEnforcer, Rule, Settings
from distill.campaigns import NEVER, SEGMENTS
from distill.campaigns.presets import PRESETS, scaled
from distill.campaigns.settings import Campaign
from experiments.campaigns.neighbour import Neighbour, Overlap
from experiments.campaigns.population import HONEST_SEGMENTS, Population
from experiments.campaigns.simulate import Outcome, simulate
from experiments.measure.detection import Rate, across_runs

RATES = (1e-3, 1e-4)
RELEASE = 8
SHARES = {
    "chat": 0.40,
    "agent": 0.15,
    "api": 0.18,
    "organisation": 0.13,
    "research": 0.09,
    "reseller": 0.05,
}
FILES = (
    volume,
    rhythm,
    onset,
    plan,
    addresses,
    templates,
    phrase,
    repeats,
    pivot,
    cotiming,
    homogeneity,
    content,
    mmd,
    average,
)
BESIDE = Indicator(
    "no published indicator: topics that accounts like theirs do not ask, and pooled customers",
    ("content", "mmd", "average"),
    "a relay asks what customers ask; lawful resellers pool as well",
)
LISTED = (*INDICATORS, ACROSS, BESIDE)
HANDS_ON = ("templates", "addresses")  # what the first provider shares by


class Scale(NamedTuple):
    """Honest accounts, clean horizons, days of each, accounts of a campaign, and its runs."""

    accounts: int
    clean: int
    days: int
    operators: int
    runs: int

    @property
    def honest(self) -> Population:
        segments = {
            name: one.model_copy(update={"share": SHARES[name]})
            for name, one in HONEST_SEGMENTS.items()
        }
        return Population(accounts=self.accounts, segments=segments)

    def campaign(self, name: str) -> Campaign:
        """A preset at its own rate and with so many accounts, cut to the horizon."""
        whole = PRESETS[name].settings
        days = min(whole.days, self.days)
        cut = whole.model_copy(
            update={"days": days, "exchanges": round(whole.exchanges * days / whole.days)}
        )
        small = scaled(cut, min(1.0, self.operators / max(whole.accounts, 1)))
        return Campaign(**small.model_dump())


class Measured(NamedTuple):
    """By detector and rate, what was found of a preset over runs; nothing where it has no account
    that anybody could find.
    """

    preset: str
    shares: dict[str, list[Rate]]


Hits = dict[str, list[tuple[list[int], int]]]
"""By detector, for each run the accounts found at each rate, and how many there were."""


def detectors(learned: Baseline, names: Sequence[str] = ()) -> list[BaseDetector]:
    changed = {pivot: {"release": RELEASE}}
    files = [file for file in FILES if not names or file.Detector.name in names]
    return [file.Detector(file.Settings(**changed.get(file, {})), learned) for file in files]


def watched(scale: Scale, watch: ShadowMonitor, campaigns: Sequence[Campaign], **more) -> Outcome:
    return simulate(scale.honest, campaigns, watch, days=scale.days, release=RELEASE, **more)


def past(scale: Scale) -> Baseline:
    fitter = BaselineFitter(release=7)
    simulate(scale.honest, [], fitter, days=14, seed=1000, release=7)
    return fitter.baseline()


def pooled(runs: Sequence[tuple[Outcome, ShadowMonitor]]) -> Calibration:
    """Clean horizons as one, customers of a horizon each."""
    highest = {
        name: np.concatenate([watch.highest[name][: out.first] for out, watch in runs])
        for name in runs[0][1].highest
    }
    segment = np.concatenate([out.accounts.segment[: out.first] for out, _ in runs])
    owner = [out.truth.owner[: out.first].astype(np.int64) for out, _ in runs]
    return Calibration(
        highest, segment, np.concatenate([ids + (i << 32) for i, ids in enumerate(owner)])
    )


def limits(calibration: Calibration) -> dict[str, np.ndarray]:
    names = calibration.sorted
    return {name: np.stack([calibration.threshold(name, rate) for rate in RATES]) for name in names}


class Market(NamedTuple):
    """What is known before anybody attacks."""

    scale: Scale
    learned: Baseline
    limits: dict[str, np.ndarray]
    elsewhere: dict[str, np.ndarray]


def market(scale: Scale) -> Market:
    learned = past(scale)
    runs = []
    for number in range(scale.clean):
        watch = ShadowMonitor(detectors(learned))
        runs.append((watched(scale, watch, [], seed=2000 + number), watch))
    made = Market(scale, learned, limits(pooled(runs)), {})
    second = []
    for number in range(scale.clean):
        watch = ShadowMonitor([shared.Detector(shared.Settings(), learned)])
        neighbour = hand_on(made, [], 3000 + number, watch)
        out = watched(scale, watch, [], seed=2000 + number, neighbour=neighbour)
        second.append((out, watch))
    return made._replace(elsewhere=limits(pooled(second)))


def hand_on(before: Market, campaigns: Sequence[Campaign], seed: int, watch: ShadowMonitor):
    """Run the first provider, tell a second one, and return who was there."""
    rules = tuple(
        Rule(detector=name, rate=RATES[0], action=action)
        for name in HANDS_ON
        for action in ("share", "ban")
    )
    first = PolicyEnforcer(
        Settings(rules=rules), detectors(before.learned, HANDS_ON), before.limits, RATES
    )
    out = watched(before.scale, first, campaigns, seed=seed)
    watch.receive(first.hands_on())
    return Neighbour(out.accounts, out.truth, Overlap())


def measured(before: Market, name: str) -> Measured:
    """What every detector finds of a preset, over runs of other customers and operators."""
    wanted = before.scale.campaign(name)
    if not wanted.accounts:
        return Measured(name, {})
    hits: Hits = {}
    for run in range(before.scale.runs):
        for happened, watch in horizons(before, wanted, run):
            theirs = slice(happened.first, happened.accounts.count)
            for detector, crossed in watch.crossed.items():
                crossing = (crossed[:, theirs] < NEVER).sum(axis=1).tolist()
                hits.setdefault(detector, []).append((crossing, theirs.stop - theirs.start))
    return Measured(name, {detector: over_runs(seen) for detector, seen in hits.items()})


def horizons(before: Market, wanted: Campaign, run: int) -> Iterator[tuple[Outcome, ShadowMonitor]]:
    """A campaign at a provider alone, and at one that is told what another found."""
    alone = ShadowMonitor(detectors(before.learned), before.limits)
    yield watched(before.scale, alone, [wanted], seed=run), alone
    second = ShadowMonitor([shared.Detector(shared.Settings(), before.learned)], before.elsewhere)
    neighbour = hand_on(before, [wanted], 500 + run, second)
    yield watched(before.scale, second, [wanted], seed=run, neighbour=neighbour), second


def over_runs(seen: Sequence[tuple[list[int], int]]) -> list[Rate]:
    """A share for each rate."""
    of = [count for _, count in seen]
    return [
        across_runs([counts[level] for counts, _ in seen], of, operators=True)
        for level in range(len(RATES))
    ]


def cell(rate: Rate) -> str:
    """A share with its interval; 0 and 1 stand alone, as the page says once what theirs are."""
    if rate.value in (0, 1):
        return f"{rate.value:.0f}"
    return f"{rate.value:.2f} [{rate.lo:.2f}, {rate.hi:.2f}]"


def listed() -> Iterator[str]:
    """Each indicator with its detectors and what these leave out."""
    yield "| indicator | detector | leaves out |"
    yield "|---|---|---|"
    for listing in LISTED:
        names = ", ".join(f"`{name}`" for name in listing.detectors) or "none"
        yield f"| {listing.what} | {names} | {listing.remark} |"


def table(rows: Sequence[Measured], level: int) -> Iterator[str]:
    """Presets down and detectors across, in the order of the indicators."""
    names = [name for one in LISTED for name in one.detectors]
    yield "| preset | " + " | ".join(f"`{name}`" for name in names) + " |"
    yield "|---|" + "--:|" * len(names)
    for row in rows:
        cells = [cell(row.shares[name][level]) if row.shares else "blind" for name in names]
        yield f"| `{row.preset}` | " + " | ".join(cells) + " |"


def page(before: Market, rows: Sequence[Measured], command: str, seconds: float) -> str:
    scale, lines = before.scale, []
    sure = across_runs([1] * scale.runs, [1] * scale.runs, operators=True)
    blind = {
        rate: [
            name
            for s, name in enumerate(SEGMENTS)
            if all(np.isinf(limit[level][s]) for limit in before.limits.values())
        ]
        for level, rate in enumerate(RATES)
    }
    lines += [
        "# The published indicators, measured",
        "",
        f"Written by `{command}` ({seconds / 60:.0f} minutes of a core). Detectors cover "
        f"{covered()} of the {len(INDICATORS)} indicators of AA26-251A as we know them at second "
        "hand (`defenses/access/indicators.py`), and sharing between providers.",
        "",
        *listed(),
        "",
        f"Below is the share of a campaign's accounts found within {scale.days} days, over "
        f"{scale.runs} runs: at most {scale.operators} accounts at the preset's own rate, beside "
        f"{scale.accounts:,} honest accounts; thresholds of {scale.clean} clean horizons, by "
        "segment. Accounts of a run are one operator's, so none is a trial of its own "
        "(docs/measurement.md): *0*, nobody in any run, has the interval [0, "
        f"{1 - sure.lo:.2f}], and *1*, everybody in every run, [{sure.lo:.2f}, 1]. No preset "
        "states what its accounts pay for, from how many addresses and clients they send, or when: "
        "all have one address, one client, the plan `basic` and a day twice as busy as its night "
        "(assumed; a relay has its customers' clocks), so that `addresses` and `rhythm` have "
        "little to see in them. Templates are as many as at full size and accounts few, so that "
        "`templates` sees less than it would. Bought transcripts come through no account: every "
        "detector is blind.",
        "",
    ]
    for level, rate in enumerate(RATES):
        lines += [f"## At {rate:g} of honest customers over the horizon", ""]
        if blind[rate]:
            lines += [
                f"Too few customers to know a threshold: {', '.join(blind[rate])}; accounts that "
                "signed up so are not found.",
                "",
            ]
        lines += [*table(rows, level), ""]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accounts", type=int, default=15_000, help="honest ones")
    parser.add_argument("--clean", type=int, default=8, help="horizons to calibrate on")
    parser.add_argument("--days", type=int, default=21)
    parser.add_argument("--operators", type=int, default=200, help="accounts of a campaign")
    parser.add_argument("--runs", type=int, default=5, help="of each campaign")
    parser.add_argument("--presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--out", type=Path, help="where the page is written; else it is printed")
    args = parser.parse_args(argv)
    clock = time.process_time()
    before = market(Scale(args.accounts, args.clean, args.days, args.operators, args.runs))
    rows = [measured(before, name) for name in args.presets]
    changed = [
        f"--{name} {getattr(args, name)}"
        for name in ("accounts", "clean", "days", "operators", "runs")
        if getattr(args, name) != parser.get_default(name)
    ]
    command = " ".join(["python -m tests.experiments.indicators", *changed])
    text = page(before, rows, command, time.process_time() - clock)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
