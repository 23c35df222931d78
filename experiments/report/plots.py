"""The plots of a report, drawn from its measures."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from experiments.report import frontier_plot
from experiments.results.schema.curves import CurveResult
from experiments.results.schema.defenses import CaseResult
from experiments.results.schema.exhibits import StudentAccuracies
from experiments.results.schema.measures import Measures
from experiments.results.schema.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED = 12  # defences that the frontier can tell apart by colour and marker
LONG = 45  # letters of an arm's name
MARKERS = "os^Dv"
BESIDE = 0.27  # of the height of a bar


class OfTask(Protocol):
    """What belongs to a task."""

    @property
    def task(self) -> str: ...


class AtBudget(OfTask, Protocol):
    """What belongs to a task and a budget."""

    @property
    def budget(self) -> int: ...


OfTaskT = TypeVar("OfTaskT", bound=OfTask)
AtBudgetT = TypeVar("AtBudgetT", bound=AtBudget)


@contextlib.contextmanager
def as_everywhere() -> Iterator[None]:
    """Within, plots are drawn alike whatever a user's own matplotlibrc says, and that holds again
    behind it. No backend is used, so that a wrong one in MPLBACKEND is none of ours.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    with matplotlib.rc_context():
        defaults = matplotlib.rcParamsDefault.items()
        matplotlib.rcParams.update({name: value for name, value in defaults if name != "backend"})
        matplotlib.rcParams["svg.hashsalt"] = "distill-resist"
        yield


def figure(width: float, height: float) -> Figure:
    """An empty figure.

    Args:
        width: inches.
        height: inches.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(drawn: Figure) -> str:
    """A figure as SVG; the same figure gives the same bytes."""
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def panels_of(drawn: Figure, count: int) -> list[Axes]:
    """Panels side by side, with one vertical axis.

    Args:
        drawn: an empty figure.
        count: of panels; one is made of none.
    """
    return list(drawn.subplots(1, max(1, count), squeeze=False, sharey=True)[0])


def legend(drawn: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A key to the right of the panels.

    Args:
        drawn: a figure with its panels.
        handles: of what is drawn.
        labels: a handle each.
    """
    drawn.legend(handles, labels, fontsize=8, loc="outside right upper", frameon=False)


def largest(tables: Sequence[AtBudgetT]) -> list[AtBudgetT]:
    """Where budgets are an axis, those of each task's largest.

    Args:
        tables: of any tasks and budgets.
    """
    most: dict[str, int] = {}
    for table in tables:
        most[table.task] = max(table.budget, most.get(table.task, 0))
    return [table for table in tables if table.budget == most[table.task]]


def by_task(measures: Measures, tables: Sequence[OfTaskT]) -> list[OfTaskT]:
    """Tables of several tasks in the order in which the verdicts have them.

    Args:
        measures: of a study.
        tables: in any order of tasks; those of one task stay in theirs.
    """
    every = [*(case.task for case in measures.cases), *(table.task for table in tables)]
    tasks = [*dict.fromkeys(every)]
    return sorted(tables, key=lambda table: tasks.index(table.task))


# Transfer against the honest user's loss


def frontier(measures: Measures) -> Figure:
    """Transfer against what the honest user loses, a panel a task; below and to the left is better
    for the provider.

    Where budgets are an axis, the largest is drawn. Many defences are numbered, each at its worst
    attack.
    """
    if is_crowded(measures.cases):
        return frontier_plot.draw(figure(11, 4.2), largest(measures.cases))
    rows = largest(by_task(measures, measures.rows))
    tasks = list(dict.fromkeys(row.task for row in rows))
    arms = list(dict.fromkeys((r.defense, r.attacker) for r in rows if not r.is_baseline))
    drawn = figure(11, 4.2)
    panels = panels_of(drawn, len(tasks))
    for axes, task in zip(panels, tasks, strict=True):
        _frontier_panel(axes, task, [row for row in rows if row.task == task], arms)
    panels[0].set_ylabel("transfer T (1: all, 0: none)")
    key: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        key |= dict(zip(labels, handles, strict=True))
    if key:
        legend(drawn, list(key.values()), list(key))
    return drawn


def is_crowded(cases: Sequence[CaseResult]) -> bool:
    """Whether defences are too many to be told apart by colour and marker."""
    return len({frontier_plot.bare(case.defense) for case in cases}) > MOST_NAMED


def _frontier_panel(
    axes: Axes, task: str, rows: Sequence[Row], arms: Sequence[tuple[str, str]]
) -> None:
    axes.axhspan(0, 1, color="0.96", zorder=0)
    axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    shown = [row for row in rows if not row.is_baseline and row.transfer is not None]
    costs = [100 * (row.teacher_clean - row.teacher_defended) for row in shown]
    low, high = min([-2.0, *costs]), max([10.0, *costs])
    step = (high - low) / 40
    several = len({attacker for _, attacker in arms}) > 1
    for row, cost, x in zip(shown, costs, _apart(costs, step), strict=True):
        number, T = arms.index((row.defense, row.attacker)), row.transfer or 0.0
        axes.plot([cost, x], [T, T], color="0.6", linewidth=0.7, zorder=1)
        axes.errorbar(
            x,
            T,
            _whiskers(row),
            capsize=3,
            color=f"C{number % 10}",
            marker=MARKERS[number % len(MARKERS)],
            linestyle="none",
            label=_name(row) if several else row.defense,
        )
    axes.set(
        title=task,
        xlabel="teacher's loss under the defence (points)",
        xlim=(low - 4 * step, high + 4 * step),
    )


