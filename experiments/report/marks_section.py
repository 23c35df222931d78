"""Marks in the report: the tables, a picture of p against draws and share, and lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from experiments.report import terminal
from experiments.report.plots import figure, legend, panels_of, svg
from experiments.report.templates import template
from experiments.results.schema.marks import MarkResult
from experiments.results.schema.measures import Measures
from experiments.results.schema.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("marks.html")
DRAWN = ("sold text", "closed", "open, trained windows", "replies")
"""The tests that the picture shows, a panel each."""
MARKERS = "os^DvP*X"


class MarkTable(NamedTuple):
    """The tests of a defence's marks on a task, and the arms whose students were tested."""

    task: str
    defense: str
    arms: list[Row]
    rows: list[MarkResult]


def section(measures: Measures) -> str:
    """The part of the HTML report on marks, nothing where no student was tested.

    Args:
        measures: every number of a study.
    """
    if not measures.marks:
        return ""
    return template(TEMPLATE, html=True).render(
        tables=tables(measures),
        picture=svg(picture(measures.marks)),
        levels=[share.level for share in measures.marks[0].shares],
        **terminal.FORMATS,
    )


def tables(measures: Measures) -> list[MarkTable]:
    """The rows of each task and defence.

    Args:
        measures: every number of a study.
    """
    places = dict.fromkeys((row.task, row.defense) for row in measures.marks)
    return [
        MarkTable(
            task,
            defense,
            [row for row in measures.rows if (row.task, row.defense) == (task, defense)],
            [row for row in measures.marks if (row.task, row.defense) == (task, defense)],
        )
        for task, defense in places
    ]


def lines(rows: Sequence[MarkResult]) -> list[str]:
    """For a terminal: what each arm's students say themselves, or of a trigger reply, with the
    false alarms of the same test. Which test is shown does not depend on what it found.

    Args:
        rows: of a study.
    """
    shown = [row for row in rows if row.test in ("closed", "replies")]
    controls = {_who(row): row for row in shown if row.control}
    return [_line(row, controls.get(_who(row))) for row in shown if not row.control]


def _who(row: MarkResult) -> tuple[str, ...]:
    return row.task, row.defense, row.attacker, str(row.budget), row.mark


def _line(row: MarkResult, control: MarkResult | None) -> str:
    where = f"mark ({row.task}, {row.defense}, {row.attacker}, {row.budget})"
    if row.log10_p is None:
        return f"{where}: {row.test}, no p-value: {row.note}"
    line = f"{where}: {row.test}, log10 p {row.log10_p:.1f}, {_found(row)} at"
    line += f" {row.shares[0].level:g}"
    return line + (f"; undefended {_found(control)}" if control else "")


def _found(row: MarkResult) -> str:
    return f"found {round(row.shares[0].value * row.students)} of {row.students}"


# The picture


def picture(rows: Sequence[MarkResult]) -> Figure:
    """p against draws above, a panel a test, and below against the share of marked data; students
    of one arm are a line, their controls a dotted one.

    Args:
        rows: of a study, at least one.
    """
    shown = [test for test in DRAWN if any(row.test == test and row.curve for row in rows)]
    arms = list(dict.fromkeys((row.task, row.defense) for row in rows))
    drawn = figure(11, 7.5)
    halves = drawn.subfigures(2, 1, squeeze=False)[:, 0]
    for part, draw in zip(halves, (_draws_panel, _share_panel), strict=True):
        panels = panels_of(part, len(shown))
        for axes, test in zip(panels, shown, strict=False):
            draw(axes, [row for row in rows if row.test == test], arms)
            axes.axhline(-5, color="0.7", linewidth=0.8, zorder=0)
            axes.set_yscale("symlog", linthresh=3)
            axes.set_title(test, fontsize=9)
        panels[0].set_ylabel("log10 p, median")
    handles = [_handle(number) for number in range(len(arms))]
    legend(drawn, handles, [f"{task}: {defense}" for task, defense in arms])
    return drawn


def _handle(number: int) -> object:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=f"C{number % 10}", marker=MARKERS[number % len(MARKERS)])


def _draws_panel(axes: Axes, rows: Sequence[MarkResult], arms: Sequence[tuple[str, str]]) -> None:
    for row in rows:
        number = arms.index((row.task, row.defense))
        axes.plot(
            [point.scored for point in row.curve],
            [point.log10_p for point in row.curve],
            color=f"C{number % 10}",
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            linestyle=":" if row.control else "-",
            alpha=0.4 if row.control else 0.4 + 0.6 * row.share,
        )
    axes.set_xscale("log")
    axes.set_xlabel("distinct draws")


def _share_panel(axes: Axes, rows: Sequence[MarkResult], arms: Sequence[tuple[str, str]]) -> None:
    for row in rows:
        if row.log10_p is not None:
            number = arms.index((row.task, row.defense))
            axes.plot(
                [100 * row.share],
                [row.log10_p],
                color=f"C{number % 10}",
                marker=MARKERS[number % len(MARKERS)],
                markersize=5,
                markerfacecolor="none" if row.control else None,
                linestyle="none",
            )
    axes.set(xlabel="marked data (% of tokens)", xlim=(-5, 105))
