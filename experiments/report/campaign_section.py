"""Campaigns in the report: the tables, and how their cells are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.report import campaign_plots
from experiments.report.plots import svg
from experiments.report.templates import in_line, template
from experiments.report.terminal import points, signed
from experiments.results.schema.campaigns import (
    CampaignMeasures,
    DetectorResult,
    HarmResult,
    LeakResult,
    RateResult,
    WorstCampaign,
)
from experiments.results.schema.measures import Measures
from experiments.results.schema.words import ALL

TEMPLATE = Path(__file__).with_name("section.html")
DARKEST = 0.1  # share of honest accounts touched from which a cell is no darker
LESS = {"reduce", "downgrade"}  # what makes answers of an account worth less
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
        frontier=svg(campaign_plots.frontier(campaigns)),
        days=svg(campaign_plots.days(campaigns)),
        timeline=svg(campaign_plots.timeline(campaigns)),
        roc=svg(campaign_plots.roc(campaigns)),
        tables=_leak_tables(campaigns),
        detected=_detector_tables(campaigns),
        harm=_harm_table(campaigns),
        reduced=_reduced_table(campaigns),
        points=points,
        gain=gain,
        trained=trained,
        money=money,
        ratio=ratio,
        rate=rate,
        seen=seen,
        runs=runs,
        worst=worst,
        when=when,
        share=share,
        shade=shade,
    )


# Tables


def _leak_tables(measured: CampaignMeasures) -> list[LeakTable]:
    met, tables = campaign_plots.met_by_run(measured), dict[tuple[str, str], LeakTable]()
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


def _reduced_table(measured: CampaignMeasures) -> HarmTable:
    """The same of the accesses that answer suspects less."""
    table = _harm_table(measured)
    by_access = {
        name: row
        for name, row in table.by_access.items()
        if {*row[0].done} & LESS and row[0].downgraded is not None
    }
    return HarmTable(table.segments, by_access)


def lines(measured: CampaignMeasures) -> list[str]:
    """For a terminal: against each pair of defences, the campaign that gains most and what honest
    accounts meet.
    """
    met = campaign_plots.met_by_run(measured)
    return [_line(row, met[ALL, row.access]) for row in measured.worst]


def _line(row: WorstCampaign, honest: HarmResult) -> str:
    return (
        f"campaign ({row.task}, {row.access}, {row.defense}): {most(row)} for {row.preset}; "
        f"honest accounts closed {rate(honest.closed)} %, touched {rate(honest.touched)} %"
    )


def markdown(measured: CampaignMeasures) -> str:
    """What each campaign gained against each pair of defences, as a Markdown table."""
    met = campaign_plots.met_by_run(measured)
    rows = [_markdown_cells(row, met[row.preset, row.access]) for row in measured.leaks]
    lines = [HEADS, *rows]
    joined = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join(["", joined[0], "|" + "---|" * 3 + "--:|" * 7, *joined[1:]]) + "\n"


def _markdown_cells(row: LeakResult, honest: HarmResult) -> tuple[str, ...]:
    return (
        f"`{in_line(row.preset)}`",
        in_line(row.access),
        f"`{in_line(row.defense)}`",
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
    """Median and 90 % interval, to two digits; ∞ where nothing was gained.

    Args:
        bill: in USD or a ratio of prices; None is infinite.
    """
    middle, low, high = (_digits(value) for value in bill)
    return f"{middle} [{low}, {high}]"


def ratio(bill: Sequence[float | None] | None) -> str:
    """The same of a ratio, or that it is not measurable.

    Args:
        bill: None where it is not.
    """
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


def seen(row: DetectorResult) -> str:
    """Accounts found, in %; or that there are none to find, as where transcripts were bought."""
    return rate(row.found) if row.found.n else "blind"


def runs(row: LeakResult) -> str:
    """What each run leaked, in %."""
    return ", ".join(map(share, row.leaked_runs))


def share(value: float | None) -> str:
    """A share in %, with as many decimals as a rare one needs.

    Args:
        value: 0 to 1; None for a dash.
    """
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
    """Days of the first, the median and the last but tenth account found; never is a dash.

    Args:
        days_found: days from 0, by how many accounts were found; None for never.
    """
    return ", ".join("-" if day is None else f"{day:g}" for day in days_found.values()) or "-"


def shade(value: float | None) -> str:
    """Darker where more honest accounts are touched; white at none.

    Args:
        value: share of honest accounts, 0 to 1, or None.

    Returns:
        A colour of CSS.
    """
    if not value:
        return "#fff"
    return f"hsl(20 80% {97 - 40 * min(1.0, value / DARKEST):.0f}%)"
