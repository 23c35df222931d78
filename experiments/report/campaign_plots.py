"""Plots of campaigns: leaks, accounts, detectors and who else is hit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from experiments.report.plots import figure, legend, panels_of
from experiments.results.schema.campaigns import (
    CampaignMeasures,
    DaysResult,
    DetectorResult,
    HarmResult,
    LeakResult,
    RocResult,
)
from experiments.results.schema.words import ALL, FUSION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MARKERS = "os^DvP*X"


def met_by_run(measured: CampaignMeasures) -> dict[tuple[str, str], HarmResult]:
    """What honest accounts met, all segments together, by campaign and access."""
    return {(row.preset, row.access): row for row in measured.harm if row.segment == ALL}


def frontier(measured: CampaignMeasures) -> Figure:
    """Capability leaked against honest accounts touched, a panel an output defence; below and to
    the left is better.
    """
    rows, met = measured.leaks, met_by_run(measured)
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
    if point.measurable and false_alarms and share_found is not None:
        axes.plot(100 * false_alarms, 100 * share_found, marker="o", markersize=4, color=colour)
