"""Calls of functions that the attacker never defined are dropped.

Who collects answers writes the requests, and with them which functions there are: a call of any
other is the provider's decoy or the teacher's mistake, and nothing to learn. It undoes
`release/decoy_calls` byte for byte. An answer none of whose calls is of a defined function stays as
it is, and so do all where requests define none.
"""

from __future__ import annotations

from collections.abc import Sequence

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.clean import with_text
from distill.completions import Completion
from distill.tool_calls import only_defined


class Settings(Part):
    pass


class Attacker(Base):
    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Every answer with the calls alone that its request defined."""
        form, tools = resources.format, resources.tools
        return [
            with_text(one, only_defined(one.text, form, tools, one.finished)) for one in completions
        ]
