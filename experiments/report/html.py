"""The HTML report: one file with its plots inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.measure.flags import KINDS
from experiments.report import campaign_section, terminal
from experiments.report.matrix import cell, colour, gained, matrices
from experiments.report.plots import bars, curves, frontier, largest, svg
from experiments.report.templates import template
from experiments.results.schema.card import Sample
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


def pages(measures: Measures, samples: Sequence[Sample], notes: Sequence[str]) -> dict[str, bytes]:
    """What is read and drawn of a run, by the names of its files."""
    drawn = plots(measures)
    section = campaign_section.section(measures)
    files = {"report.html": render(measures, drawn, samples, notes, section)} | drawn
    if measures.campaigns:
        files["campaigns.svg"] = svg(campaign_section.frontier(measures.campaigns))
    return {name: text.encode() for name, text in files.items()}


def plots(measures: Measures) -> dict[str, str]:
    """The plots that are files as well, by their names."""
    drawn = {"transfer.svg": svg(frontier(measures))}
    return drawn | ({"budgets.svg": svg(curves(measures.curves))} if measures.curves else {})


def render(
    measures: Measures,
    drawn: dict[str, str],
    samples: Sequence[Sample],
    notes: Sequence[str],
    campaigns: str,
) -> str:
    """A self-contained page, with a section on campaigns if there is one; the same measures give
    the same bytes.
    """
    return template(TEMPLATE, html=True).render(
        study=measures.study,
        measures=measures,
        samples=samples,
        notes=notes,
        campaigns=campaigns,
        matrices=matrices(measures),
        curved=[curve for curve in measures.curves if curve.is_compared],
        frontier=drawn["transfer.svg"],
        budgets=drawn.get("budgets.svg", ""),
        bars=svg(bars(largest(measures.rows))),
        old=terminal.kept(measures.old) if measures.old else "",
        heads=HEADS,
        fidelity=FIDELITY,
        kinds=KINDS,
        cell=cell,
        colour=colour,
        gained=gained,
        **terminal.FORMATS,
    )
