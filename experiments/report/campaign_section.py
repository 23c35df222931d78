"""Campaigns in the report: tables, and plots of leaks, accounts, detectors and who else is hit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from experiments.report.plots import figure, legend, panels_of, svg
from experiments.report.templates import template
from experiments.report.terminal import points, signed
from experiments.results.schema.campaigns import (
    CampaignMeasures,
    DaysResult,
    DetectorResult,
    HarmResult,
    LeakResult,
    RateResult,
    RocResult,
    WorstCampaign,
)
from experiments.results.schema.measures import Measures
from experiments.results.schema.words import ALL, FUSION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("section.html")
MARKERS = "os^DvP*X"
DARKEST = 0.1  # share of honest accounts touched from which a cell is no darker
HEADS = (
    "campaign",
    "access",
    "output defence",
    "leaked %",
    "trained (points)",
    "by the curve (points)",
    "dollars a point, × open and undefended",
    "honest closed %",
    "touched %",
    "limited %",
)


class LeakTable(NamedTuple):
    """A campaign against a task: each access and output defence with what honest accounts met."""

    task: str
    preset: str
    rows: list[tuple[LeakResult, HarmResult]]

    @property
    def lawful(self) -> bool:
        return self.rows[0][0].lawful


class DetectorTable(NamedTuple):
    """A campaign: by detector, a result a rate."""

    preset: str
    lawful: bool
    by_detector: dict[str, list[DetectorResult]]


class HarmTable(NamedTuple):
    """What honest accounts met on average over campaigns: by access, a result a segment."""

    segments: list[str]
    by_access: dict[str, list[HarmResult]]


def section(measures: Measures) -> str:
    """The part of the HTML report on campaigns, nothing where there are none; the same measures
    give the same bytes.
    """
    campaigns, per_question = measures.campaigns, measures.study.exchanges_per_question
    if campaigns is None:
        return ""
    unit = "all exchanges that were planned teach the largest budget"
    if per_question:
        unit = f"{per_question:g} exchanges a question"
    return template(TEMPLATE, html=True).render(
        m=campaigns,
        seeds=measures.study.seeds,
        unit=unit,
        frontier=svg(frontier(campaigns)),
        days=svg(days(campaigns)),
        timeline=svg(timeline(campaigns)),
        roc=svg(roc(campaigns)),
        tables=_leak_tables(campaigns),
        detected=_detector_tables(campaigns),
        harm=_harm_table(campaigns),
        points=points,
        gain=gain,
        trained=trained,
        money=money,
        ratio=ratio,
        rate=rate,
        runs=runs,
        worst=worst,
        when=when,
        share=share,
        shade=shade,
    )


# Tables


def _met(measured: CampaignMeasures) -> dict[tuple[str, str], HarmResult]:
    """What honest accounts met, all segments together, by campaign and access."""
    return {(row.preset, row.access): row for row in measured.harm if row.segment == ALL}


def _leak_tables(measured: CampaignMeasures) -> list[LeakTable]:
    met, tables = _met(measured), dict[tuple[str, str], LeakTable]()
    for row in measured.leaks:
        at = (row.task, row.preset)
        tables.setdefault(at, LeakTable(*at, [])).rows.append((row, met[row.preset, row.access]))
    return list(tables.values())


def _detector_tables(measured: CampaignMeasures) -> list[DetectorTable]:
    tables = dict[str, DetectorTable]()
    for row in measured.detectors:
        table = tables.setdefault(row.preset, DetectorTable(row.preset, row.lawful, {}))
        table.by_detector.setdefault(row.detector, []).append(row)
    return list(tables.values())


def _harm_table(measured: CampaignMeasures) -> HarmTable:
    table = HarmTable(list(dict.fromkeys(row.segment for row in measured.harm)), {})
    for row in measured.harm:
        if row.preset == ALL:
            table.by_access.setdefault(row.access, []).append(row)
    return table


def lines(measured: CampaignMeasures) -> list[str]:
    """For a terminal: against each pair of defences, the campaign that gains most and what honest
    accounts meet.
    """
    met = _met(measured)
    return [_line(row, met[ALL, row.access]) for row in measured.worst]


def _line(row: WorstCampaign, honest: HarmResult) -> str:
    return (
        f"campaign ({row.task}, {row.access}, {row.defense}): {most(row)} for {row.preset}; "
        f"honest accounts closed {rate(honest.closed)} %, touched {rate(honest.touched)} %"
    )


def markdown(measured: CampaignMeasures) -> str:
    """What each campaign gained against each pair of defences, as a Markdown table."""
    met = _met(measured)
    rows = [_markdown_cells(row, met[row.preset, row.access]) for row in measured.leaks]
    lines = [HEADS, *rows]
    joined = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join(["", joined[0], "|" + "---|" * 3 + "--:|" * 7, *joined[1:]]) + "\n"


def _markdown_cells(row: LeakResult, honest: HarmResult) -> tuple[str, ...]:
    return (
        f"`{row.preset}`",
        row.access,
        f"`{row.defense}`",
        points(row.leaked),
        trained(row),
        gain(row),
        ratio(row.times),
        rate(honest.closed),
        rate(honest.touched),
        rate(honest.limited),
    )


# Cells


def gain(row: LeakResult | WorstCampaign) -> str:
    """Points above the floor with their interval; at least, where a leak lies beyond the largest
    budget.
    """
    least = "≥ " if row.beyond else ""
    return f"{least}{signed(row.gain)} [{signed(row.gain_lo)}, {signed(row.gain_hi)}]"


def most(row: LeakResult | WorstCampaign) -> str:
    """What was measured, then what the curve says."""
    curve = f"{gain(row)} points by the curve"
    return curve if row.trained is None else f"{trained(row)} points, {curve}"


def trained(row: LeakResult | WorstCampaign) -> str:
    """Points above the floor of the students of exactly what leaked, with Student's interval over
    runs.
    """
    estimate = row.trained
    if estimate is None:
        return "-"
    return f"{signed(estimate.value)} [{signed(estimate.lo)}, {signed(estimate.hi)}]"


def money(bill: Sequence[float | None]) -> str:
    """Median and 90 % interval, to two digits; ∞ where nothing was gained."""
    middle, low, high = (_digits(value) for value in bill)
    return f"{middle} [{low}, {high}]"


def ratio(bill: Sequence[float | None] | None) -> str:
    return "not measurable" if bill is None else money(bill)


def _digits(value: float | None) -> str:
    """Two significant digits, without an exponent."""
    if value is None:
        return "∞"
    if value == 0:
        return "0"
    decimals = 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):,.{max(0, decimals)}f}"


def rate(result: RateResult) -> str:
    """A share in % with its interval over runs."""
    if result.value is None:
        return "-"
    return f"{share(result.value)} [{share(result.lo)}, {share(result.hi)}]"


def runs(row: LeakResult) -> str:
    """What each run leaked, in %."""
    return ", ".join(map(share, row.leaked_runs))


def share(value: float | None) -> str:
    """A share in %, with as many decimals as a rare one needs."""
    if value is None:
        return "-"
    if value in (0, 1):
        return f"{100 * value:.0f}"
    return f"{100 * value:.1f}" if value >= 0.001 else f"{100 * value:.2g}"


def worst(row: DetectorResult) -> str:
    """The segment in which most customers were flagged."""
    measured = {name: one.value for name, one in row.segments.items() if one.value is not None}
    if not measured:
        return ""
    name = max(measured, key=lambda segment: measured[segment])
    return f"({name} {share(measured[name])})" if row.segments[name].hits else ""


def when(days_found: Mapping[str, int | None]) -> str:
    """Days of the first, the median and the last but tenth account found; never is a dash."""
    return ", ".join("-" if day is None else f"{day:g}" for day in days_found.values()) or "-"


def shade(value: float | None) -> str:
    """Darker where more honest accounts are touched; white at none."""
    if not value:
        return "#fff"
    return f"hsl(20 80% {97 - 40 * min(1.0, value / DARKEST):.0f}%)"


# Plots


def frontier(measured: CampaignMeasures) -> Figure:
    """Capability leaked against honest accounts touched, a panel an output defence; below and to
    the left is better.
    """
    rows, met = measured.leaks, _met(measured)
    pairs = list(dict.fromkeys((row.task, row.defense) for row in rows))
    accesses, presets = (_names(row.access for row in rows), _names(row.preset for row in rows))
    drawn = figure(11, 4.2)
    panels = panels_of(drawn, len(pairs))
    for axes, pair in zip(panels, pairs, strict=False):
        for row in (row for row in rows if (row.task, row.defense) == pair):
            number = presets.index(row.preset)
            apart = 1.04 ** (number - (len(presets) - 1) / 2)
            touched = met[row.preset, row.access].touched.value or 0.0
            _leak_point(axes, row, 100 * touched * apart, number, accesses.index(row.access))
        axes.set_xscale("symlog", linthresh=0.1, linscale=0.4)
        axes.set(title=f"{pair[0]}: {pair[1]}", xlabel="honest accounts touched (%)")
        axes.set_xlim(-0.02, None)
        axes.title.set_fontsize(9)
    panels[0].set_ylabel("capability leaked (points above the floor)")
    shapes = [("0.4", MARKERS[i % len(MARKERS)]) for i in range(len(presets))]
    colours = [(f"C{i}", "s") for i in range(len(accesses))]
    _key(drawn, [*accesses, *presets], [*colours, *shapes])
    return drawn


def _leak_point(axes: Axes, row: LeakResult, x: float, preset: int, access: int) -> None:
    axes.errorbar(
        x,
        100 * row.gain,
        [[100 * abs(row.gain - row.gain_lo)], [100 * abs(row.gain - row.gain_hi)]],
        color=f"C{access}",
        marker=MARKERS[preset % len(MARKERS)],
        linestyle="none",
        capsize=2,
        markersize=5,
        elinewidth=0.8,
    )


def _names(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _key(
    drawn: Figure,
    names: Sequence[str],
    styles: Sequence[tuple[str, str]],
    line: Literal["-", "none"] = "none",
) -> None:
    """A key of colours and markers."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle=line, color=colour, marker=marker) for colour, marker in styles
    ]
    legend(drawn, handles, names)


