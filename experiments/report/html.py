"""The HTML report: one file with its plots inside."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from experiments.measure.flags import KINDS
from experiments.planning.arms import FLOORS, IDENTITY, is_floor
from experiments.report import frontier_plot
from experiments.report.matrix import cell, colour, gained, matrices
from experiments.report.terminal import (
    bound,
    interval,
    kept,
    points,
    set_to,
    signed,
    thousands,
    times,
    two,
    worst,
)

FIDELITY = (
    "agreement",
    "error_consistency",
    "same_wrong",
    "bits_per_byte",
    "brier",
    "nll",
    "confidence_rank",
)
MOST_NAMED = 12  # defences that the frontier can tell apart by colour and marker
LONG = 45  # letters of an arm's name
TEMPLATE = Path(__file__).with_name("page.html")
HEADS = (
    "task",
    "attacker",
    "defence",
    "budget",
    "floor %",
    "undefended %",
    "defended %",
    "T",
    "teacher %",
    "steps",
    "tokens",
    "at 2 x steps",
    "bits/byte",
    "verdict",
)


def plots(held: dict[str, Any]) -> dict[str, str]:
    """The plots that are files as well, by their names."""
    drawn = {"transfer.svg": svg(frontier(held))}
    return drawn | ({"budgets.svg": svg(curves(held))} if held["curves"] else {})


def render(
    study: Any,
    held: dict[str, Any],
    drawn: dict[str, str],
    samples: list[dict[str, str]],
    notes: list[str],
    campaigns: str,
) -> str:
    """A self-contained page, with a section on campaigns if there is one; the same measures give
    the same bytes.
    """
    from jinja2 import Environment

    page = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    return page.render(
        title=f"Distillation resistance: {study.name}",
        question=study.question,
        rows=held["rows"],
        samples=samples,
        seeds=len(study.seeds),
        items=study.measure.items,
        heads=HEADS,
        looks=" and ".join(map(str, study.measure.looks)),
        points=points,
        interval=interval,
        notes=notes,
        level=f"{100 * (1 - study.measure.alpha):g}",
        quiet=_is_control,
        frontier=drawn["transfer.svg"],
        bars=svg(bars(_largest(held["rows"]))),
        cases=held["cases"],
        identity=IDENTITY,
        flags=held["flags"],
        kinds=KINDS,
        budgets=drawn.get("budgets.svg", ""),
        bound=bound,
        worst=worst,
        frontier_rows=held["frontier"],
        teachers=held["teachers"],
        fidelity=FIDELITY,
        is_floor=is_floor,
        two=two,
        times=times,
        set_to=set_to,
        campaigns=campaigns,
        matrices=matrices(held),
        colour=colour,
        cell=cell,
        thousands=thousands,
        gained=gained,
        signed=signed,
        old=kept(held["old"]) if held.get("old") else "",
        curved=[row for row in held["curves"] if {"multipliers", "no_multiplier"} & {*row}],
    )


def _is_control(row: dict[str, Any]) -> bool:
    return is_floor(row["attacker"]) or row["defense"] == IDENTITY


def figure(width: float, height: float) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "distill-resist"
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(drawn: Any) -> str:
    """A figure as SVG; the same figure gives the same bytes."""
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _largest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where budgets are an axis, the rows of each task's largest."""
    most = {row["task"]: max(r["budget"] for r in rows if r["task"] == row["task"]) for row in rows}
    return [row for row in rows if row["budget"] == most[row["task"]]]


def frontier(held: dict[str, Any]) -> Any:
    """Transfer against what the honest user loses, a panel a task; below and to the left is better
    for the provider.

    Where budgets are an axis, the largest is drawn. Many defences are numbered, each at its worst
    attack.
    """
    if len({frontier_plot.bare(case["defense"]) for case in held["cases"]}) > MOST_NAMED:
        return frontier_plot.draw(figure(11, 4.2), _largest(held["cases"]))
    rows = _largest(held["rows"])
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    arms = list(dict.fromkeys((r["defense"], r["attacker"]) for r in rows if not _is_control(r)))
    drawn = figure(11, 4.2)
    panels = drawn.subplots(1, len(tasks), squeeze=False, sharey=True)[0]
    for axes, task in zip(panels, tasks, strict=True):
        axes.axhspan(0, 1, color="0.96", zorder=0)
        here = [
            r
            for r in rows
            if r["task"] == task and not _is_control(r) and r["transfer"] is not None
        ]
        costs = [100 * (row["teacher_clean"] - row["teacher_defended"]) for row in here]
        low_x, high_x = min([-2.0, *costs]), max([10.0, *costs])
        step = (high_x - low_x) / 60  # points of equal cost stand side by side
        for i, (row, cost) in enumerate(zip(here, costs, strict=True)):
            number = arms.index((row["defense"], row["attacker"]))
            low, high = (
                row[end] if row[end] is not None else row["transfer"]
                for end in ("transfer_lo", "transfer_hi")
            )
            axes.errorbar(
                cost + step * (i - (len(here) - 1) / 2),
                row["transfer"],
                [[row["transfer"] - low], [high - row["transfer"]]],
                capsize=3,
                color=f"C{number % 10}",
                marker="os^Dv"[number % 5],
                linestyle="none",
                label=_name(row),
            )
        axes.set(
            title=task,
            xlabel="teacher's loss under the defence (points)",
            xlim=(low_x - 4 * step, high_x + 4 * step),
        )
    panels[0].set_ylabel("transfer T (1: all, 0: none)")
    held = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if held:
        drawn.legend(
            held.values(), held.keys(), fontsize=8, loc="outside right upper", frameon=False
        )
    return drawn


