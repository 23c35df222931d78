"""Text for a terminal as it is: names, questions and paths come from others, and are no markup and
no codes.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text


class Plain(Console):
    """A console that takes no markup, no emoji and no terminal codes from what it prints.

    Args:
        **options: of rich's console.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string that is printed comes by here, those in tables too.

        Args:
            text: of any origin.
            **options: of rich.
        """
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)

    def on_broken_pipe(self) -> None:
        """A reader that had enough is for the command line to see; rich would end the process.

        Raises:
            BrokenPipeError: always.
        """
        raise BrokenPipeError


def printable(text: str) -> str:
    """The text in one line, with its control letters and what no encoding holds
    written as escapes.
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
