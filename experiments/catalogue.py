"""What each defence says of itself, as a table and as the page docs/defenses.md."""

from __future__ import annotations

from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from experiments.config import config_folder, guard, names

FAMILIES = {
    "none": "Undefended",
    "trained": "Trained teachers: the weights are changed",
    "decoding": "Decoding: the next-token distribution is changed",
    "release": "Release: the finished answer, or its logprobs, is changed",
}
HEAD = ("defence", "acts on", "strength", "passes", "needs", "keeps argmax", "paper")


class Entry(NamedTuple):
    """A defence with the settings of its config."""

    name: str
    point: str
    strength: str
    passes: str
    needs: str
    keeps_argmax: str
    paper: str
    said: str


def entries() -> list[Entry]:
    """Every shipped defence, family by family."""
    order = list(FAMILIES)
    return [_entry(name) for name in sorted(names("defense"), key=lambda n: (order.index(n.partition("/")[0]), n))]


def _entry(name: str) -> Entry:
    (part,) = guard(name).chain.parts
    first = (config_folder() / "defense" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    return Entry(
        name, part.point, _strength(part), f"{part.passes:g}", ", ".join((*part.needs, *["learns"] * part.learns)),
        "yes" if part.keeps_argmax else "no", part.paper, first.removeprefix("# "),
    )  # fmt: skip


def _strength(part: Any) -> str:
    """`name: identity to strongest`, or how it is switched off."""
    if part.knob:
        return f"{part.knob.name}: {_value(part.knob.identity)} to {_value(part.knob.strongest)}"
    return ", ".join(f"off: {name}={_value(value)}" for name, value in part.identity.items())


def _value(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def table() -> Table:
    """For a terminal."""
    shown = Table(*HEAD, box=SIMPLE_HEAD, padding=(0, 1))
    for one in entries():
        shown.add_row(*one[: len(HEAD)])
    return shown


def markdown() -> str:
    """The page; a test holds the file to what this returns."""
    lines = [
        "# Defences", "",
        "Made by `distill-resist list defenses --markdown > docs/defenses.md`. *Acts on*: where a defence shows; "
        "*strength*: its", "knob, from no defence to the strongest; *passes*: extra forward passes a token; *needs*: "
        "what the provider must have", "(`configs/provider`), and whether it learns before it can defend; *keeps "
        "argmax*: whether the likeliest next token", "stays so, whatever the settings.",
    ]  # fmt: skip
    for family, title in FAMILIES.items():
        held = [one for one in entries() if one.name.partition("/")[0] == family]
        lines += ["", f"## {title}", "", f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
        lines += [f"| `{one.name}` | {' | '.join(one[1 : len(HEAD)])} |" for one in held]
        lines += ["", *(f"- `{one.name}`: {one.said}" for one in held)]
    return "\n".join(lines) + "\n"