def curves(held: dict[str, Any]) -> Any:
    """Accuracy against exchanges with intervals, a panel a task and attacker."""
    panels = list(dict.fromkeys((row["task"], row["attacker"]) for row in held["curves"]))
    drawn = figure(11, 4.2)
    for axes, at in zip(
        drawn.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True
    ):
        here = [row for row in held["curves"] if (row["task"], row["attacker"]) == at]
        budgets = here[0]["budgets"]
        axes.plot(
            budgets,
            [100 * v for v in here[0]["own_data"]],
            color="0.6",
            linestyle=":",
            label=FLOORS[1],
        )
        axes.axhline(
            100 * here[0]["zero"], color="black", linewidth=0.8, linestyle="--", label="n = 0"
        )
        for i, row in enumerate(here):
            errors = [
                [100 * (v - lo) for v, lo in zip(row["values"], row["lo"], strict=True)],
                [100 * (hi - v) for v, hi in zip(row["values"], row["hi"], strict=True)],
            ]
            shift = 1.02 ** (i - (len(here) - 1) / 2)  # bars of one budget stand side by side
            axes.errorbar(
                [n * shift for n in row["budgets"]],
                [100 * v for v in row["values"]],
                errors,
                capsize=2,
                marker="os^Dv"[i % 5],
                markersize=4,
                label=row["defense"],
                color=f"C{i % 10}",
            )
        axes.set_xscale("log")
        axes.set_xticks(budgets, [str(n) for n in budgets], minor=False)
        axes.minorticks_off()
        axes.set(title=f"{at[0]}, {at[1]}", xlabel="exchanges", ylim=(-3, 103))
    drawn.axes[0].set_ylabel("student accuracy (%)")
    drawn.legend(
        *drawn.axes[0].get_legend_handles_labels(),
        fontsize=8,
        loc="outside right upper",
        frameon=False,
    )
    return drawn


def bars(rows: list[dict[str, Any]]) -> Any:
    """Accuracy of each student per capability, beside the floor."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    sizes = [sum(row["task"] == task for row in rows) for task in tasks]
    if (
        max(len(_name(row)) for row in rows) > LONG
    ):  # long names leave no room for panels side by side
        drawn = figure(11, sum(1.0 + 0.2 * size for size in sizes))
        panels = drawn.subplots(len(tasks), 1, squeeze=False, height_ratios=sizes)[:, 0]
    else:
        drawn = figure(11, 1.2 + 0.24 * max(sizes))
        panels = drawn.subplots(1, len(tasks), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        here = [row for row in rows if row["task"] == task][::-1]
        colours = [
            "0.7" if _is_control(r) else "C0" if r["defense"] == "none" else "C1" for r in here
        ]
        low, high = (
            [100 * abs(r["defended"] - (r["defended"] if r[end] is None else r[end])) for r in here]
            for end in ("defended_lo", "defended_hi")
        )
        axes.barh(
            [_name(r) for r in here],
            [100 * r["defended"] for r in here],
            xerr=[low, high],
            color=colours,
            error_kw={"elinewidth": 0.8, "capsize": 2},
        )
        axes.axvline(100 * here[0]["floor"], color="black", linestyle=":", linewidth=1)
        axes.set(title=task, xlabel="student accuracy (%); dotted: floor", xlim=(0, 100))
        axes.tick_params(axis="y", labelsize=8)
    return drawn


def _name(row: dict[str, Any]) -> str:
    return row["attacker"] if is_floor(row["attacker"]) else f"{row['defense']} ({row['attacker']})"
