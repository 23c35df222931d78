"""Campaigns in the report: tables, and plots of leaks, accounts, detectors and who else is hit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from experiments.analysis.campaign_yield import ALL, FUSION
from experiments.report.html import figure, svg
from experiments.report.terminal import points, signed
from experiments.settings.campaigns import Campaigns

TEMPLATE = Path(__file__).with_name("section.html")
MARKERS = "os^DvP*X"


def section(held: Campaigns, measured: dict[str, Any], seeds: int) -> str:
    """The part of the HTML report on campaigns; the same measures give the same bytes."""
    from jinja2 import Environment

    page = Environment(autoescape=True)
    page.filters["share"] = share
    unit = (
        f"{held.exchanges_per_question:g} exchanges a question"
        if held.exchanges_per_question
        else "all exchanges that were planned teach the largest budget"
    )
    harm = {(row["preset"], row["access"], row["segment"]): row for row in measured["harm"]}
    segments = list(dict.fromkeys(row["segment"] for row in measured["harm"]))
    accesses = list(dict.fromkeys(row["access"] for row in measured["harm"]))
    return page.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        m=measured,
        seeds=seeds,
        unit=unit,
        frontier=svg(frontier(measured)),
        days=svg(days(measured)),
        timeline=svg(timeline(measured)),
        roc=svg(roc(measured)),
        tables=_tables(measured, harm),
        detected=_detected(measured),
        segments=segments,
        points=points,
        gain=gain,
        trained=trained,
        money=money,
        ratio=ratio,
        rate=rate,
        worst=worst,
        when=when,
        share=share,
        shade=shade,
        harm=[
            (access, [harm[ALL, access, segment] for segment in segments]) for access in accesses
        ],
    )


def _tables(measured: dict[str, Any], harm: dict[Any, Any]) -> list[tuple[str, str, list[Any]]]:
    at = dict.fromkeys((row["task"], row["preset"]) for row in measured["leaks"])
    return [
        (
            task,
            preset,
            [
                (row, harm[preset, row["access"], ALL])
                for row in measured["leaks"]
                if (row["task"], row["preset"]) == (task, preset)
            ],
        )
        for task, preset in at
    ]


def _detected(measured: dict[str, Any]) -> list[tuple[str, list[tuple[str, list[Any]]]]]:
    rows: dict[str, dict[str, list[Any]]] = {}
    for row in measured["detectors"]:
        rows.setdefault(row["preset"], {}).setdefault(row["detector"], []).append(row)
    return [(preset, list(held.items())) for preset, held in rows.items()]


def lines(measured: dict[str, Any]) -> list[str]:
    """For a terminal: against each pair of defences, the campaign that gains most and what honest
    accounts meet.
    """
    harm = {
        row["access"]: row
        for row in measured["harm"]
        if (row["preset"], row["segment"]) == (ALL, ALL)
    }
    told = []
    for row in measured["worst"]:
        honest = harm[row["access"]]
        told.append(
            f"campaign ({row['task']}, {row['access']}, {row['defense']}): {most(row)} for "
            f"{row['preset']}; "
            f"honest accounts closed {rate(honest['closed'])} %, touched "
            f"{rate(honest['touched'])} %"
        )
    return told


def markdown(measured: dict[str, Any]) -> str:
    """What each campaign gained against each pair of defences, as a Markdown table."""
    heads = (
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
    out = ["", f"| {' | '.join(heads)} |", "|" + "---|" * 3 + "--:|" * 7]
    harm = {
        (row["preset"], row["access"]): row for row in measured["harm"] if row["segment"] == ALL
    }
    for row in measured["leaks"]:
        honest = harm[row["preset"], row["access"]]
        who = f"`{row['preset']}`", row["access"], f"`{row['defense']}`"
        hit = (rate(honest[name]) for name in ("closed", "touched", "limited"))
        cells = (*who, points(row["leaked"]), trained(row), gain(row), ratio(row["times"]), *hit)
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out) + "\n"


# Cells


def gain(row: dict[str, Any]) -> str:
    """Points above the floor with their interval; at least, where a leak lies beyond the largest
    budget.
    """
    least = "≥ " if row.get("beyond") else ""
    return f"{least}{signed(row['gain'])} [{signed(row['gain_lo'])}, {signed(row['gain_hi'])}]"


def most(row: dict[str, Any]) -> str:
    """What was measured, then what the curve says."""
    curve = f"{gain(row)} points by the curve"
    return curve if row["trained"] is None else f"{trained(row)} points, {curve}"


def trained(row: dict[str, Any]) -> str:
    """Points above the floor of the students of exactly what leaked, with Student's interval over
    runs.
    """
    one = row["trained"]
    return (
        "-" if one is None else f"{signed(one['value'])} [{signed(one['lo'])}, {signed(one['hi'])}]"
    )


def money(bill: list[float | None]) -> str:
    """Median and 90 % interval, to two digits; ∞ where nothing was gained."""
    middle, low, high = (_digits(value) for value in bill)
    return f"{middle} [{low}, {high}]"


def ratio(bill: list[float | None] | None) -> str:
    return "not measurable" if bill is None else f"{money(bill)}"


def _digits(value: float | None) -> str:
    """Two significant digits, without an exponent."""
    if value is None:
        return "∞"
    if value == 0:
        return "0"
    places = max(0, 1 - math.floor(math.log10(abs(value))))
    return f"{round(value, 1 - math.floor(math.log10(abs(value)))):,.{places}f}"


def rate(one: dict[str, Any]) -> str:
    """A share in % with its interval over runs."""
    return (
        "-"
        if one["value"] is None
        else f"{share(one['value'])} [{share(one['lo'])}, {share(one['hi'])}]"
    )


def share(value: float | None) -> str:
    """A share in %, with as many decimals as a rare one needs."""
    if value is None:
        return "-"
    return (
        f"{100 * value:.0f}"
        if value in (0, 1)
        else f"{100 * value:.1f}"
        if value >= 0.001
        else f"{100 * value:.2g}"
    )


def worst(row: dict[str, Any]) -> str:
    """The segment in which most customers were flagged."""
    told = {name: one for name, one in row["segments"].items() if one["value"] is not None}
    if not told:
        return ""
    name = max(told, key=lambda segment: told[segment]["value"])
    return f"({name} {share(told[name]['value'])})" if told[name]["hits"] else ""


def when(found: dict[str, float | None]) -> str:
    """Days of the first, the median and the last but tenth account found; never is a dash."""
    return ", ".join("-" if day is None else f"{day:g}" for day in found.values()) or "-"


def shade(value: float | None) -> str:
    """Darker where more honest accounts are touched; white at none."""
    return "#fff" if not value else f"hsl(20 80% {97 - 40 * min(1.0, value / 0.1):.0f}%)"


# Plots


def frontier(measured: dict[str, Any]) -> Any:
    """Capability leaked against honest accounts touched, a panel an output defence; below and to
    the left is better.
    """
    rows = measured["leaks"]
    harm = {
        (row["preset"], row["access"]): row["touched"]
        for row in measured["harm"]
        if row["segment"] == ALL
    }
    panels = list(dict.fromkeys((row["task"], row["defense"]) for row in rows))
    accesses, presets = (
        list(dict.fromkeys(row[name] for row in rows)) for name in ("access", "preset")
    )
    drawn = figure(11, 4.2)
    for axes, at in zip(
        drawn.subplots(1, max(1, len(panels)), squeeze=False, sharey=True)[0], panels, strict=False
    ):
        for row in [row for row in rows if (row["task"], row["defense"]) == at]:
            number = presets.index(row["preset"])
            x = (
                100
                * harm[row["preset"], row["access"]]["value"]
                * 1.04 ** (number - (len(presets) - 1) / 2)
            )
            ends = [[100 * abs(row["gain"] - row[end])] for end in ("gain_lo", "gain_hi")]
            axes.errorbar(
                x,
                100 * row["gain"],
                ends,
                color=f"C{accesses.index(row['access'])}",
                marker=MARKERS[number % len(MARKERS)],
                linestyle="none",
                capsize=2,
                markersize=5,
                elinewidth=0.8,
            )
        axes.set_xscale("symlog", linthresh=0.1, linscale=0.4)
        axes.set(
            title=f"{at[0]}: {at[1]}", xlabel="honest accounts touched (%)", xlim=(-0.02, None)
        )
        axes.title.set_fontsize(9)
    drawn.axes[0].set_ylabel("capability leaked (points above the floor)")
    colours = [(access, {"color": f"C{i}", "marker": "s"}) for i, access in enumerate(accesses)]
    shapes = [
        (preset, {"color": "0.4", "marker": MARKERS[i % len(MARKERS)]})
        for i, preset in enumerate(presets)
    ]
    _key(drawn, colours + shapes)
    return drawn


def _key(drawn: Any, entries: list[tuple[str, dict[str, Any]]]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle=style.pop("linestyle", "none"), **style) for _, style in entries
    ]
    drawn.legend(
        handles, [name for name, _ in entries], fontsize=8, loc="outside right upper", frameon=False
    )


def _width(number: int) -> float:
    """Thinner the later it is drawn, so that lines that lie on one another are all seen."""
    return max(1.0, 3.6 - 0.4 * number)


def _by_preset(measured: dict[str, Any], height: float) -> tuple[Any, dict[str, Any]]:
    """A figure with a panel a campaign."""
    presets = list(dict.fromkeys(row["preset"] for row in measured["days"]))
    drawn = figure(11, height)
    panels = drawn.subplots(1, len(presets), squeeze=False, sharey=True)[0]
    for axes, preset in zip(panels, presets, strict=True):
        axes.set_title(preset, fontsize=9)
    return drawn, dict(zip(presets, panels, strict=True))


def days(measured: dict[str, Any]) -> Any:
    """Leaked so far, by day."""
    drawn, panels = _by_preset(measured, 3.6)
    accesses = list(dict.fromkeys(row["access"] for row in measured["days"]))
    for row in measured["days"]:
        number = accesses.index(row["access"])
        axes, colour = panels[row["preset"]], f"C{number}"
        axes.plot([100 * v for v in row["leaked"]], color=colour, linewidth=_width(number))
        axes.fill_between(
            range(len(row["leaked"])),
            *([100 * v for v in row[end]] for end in ("lo", "hi")),
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        axes.set(xlabel="day", ylim=(-3, 105))
        if measured["release"] is not None:
            axes.axvline(measured["release"], color="0.5", linestyle=":", linewidth=0.8)
    drawn.axes[0].set_ylabel("leaked (% of planned)")
    _key(
        drawn, [(access, {"color": f"C{i}", "linestyle": "-"}) for i, access in enumerate(accesses)]
    )
    return drawn


def timeline(measured: dict[str, Any]) -> Any:
    """A campaign's open accounts by day: what it opens less what is closed."""
    drawn, panels = _by_preset(measured, 3.0)
    accesses = list(dict.fromkeys(row["access"] for row in measured["days"]))
    for row in measured["days"]:
        number, live, held = accesses.index(row["access"]), [], 0.0
        for opened, closed in zip(row["opened"], row["closed"], strict=True):
            held += opened
            live.append(held)
            held -= closed
        panels[row["preset"]].step(
            range(len(live)), live, where="post", color=f"C{number}", linewidth=_width(number)
        )
        panels[row["preset"]].set(xlabel="day", ylim=(0, None))
    drawn.axes[0].set_ylabel("the campaign's open accounts")
    _key(
        drawn, [(access, {"color": f"C{i}", "linestyle": "-"}) for i, access in enumerate(accesses)]
    )
    return drawn


