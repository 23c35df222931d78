"""The HTML report: one file with its plots inside."""

from __future__ import annotations

from pathlib import Path

from experiments.measure.flag_kinds import KINDS
from experiments.report import campaign_plots, campaign_section, marks_section, terminal
from experiments.report.headline import findings, shared_remarks
from experiments.report.matrix import cell, colour, gained, matrices
from experiments.report.plots import as_everywhere, bars, by_task, curves, frontier, largest, svg
from experiments.report.templates import template
from experiments.results.schema.exhibits import Exhibits
from experiments.results.schema.measures import Measures

FIDELITY = (
    "agreement",
    "error_consistency",
    "same_wrong",
    "bits_per_byte",
    "brier",
    "nll",
    "confidence_rank",
)
TEMPLATE = Path(__file__).with_name("page.html")
HEADS = (
    "task",
    "attacker",
    "defence",
    "budget",
    "floor %",
    "undefended %",
    "defended %",
    "T",
    "teacher %",
    "steps",
    "tokens",
    "at 2 x steps",
    "bits/byte",
    "verdict",
)


@as_everywhere()
def pages(measures: Measures, shown: Exhibits) -> dict[str, bytes]:
    """What is read and drawn of a run, by the names of its files.

    Args:
        measures: every number of a study.
        shown: what of its grades is shown as it is.
    """
    drawn = plots(measures)
    section = campaign_section.section(measures)
    files = {"report.html": render(measures, drawn, shown, section)} | drawn
    if measures.campaigns:
        files["campaigns.svg"] = svg(campaign_plots.frontier(measures.campaigns))
    return {name: text.encode() for name, text in files.items()}


def plots(measures: Measures) -> dict[str, str]:
    """The plots that are files as well, by their names."""
    drawn = {"transfer.svg": svg(frontier(measures))}
    if not measures.curves:
        return drawn
    return drawn | {"budgets.svg": svg(curves(by_task(measures, measures.curves)))}


def render(measures: Measures, drawn: dict[str, str], shown: Exhibits, campaigns: str) -> str:
    """A self-contained page; the same measures and exhibits give the same bytes.

    Args:
        measures: every number of a study.
        drawn: plots by the names of their files.
        shown: what of its grades is shown as it is.
        campaigns: the section on campaigns; empty where there are none.
    """
    rows, queried = by_task(measures, measures.rows), by_task(measures, measures.curves)
    return template(TEMPLATE, html=True).render(
        study=measures.study,
        measures=measures,
        shown=shown,
        rows=rows,
        teachers=by_task(measures, measures.teachers),
        campaigns=campaigns,
        marks=marks_section.section(measures),
        findings=findings(measures),
        shared=shared_remarks(measures.cases),
        matrices=matrices(measures),
        curved=[curve for curve in queried if curve.is_compared],
        frontier=drawn["transfer.svg"],
        budgets=drawn.get("budgets.svg", ""),
        bars=svg(bars(largest(rows), shown.students)),
        old=terminal.old_results(measures.old) if measures.old else "",
        heads=HEADS,
        fidelity=FIDELITY,
        kinds=KINDS,
        cell=cell,
        colour=colour,
        gained=gained,
        **terminal.FORMATS,
    )
