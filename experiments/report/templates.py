"""Templates that know only what they are given: a name that does not exist is an error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


def template(path: Path, html: bool) -> Template:
    """A template of this folder; with `html`, what it is given is escaped."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=html, undefined=StrictUndefined)
    return page.from_string(path.read_text(encoding="utf-8"))
