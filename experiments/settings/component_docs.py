"""What each defence, and each part of an attacker, says of itself: tables, and two pages below
docs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from experiments.settings.attacks import battery, kind_of
from experiments.settings.catalog import config_file, names
from experiments.settings.defenses import parse_defense
from experiments.settings.entries import resolve
from experiments.settings.origins import origin


@dataclass(frozen=True)
class Page:
    """A group of components: its families with their titles, and what is told of each component."""

    group: str
    word: str
    title: str
    reading: str  # what the columns mean
    families: dict[str, str]
    family: Callable[[str], str]
    columns: dict[str, Callable[[Any], str]]
    part: Callable[[str], Any]

    def rows(self) -> list[tuple[str, ...]]:
        """Every shipped component, family by family: its name, what it is, its columns, and the
        first line of its config with what differs from the paper.
        """
        order = list(self.families)
        there = sorted(self.shipped(), key=lambda name: (order.index(self.family(name)), name))
        return [
            (
                name,
                self.kind(name),
                *(told(self.part(name)) for told in self.columns.values()),
                self.purpose(name),
            )
            for name in there
        ]

    def shipped(self) -> list[str]:
        return [name for name in names(self.group) if self.group != "attacker" or not battery(name)]

    def kind(self, name: str) -> str:
        """Whether a component is a paper's method, a port or a rule; or a plugin.

        Args:
            name: in the group.
        """
        what = origin(self.group, name)
        return what.kind if what else "plugin"

    def purpose(self, name: str) -> str:
        """The first line of a component's config, and in what it differs from its source.

        Args:
            name: in the group.
        """
        text = config_file(self.group, name).read_text(encoding="utf-8")
        what, line = origin(self.group, name), text.splitlines()[0].removeprefix("# ")
        return (
            f"{line} *{what.kind.capitalize()}*: {what.differs}." if what and what.differs else line
        )

    def table(self) -> Table:
        """For a terminal."""
        shown = Table(self.word, "is", *self.columns, box=SIMPLE_HEAD, padding=(0, 1))
        for *row, _ in self.rows():
            shown.add_row(*row)
        return shown

    def markdown(self) -> str:
        """The page; a test holds the file to what this returns."""
        lines = [f"# {self.title}", "", self.reading]
        head = [self.word, "is", *self.columns]
        for family, title in self.families.items():
            rows = [row for row in self.rows() if self.family(row[0]) == family]
            lines += ["", f"## {title}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
            lines += [f"| `{name}` | {' | '.join(told)} |" for name, *told, _ in rows]
            lines += ["", *(f"- `{name}`: {said}" for name, *_, said in rows)]
        return "\n".join(lines + self.batteries()) + "\n"

    def batteries(self) -> list[str]:
        """The standard batteries of attacks, for attackers alone."""
        lines = []
        every = map(battery, names("attacker") if self.group == "attacker" else [])
        for listed in filter(None, every):
            title = f"## Battery `{listed.name}`, version {listed.version}"
            lines += ["", title, "", self.purpose(listed.name), ""]
            lines += [
                f"- `{listed.name}/{key}`: `{entry}`" for key, entry in listed.attacks.items()
            ]
        return lines


def _strength(part: Any) -> str:
    """`name: identity to strongest`, or how it is switched off."""
    if strength := part.traits.strength:
        return f"{strength.name}: {_value(strength.identity)} to {_value(strength.strongest)}"
    return ", ".join(f"off: {name}={_value(value)}" for name, value in part.traits.identity.items())


def _value(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


PAGES = {
    "defense": Page(
        group="defense",
        word="defence",
        title="Defences",
        reading="Made by `distill-resist list defenses --markdown > docs/defenses.md`. *Is*: "
        "a `paper`'s method, a `port` of one\nor a `rule` of this project, from "
        "configs/origins.yaml; *acts on*: where a defence shows;\n*strength*: its setting, from "
        "no defence to the strongest; "
        "*passes*: extra forward passes a token; "
        "*needs*: what the provider must have\n(`configs/provider`), and whether it learns "
        "before it can defend; "
        "*keeps argmax*: whether the likeliest next token\nstays so, whatever the settings.",
        families={
            "none": "Undefended",
            "trained": "Trained teachers: the weights are changed",
            "decoding": "Decoding: the next-token distribution is changed",
            "marks": "Marks: what is said is found again, in texts and students (docs/marks.md)",
            "release": "Release: the finished answer, or its logprobs, is changed",
        },
        family=lambda name: name.partition("/")[0],
        columns={
            "acts on": lambda one: str(one.traits.acts_on),
            "strength": _strength,
            "passes": lambda one: _passes(one.traits.extra_forward_passes),
            "needs": lambda one: ", ".join((*one.traits.needs, *["learns"] * one.traits.learns)),
            "keeps argmax": lambda one: _yes(one.traits.keeps_argmax),
            "paper": lambda one: str(one.traits.paper),
        },
        part=lambda name: parse_defense(name).chain.parts[0],
    ),
    "attacker": Page(
        group="attacker",
        word="part",
        title="Attackers",
        reading="Made by `distill-resist list attackers --markdown > docs/attackers.md`. *Is*: "
        "a `paper`'s method, a `port` of one\nor a `rule` of this project, from "
        "configs/origins.yaml. An attacker is a list of "
        "parts in this order, such\nas `ask/repeats(k=4) + clean/vote + sft + "
        "follow/expert_iteration`; exactly one "
        "is how the student learns. *Sees*: what the\ninterface must release; *needs*: what else "
        "the attacker must "
        "have (`configs/own`, `provider.prefill`); *adaptive*: whether\nit reacts to a defence.",
        families={
            "ask": "What is asked",
            "clean": "What is done to the answers",
            "repair": "What is done to released logprobs",
            "learn": "How the student learns",
            "follow": "What follows",
        },
        family=kind_of,
        columns={
            "sees": lambda one: str(one.needs_interface),
            "needs": lambda one: ", ".join(one.needs),
            "adaptive": lambda one: _yes(one.adaptive),
            "paper": lambda one: str(one.paper),
        },
        part=lambda name: resolve("attacker", name).build(),
    ),
}


def _passes(passes: float) -> str:
    """Forward passes beside the teacher's own."""
    return "varies" if math.isnan(passes) else f"{passes:g}"
