"""Templates that know only what they are given: a name that does not exist is an error."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template

UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Letters that nobody sees: codes of terminals, and those that turn the order of others round."""
MARKUP = re.compile(r"\||<(?=[A-Za-z/!?])|(?<=\])[(:\[]|^#+ |^[>`~]|`(?=``)")
"""What begins a cell, a tag, a link, a heading, a quotation or a block of code in Markdown."""


@functools.cache
def template(path: Path, html: bool) -> Template:
    """A template of this folder; what it is given is escaped, with `html` as HTML and else as
    Markdown.

    Args:
        path: of the template.
        html: whether it is HTML, else Markdown.
    """
    from jinja2 import Environment, StrictUndefined

    page = Environment(
        autoescape=html, undefined=StrictUndefined, finalize=seen if html else in_line
    )
    return page.from_string(path.read_text(encoding="utf-8"))


def seen(value: Any) -> Any:
    """A text in which every letter is seen; any other value as it is, and so what was escaped.

    Args:
        value: what a template writes.
    """
    if type(value) is not str:
        return value
    return UNSEEN.sub(lambda letter: letter[0].encode("unicode_escape").decode(), value)


def in_line(value: Any) -> Any:
    """A text that stays words of one line in Markdown; any other value as it is.

    Args:
        value: what a template writes.
    """
    if not isinstance(value, str):
        return value
    return MARKUP.sub(lambda found: f"\\{found[0]}", str(seen(" ".join(value.splitlines()))))