def _apart(costs: Sequence[float], step: float) -> list[float]:
    """Where marks are drawn: at their cost, or beside marks that are nearer to it than a step."""
    placed: list[float] = []
    for cost in costs:
        tries = (cost + sign * k * step for k in range(len(costs) + 1) for sign in (1, -1))
        placed.append(next(x for x in tries if all(abs(x - p) >= 0.99 * step for p in placed)))
    return placed


def _whiskers(row: Row) -> list[list[float]]:
    """Lengths below and above T; none where an end is unbounded."""
    T = row.transfer or 0.0
    low = T if row.transfer_lo is None else row.transfer_lo
    high = T if row.transfer_hi is None else row.transfer_hi
    return [[T - low], [high - T]]


# Accuracy against exchanges


def curves(rows: Sequence[CurveResult]) -> Figure:
    """Accuracy against exchanges with intervals, a panel a task and attacker.

    Args:
        rows: at least one.
    """
    pairs = list(dict.fromkeys((row.task, row.attacker) for row in rows))
    drawn = figure(11, 4.2)
    panels = panels_of(drawn, len(pairs))
    for axes, pair in zip(panels, pairs, strict=True):
        _curve_panel(axes, [row for row in rows if (row.task, row.attacker) == pair])
    panels[0].set_ylabel("student accuracy (%)")
    legend(drawn, *panels[0].get_legend_handles_labels())
    return drawn


def _curve_panel(axes: Axes, rows: Sequence[CurveResult]) -> None:
    first = rows[0]
    own_data = _percent(first.own_data)
    axes.plot(first.budgets, own_data, color="0.6", linestyle=":", label="own data alone")
    axes.axhline(100 * first.zero, color="black", linewidth=0.8, linestyle="--", label="n = 0")
    for i, row in enumerate(rows):
        shift = 1.02 ** (i - (len(rows) - 1) / 2)  # bars of one budget stand side by side
        below = [100 * (v - lo) for v, lo in zip(row.values, row.lo, strict=True)]
        above = [100 * (hi - v) for v, hi in zip(row.values, row.hi, strict=True)]
        axes.errorbar(
            [n * shift for n in row.budgets],
            _percent(row.values),
            [below, above],
            capsize=2,
            marker=MARKERS[i % len(MARKERS)],
            markersize=4,
            label=row.defense,
            color=f"C{i % 10}",
        )
    axes.set_xscale("log")
    axes.set_xticks(first.budgets, [str(n) for n in first.budgets], minor=False)
    axes.minorticks_off()
    axes.set(title=f"{first.task}, {first.attacker}", xlabel="exchanges", ylim=(-3, 103))


def _percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]


# Accuracy of each student


def bars(rows: Sequence[Row], students: Sequence[StudentAccuracies]) -> Figure:
    """Accuracy of each arm's students per capability beside the floor, and every student a dot.

    Args:
        rows: at one budget a task, at least one.
        students: accuracies, 0 to 1.
    """
    tasks = list(dict.fromkeys(row.task for row in rows))
    by_task = [[row for row in rows if row.task == task] for task in tasks]
    sizes = [len(some) for some in by_task]
    if max(len(_name(row)) for row in rows) > LONG:  # no room for panels side by side
        drawn = figure(11, sum(1.0 + 0.2 * size for size in sizes))
        panels = list(drawn.subplots(len(tasks), 1, squeeze=False, height_ratios=sizes)[:, 0])
    else:
        drawn = figure(11, 1.2 + 0.24 * max(sizes))
        panels = list(drawn.subplots(1, len(tasks), squeeze=False)[0])
    dots = {(s.task, s.defense, s.attacker, s.budget): s.accuracies for s in students}
    for axes, some in zip(panels, by_task, strict=True):
        _bar_panel(axes, some[::-1], dots)
    return drawn


def _bar_panel(
    axes: Axes, rows: Sequence[Row], dots: Mapping[tuple[str, str, str, int], Sequence[float]]
) -> None:
    low = [100 * abs(row.defended - row.defended_lo) for row in rows]
    high = [100 * abs(row.defended - row.defended_hi) for row in rows]
    axes.barh(
        [_name(row) for row in rows],
        [100 * row.defended for row in rows],
        xerr=[low, high],
        color=[_bar_colour(row) for row in rows],
        alpha=0.55,
        error_kw={"elinewidth": 0.8, "capsize": 2},
    )
    for height, row in enumerate(rows):
        shares = dots.get((row.task, row.defense, row.attacker, row.budget), ())
        beside = [height + BESIDE] * len(shares)  # the whiskers
        axes.plot(_percent(shares), beside, ".", color="black", markersize=3, alpha=0.6)
    axes.axvline(100 * rows[0].floor, color="black", linestyle=":", linewidth=1)
    axes.set(title=rows[0].task, xlabel="student accuracy (%); dotted: floor", xlim=(0, 101))
    axes.tick_params(axis="y", labelsize=8)


def _bar_colour(row: Row) -> str:
    if row.is_baseline:
        return "0.7"
    return "C0" if row.role == "undefended" else "C1"


def _name(row: Row) -> str:
    return row.attacker if row.role == "floor" else f"{row.defense} ({row.attacker})"
