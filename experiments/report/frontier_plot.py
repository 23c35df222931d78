"""The frontier of a study with many defences: one number a defence, one colour a family, and a key
beside.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments.results.schema.defenses import CaseResult
from experiments.results.schema.words import FAMILIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = dict(
    zip(
        FAMILIES,
        ("#1f5fbf", "#1a7f37", "#b35900", "#a4218f", "#7a5c00", "#0b7f8a", "#57606a"),
        strict=True,
    )
)
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
        short = self.name.removeprefix(f"{self.family.partition(',')[0]}/")
        settings = [_settings(defense) for defense in self.strengths]
        if settings == [SHIPPED]:
            return short
        setting = settings[0].partition("=")[0] + "="
        values = [settings[0], *(text.removeprefix(setting) for text in settings[1:])]
        return f"{short}: {' → '.join(values)}"


SHIPPED = "as shipped"


def _settings(defense: str) -> str:
    return ", ".join(re.findall(r"\((.*?)\)", defense)) or SHIPPED


def bare(defense: str) -> str:
    """An entry of a study without its settings."""
    return re.sub(r"\(.*?\)", "", defense).strip()


def entries(cases: Sequence[CaseResult]) -> list[Entry]:
    """Defences that differ in their settings alone are one; by family, then in the order given."""
    families = {bare(case.defense): case.family for case in reversed(cases)}
    strengths: dict[str, list[str]] = {}
    for defense in dict.fromkeys(case.defense for case in cases):
        strengths.setdefault(bare(defense), []).append(defense)
    made = [Entry(name, families[name], tuple(those)) for name, those in strengths.items()]
    return sorted(made, key=lambda entry: FAMILIES.index(entry.family))


def draw(figure: Figure, cases: Sequence[CaseResult]) -> Figure:
    """Transfer under the worst listed attack against the honest user's loss, a panel a task, on an
    empty figure.

    Args:
        figure: empty; its size is set here.
        cases: of each task's largest budget, at least one.
    """
    tasks = list(dict.fromkeys(case.task for case in cases))
    numbered = dict(enumerate(entries(cases), 1))
    lines = _key(numbered)
    height = max(PANEL * len(tasks), LINE * len(lines) + 1)
    figure.set_layout_engine("none")
    figure.set_size_inches(WIDTH, height)
    each = height / len(tasks)
    losses = [_loss(case) for case in cases]
    ends = (min([-1.0, *losses]) * 1.3, max([10.0, *losses]) * 1.3)
    for place, task in enumerate(tasks):
        bottom = height - (place + 1) * each + 0.55
        axes = figure.add_axes(
            (LEFT / WIDTH, bottom / height, PLOT / WIDTH, (each - 0.95) / height)
        )
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks(TICKS, [str(tick) for tick in TICKS])
        axes.minorticks_off()
        axes.set(title=task, xlim=ends)
        _panel(axes, numbered, [case for case in cases if case.task == task])
    for row, (text, style) in enumerate(lines):
        place_of_line = (LEFT + PLOT + 0.2) / WIDTH, (height - 0.5 - LINE * row) / height
        figure.text(*place_of_line, text, va="center", fontsize=8, **style)
    return figure


def _loss(case: CaseResult) -> float:
    """What the honest user loses, points."""
    return -100 * case.utility.change


def _panel(axes: Axes, numbered: dict[int, Entry], cases: Sequence[CaseResult]) -> None:
    """The cases whose T was measured."""
    shares = {case.defense: case.transfer for case in cases if case.transfer is not None}
    measured = {case.defense: case for case in cases if case.defense in shares}
    losses = [_loss(case) for case in measured.values()]
    axes.set(
        ylim=(min([0.0, *shares.values()]) - 0.12, max([1.0, *shares.values()]) + 0.12),
        ylabel="transfer T (1: all, 0: none)",
        xlabel="teacher's loss under the defence (points; linear up to 1, logarithmic beyond)",
    )
    axes.axhspan(0, 1, color="0.96", zorder=0)
    axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    spots = _side_by_side(axes, losses, list(shares.values()))
    places = dict(zip(measured, spots, strict=True))
    for number, entry in numbered.items():
        shown = [defense for defense in entry.strengths if defense in places]
        xs = [places[defense][0] for defense in shown]
        ys = [places[defense][1] for defense in shown]
        axes.plot(xs, ys, color=COLOURS[entry.family], linewidth=0.7, alpha=0.6, zorder=2)
        for defense in shown:
            _point(axes, str(number), entry, measured[defense], places[defense])


def _point(
    axes: Axes, number: str, entry: Entry, case: CaseResult, place: tuple[float, float]
) -> None:
    """A numbered dot with its interval, and a line to where it would lie by its loss."""
    (x, y), colour, filled = place, COLOURS[entry.family], entry.filled(case.defense)
    low, high = axes.get_ylim()
    ends = (low if case.lcb is None else case.lcb, high if case.hi is None else case.hi)
    axes.plot([x, x], ends, color=colour, linewidth=0.9, alpha=0.3, zorder=1)
    axes.plot([x, _loss(case)], [y, y], color="0.6", linewidth=0.5, zorder=1)
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
        number,
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