def _line_key(drawn: Figure, names: Sequence[str], colours: Sequence[str]) -> None:
    """A key of colours of lines."""
    _key(drawn, names, [(colour, "") for colour in colours], "-")


def _width(number: int) -> float:
    """Thinner the later it is drawn, so that lines that lie on one another are all seen."""
    return max(1.0, 3.6 - 0.4 * number)


def _by_preset(
    rows: Sequence[DaysResult] | Sequence[RocResult], height: float
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel a campaign."""
    presets = _names(row.preset for row in rows)
    drawn = figure(11, height)
    panels = dict(zip(presets, panels_of(drawn, len(presets)), strict=False))
    for preset, axes in panels.items():
        axes.set_title(preset, fontsize=9)
    return drawn, panels


def days(measured: CampaignMeasures) -> Figure:
    """Leaked so far, by day."""
    drawn, panels = _by_preset(measured.days, 3.6)
    accesses = _names(row.access for row in measured.days)
    for row in measured.days:
        number, axes = accesses.index(row.access), panels[row.preset]
        axes.plot(_percent(row.leaked), color=f"C{number}", linewidth=_width(number))
        axes.fill_between(
            range(len(row.leaked)),
            _percent(row.lo),
            _percent(row.hi),
            color=f"C{number}",
            alpha=0.15,
            linewidth=0,
        )
        axes.set(xlabel="day", ylim=(-3, 105))
        if measured.release is not None:
            axes.axvline(measured.release, color="0.5", linestyle=":", linewidth=0.8)
    drawn.axes[0].set_ylabel("leaked (% of planned)")
    _line_key(drawn, accesses, [f"C{i}" for i in range(len(accesses))])
    return drawn


def _percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]


def timeline(measured: CampaignMeasures) -> Figure:
    """A campaign's open accounts by day: what it opens less what is closed."""
    drawn, panels = _by_preset(measured.days, 3.0)
    accesses = _names(row.access for row in measured.days)
    for row in measured.days:
        number, axes = accesses.index(row.access), panels[row.preset]
        live = _open_accounts(row)
        axes.step(
            range(len(live)), live, where="post", color=f"C{number}", linewidth=_width(number)
        )
        axes.set(xlabel="day", ylim=(0, None))
    drawn.axes[0].set_ylabel("the campaign's open accounts")
    _line_key(drawn, accesses, [f"C{i}" for i in range(len(accesses))])
    return drawn


def _open_accounts(row: DaysResult) -> list[float]:
    """By day, before what is closed on that day."""
    live, before = [], 0.0
    for opened, closed in zip(row.opened, row.closed, strict=True):
        live.append(before + opened)
        before += opened - closed
    return live


def roc(measured: CampaignMeasures) -> Figure:
    """Accounts found against false alarms on a log axis, with the operating points."""
    drawn, panels = _by_preset(measured.roc, 3.8)
    names = _names(row.detector for row in measured.roc)
    colours = {name: "black" if name == FUSION else f"C{i % 10}" for i, name in enumerate(names)}
    for row in measured.roc:
        seen = [(f, t) for f, t in zip(row.fpr, row.tpr, strict=True) if f > 0]
        panels[row.preset].plot(
            _percent([f for f, _ in seen]),
            _percent([t for _, t in seen]),
            linewidth=1.2,
            color=colours[row.detector],
        )
    for point in measured.detectors:
        if point.preset in panels and point.detector in colours:
            _operating_point(panels[point.preset], point, colours[point.detector])
    for axes in panels.values():
        axes.set(xscale="log", xlabel="honest customers flagged (%)", ylim=(-3, 103))
        axes.set_xlim(2e-3, 100)
    drawn.axes[0].set_ylabel("campaign accounts found (%)")
    _line_key(drawn, names, list(colours.values()))
    return drawn


def _operating_point(axes: Axes, point: DetectorResult, colour: Any) -> None:
    """A dot, where honest customers are enough to see the rate and some were flagged."""
    share_found, false_alarms = point.found.value, point.false.value
    if point.told and false_alarms and share_found is not None:
        axes.plot(100 * false_alarms, 100 * share_found, marker="o", markersize=4, color=colour)
