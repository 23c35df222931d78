"""What each grader says of itself: a table, and a page below docs."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from experiments.tasks.graders.catalog import GRADERS, summary

GROUP = "grader"
READING = (
    "Made by `distill-resist list graders --markdown > docs/graders.md`. A task has one answer "
    "format, which finds the\nfinal answer in a text (`distill/answer_format.py`), and one grader, "
    "which reads it and compares it with the reference."
)


def settings(name: str) -> str:
    """A grader's settings with their defaults."""
    fields = GRADERS[name].Grader.model_fields.items()
    return ", ".join(f"{setting}={field.default}" for setting, field in fields)


def table() -> Table:
    """For a terminal."""
    shown = Table(GROUP, "settings", "what is right", box=SIMPLE_HEAD, padding=(0, 1))
    for name in sorted(GRADERS):
        shown.add_row(name, settings(name), summary(name))
    return shown


def markdown() -> str:
    """The page; a test holds the file to what this returns."""
    lines = ["# Graders", "", READING]
    for name in sorted(GRADERS):
        kind = GRADERS[name].Grader
        text = " ".join((GRADERS[name].__doc__ or "").split())
        lines += ["", f"## `{name}`", "", text, "", " ".join((kind.__doc__ or "").split())]
        lines += ["", f"Settings: {f'`{settings(name)}`' if settings(name) else 'none'}."]
    return "\n".join(lines) + "\n"