def roc(measured: dict[str, Any]) -> Any:
    """Accounts found against false alarms on a log axis, with the operating points."""
    presets = list(dict.fromkeys(row["preset"] for row in measured["roc"]))
    names = list(dict.fromkeys(row["detector"] for row in measured["roc"]))
    drawn = figure(11, 3.8)
    panels = drawn.subplots(1, max(1, len(presets)), squeeze=False, sharey=True)[0]
    for axes, preset in zip(panels, presets, strict=False):
        for row in (row for row in measured["roc"] if row["preset"] == preset):
            number = names.index(row["detector"])
            style = {"color": "black" if row["detector"] == FUSION else f"C{number % 10}"}
            seen = [
                (100 * f, 100 * t) for f, t in zip(row["fpr"], row["tpr"], strict=True) if f > 0
            ]
            axes.plot(*zip(*seen, strict=True) if seen else ([], []), linewidth=1.2, **style)
        for one in (
            one
            for one in measured["detectors"]
            if one["preset"] == preset and one["detector"] in names
        ):
            if one["told"] and one["false"]["value"]:
                number = names.index(one["detector"])
                axes.plot(
                    100 * one["false"]["value"],
                    100 * one["found"]["value"],
                    marker="o",
                    markersize=4,
                    color="black" if one["detector"] == FUSION else f"C{number % 10}",
                )
        axes.set_title(preset, fontsize=9)
        axes.set(
            xscale="log", xlabel="honest customers flagged (%)", ylim=(-3, 103), xlim=(2e-3, 100)
        )
    drawn.axes[0].set_ylabel("campaign accounts found (%)")
    _key(
        drawn,
        [
            (name, {"color": "black" if name == FUSION else f"C{i % 10}", "linestyle": "-"})
            for i, name in enumerate(names)
        ],
    )
    return drawn
