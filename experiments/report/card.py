"""The result card as Markdown."""

from __future__ import annotations

from pathlib import Path

from experiments.measure.flag_kinds import KINDS
from experiments.report import terminal
from experiments.report.templates import template
from experiments.results.schema.card import Card

TEMPLATE = Path(__file__).with_name("card.md")


def markdown(card: Card) -> str:
    """The card for readers."""
    page = template(TEMPLATE, html=False).render(
        c=card,
        kinds=KINDS,
        curved=[curve for curve in card.curves if curve.is_compared],
        old_results=terminal.old_results,
        measured=terminal.measured,
        **terminal.FORMATS,
    )
    return page + "\n"
