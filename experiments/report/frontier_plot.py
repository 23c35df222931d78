"""The frontier of a study with many defences: one number a defence, one colour a family, and a key
beside.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any, NamedTuple

import numpy as np

from experiments.planning.arms import IDENTITY
from experiments.settings.schema import parse_defense

COLOURS = {
    "decoding": "#1f5fbf",
    "release, text": "#1a7f37",
    "release, logprobs": "#b35900",
    "trained": "#a4218f",
    "several": "#0b7f8a",
    "controls": "#57606a",
}
WIDTH, PANEL, LEFT, PLOT, LINE, DOT = 13.0, 5.2, 0.8, 7.4, 0.19, 0.155  # inches
LETTERS = 66  # of the key in a line
FIGURE_SPACE = "\u2007"  # as wide as a digit
TICKS = (-10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50, 100)


class Entry(NamedTuple):
    """One defence of the key: its name without settings, where it acts, and its strengths as the
    study orders them.
    """

    name: str
    family: str
    strengths: tuple[str, ...]

    def filled(self, defense: str) -> float:
        """0 (hollow) for the first strength to 1 for the last; 1 for an only one."""
        most = len(self.strengths) - 1
        return self.strengths.index(defense) / most if most else 1.0

    def __str__(self) -> str:
        """`noise: sigma=0.5 → 2`."""
        told = [
            ", ".join(re.findall(r"\((.*?)\)", defense)) or "as shipped"
            for defense in self.strengths
        ]
        told[1:] = [one.removeprefix(told[0].partition("=")[0] + "=") for one in told[1:]]
        short = self.name.removeprefix(f"{self.family.partition(',')[0]}/")
        return short if told == ["as shipped"] else f"{short}: {' → '.join(told)}"


def bare(defense: str) -> str:
    """An entry of a study without its settings."""
    return re.sub(r"\(.*?\)", "", defense).strip()


def family(defense: str) -> str:
    """Where a defence acts; a chain of several kinds is `several`."""
    if defense == IDENTITY:
        return "controls"
    chosen = parse_defense(defense)
    kinds = {part.name.partition("/")[0] for part in chosen.parts}
    if kinds == {"release"}:
        return "release, logprobs" if chosen.chain.point == "logprobs" else "release, text"
    return kinds.pop() if len(kinds) == 1 else "several"


def entries(defenses: list[str]) -> list[Entry]:
    """Defences that differ in their settings alone are one; by family, then in the order given."""
    held: dict[str, list[str]] = {}
    for defense in dict.fromkeys(defenses):
        held.setdefault(bare(defense), []).append(defense)
    told = [Entry(name, family(those[0]), tuple(those)) for name, those in held.items()]
    return sorted(told, key=lambda entry: list(COLOURS).index(entry.family))


def draw(figure: Any, cases: list[dict[str, Any]]) -> Any:
    """Transfer under the worst listed attack against the honest user's loss, a panel a task, on an
    empty figure.
    """
    tasks = list(dict.fromkeys(case["task"] for case in cases))
    numbered = dict(enumerate(entries([case["defense"] for case in cases]), 1))
    lines = _key(numbered)
    height = max(PANEL * len(tasks), LINE * len(lines) + 1)
    figure.set_layout_engine("none")
    figure.set_size_inches(WIDTH, height)
    each = height / len(tasks)
    losses = [-100 * case["utility"]["change"] for case in cases]
    for place, task in enumerate(tasks):
        bottom = height - (place + 1) * each + 0.55
        axes = figure.add_axes(
            (LEFT / WIDTH, bottom / height, PLOT / WIDTH, (each - 0.95) / height)
        )
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks(TICKS, [str(tick) for tick in TICKS])
        axes.minorticks_off()
        axes.set(title=task, xlim=(min([-1.0, *losses]) * 1.3, max([10.0, *losses]) * 1.3))
        _panel(
            axes,
            numbered,
            [case for case in cases if case["task"] == task and case["transfer"] is not None],
        )
    for row, (text, style) in enumerate(lines):
        at = (LEFT + PLOT + 0.2) / WIDTH, (height - 0.5 - LINE * row) / height
        figure.text(*at, text, va="center", fontsize=8, **style)
    return figure


def _panel(axes: Any, numbered: dict[int, Entry], cases: list[dict[str, Any]]) -> None:
    losses, shares = (
        [-100 * case["utility"]["change"] for case in cases],
        [case["transfer"] for case in cases],
    )
    axes.set(
        ylim=(min([0.0, *shares]) - 0.12, max([1.0, *shares]) + 0.12),
        ylabel="transfer T (1: all, 0: none)",
        xlabel="teacher's loss under the defence (points; linear up to 1, logarithmic beyond)",
    )
    axes.axhspan(0, 1, color="0.96", zorder=0)
    axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    low, high = axes.get_ylim()
    by = {case["defense"]: case for case in cases}
    at = dict(zip(by, _side_by_side(axes, losses, shares), strict=True))
    for number, entry in numbered.items():
        colour, here = (
            COLOURS[entry.family],
            [defense for defense in entry.strengths if defense in at],
        )
        axes.plot(
            [at[d][0] for d in here],
            [at[d][1] for d in here],
            color=colour,
            linewidth=0.7,
            alpha=0.6,
            zorder=2,
        )
        for defense in here:
            (x, y), case, filled = at[defense], by[defense], entry.filled(defense)
            ends = (
                low if case["lcb"] is None else case["lcb"],
                high if case["hi"] is None else case["hi"],
            )
            axes.plot([x, x], ends, color=colour, linewidth=0.9, alpha=0.3, zorder=1)
            axes.plot(
                [x, -100 * case["utility"]["change"]], [y, y], color="0.6", linewidth=0.5, zorder=1
            )
            axes.plot(
                x,
                y,
                "o",
                markersize=72 * DOT,
                markeredgecolor=colour,
                color=_tint(colour, filled),
                zorder=3,
            )
            axes.annotate(
                str(number),
                (x, y),
                ha="center",
                va="center_baseline",
                fontsize=6.5,
                zorder=4,
                color="white" if filled > 0.5 else colour,
            )


def _side_by_side(axes: Any, losses: list[float], shares: list[float]) -> list[tuple[float, float]]:
    """Every point at its own height, moved sideways by as little as keeps it off those placed
    before it.
    """
    apart, placed = DOT * axes.figure.dpi, dict[int, tuple[float, float]]()
    spots = axes.transData.transform(np.column_stack([losses, shares]))
    for i in np.lexsort(spots.T[::-1]):
        x, y = spots[i]
        tries = (x + sign * k * apart / 4 for k in range(8 * len(spots) + 1) for sign in (1, -1))
        free = (
            t
            for t in tries
            if all((t - a) ** 2 + (y - b) ** 2 >= apart**2 for a, b in placed.values())
        )
        placed[i] = next(free), y
    return [tuple(axes.transData.inverted().transform(placed[i])) for i in range(len(spots))]


def _tint(colour: str, share: float) -> tuple[float, ...]:
    """White at 0, the colour at 1."""
    from matplotlib.colors import to_rgb

    return tuple(1 - share * (1 - part) for part in to_rgb(colour))


def _key(numbered: dict[int, Entry]) -> list[tuple[str, dict[str, Any]]]:
    """Lines of the key with their style."""
    lines: list[tuple[str, dict[str, Any]]] = []
    last = ""
    for number, entry in numbered.items():
        if entry.family != last:
            lines += [("", {})] * bool(last)
            lines.append((last := entry.family, {"color": COLOURS[entry.family], "weight": "bold"}))
        text = f"{number}".rjust(2, FIGURE_SPACE) + f"  {entry}"
        lines += [(line, {}) for line in textwrap.wrap(text, LETTERS, subsequent_indent=6 * " ")]
    notes = (
        "hollow: the first strength named, filled: the last; worst listed attack",
        "moved sideways where they would overlap; a grey line leads to the loss",
    )
    return [*lines, ("", {}), *((note, {"color": "0.3", "style": "italic"}) for note in notes)]
