"""What each component is: a paper's method, a port of one, or a rule of this project; from one
table, configs/origins.yaml.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from experiments.settings.catalog import cached, config_folder
from experiments.settings.components import Component
from experiments.settings.entries import Strict, checked
from experiments.settings.reading import read


class Origin(Strict):
    """`paper`: the method of a paper, as its formulas or its released code have it; `port`: that
    with something different; `rule`: this project's own. `differs`: what is different, or what the
    paper does instead.
    """

    kind: Literal["paper", "port", "rule"]
    differs: str = Field(default="", max_length=400)

    def __str__(self) -> str:
        return f"{self.kind}: {self.differs}" if self.differs else self.kind


class Origins(Strict):
    """Of every shipped component, by group and name."""

    defense: dict[str, Origin]
    attacker: dict[str, Origin]


@cached
def origins() -> Origins:
    """The table."""
    path = config_folder() / "origins.yaml"
    table: Origins = checked(Origins, read(path), path.name)
    return table


def origin(group: str, name: str) -> Origin | None:
    """What a component is; None of a plugin, which says so in its own documentation.

    Args:
        group: `defense` or `attacker`.
        name: of the component.
    """
    table: dict[str, Origin] = getattr(origins(), group)
    return table.get(name)


def described(parts: tuple[Component, ...]) -> dict[str, str]:
    """What each part of an entry is, by its name.

    Args:
        parts: of one entry.
    """
    there = {part.name: origin(part.group, part.name) for part in parts}
    return {name: str(what) if what else "a plugin" for name, what in there.items()}
