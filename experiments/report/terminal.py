"""The table in a terminal."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from experiments.settings.schema import Study


def table(rows: list[dict[str, Any]], title: str) -> Table:
    """One line a row: points are percent, T with its Fieller set, `not measurable` where it has
    none.
    """
    shown = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1),
        title=title,
        caption=(
            "floor, undefended, defended: student accuracy in %; T = (D-F)/(U-F); steps, tokens: "
            "of its training"
        ),
    )
    several = len({row["budget"] for row in rows}) > 1
    if several:
        shown.add_column("budget", justify="right", no_wrap=True)
    for name in ("task", "attacker", "defence"):
        shown.add_column(name, no_wrap=True)
    longer = any(row["twice"] is not None for row in rows)
    more = ["at 2 x steps"] if longer else []
    for name in ("floor", "undef.", "defended", *more, "T [95 %]", "teacher", "steps", "tokens"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    for row in rows:
        shown.add_row(
            *([str(row["budget"])] if several else []),
            row["task"],
            row["attacker"],
            row["defense"],
            points(row["floor"]),
            points(row["undefended"]),
            points(row["defended"]),
            *([signed(row["twice"])] if longer else []),
            interval(row),
            f"{points(row['teacher_clean'])}→{points(row['teacher_defended'])}",
            f"{row['steps']:.0f}",
            thousands(row["student_tokens"]),
            row["verdict"] or "-",
        )
    return shown


def markdown(held: dict[str, Any], study: Study) -> str:
    """The verdicts of a study as Markdown: a line a defence with worst case, word, cost and how its
    text tells.

    At each task's largest budget, as verdicts are.
    """
    seeds, items, name = len(study.seeds), study.measure.items, study.name
    made = (
        f"`distill-resist run {name}`, `distill-resist report {name} --markdown`; {seeds} seeds, "
        f"{items} questions."
    )
    made += f"\n\n**{kept(held['old'])}**" if held.get("old") else ""
    most = {task: study.most(task) for block in study.blocks for task in block.tasks}
    heads = (
        "task",
        "defence",
        "set to",
        "T, worst of the attacks",
        "verdict",
        "teacher (points)",
        "detectability",
    )
    lines = [f"# Study `{name}`", "", study.question, "", made, ""]
    lines += [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    teachers = {(one["task"], one["defense"]): one for one in held["teachers"]}
    for case in (one for one in held["cases"] if one["budget"] == most[one["task"]]):
        told = teachers.get((case["task"], case["defense"]))
        lost = case["utility"]
        seen = "-" if told is None or told["detectability"] is None else two(told["detectability"])
        change = f"{signed(lost['change'])} [{signed(lost['lo'])}, {signed(lost['hi'])}]"
        cells = (
            case["task"],
            f"`{case['defense']}`",
            set_to(told) if told else "",
            worst(case),
            case["verdict"] or "-",
            change,
            seen,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def kept(old: list[str]) -> str:
    """What is said over results that are used though they are old."""
    return f"OLD RESULTS (--keep-old): {'; '.join(old)}"


def signed(value: float | None) -> str:
    """A difference of shares in points, with its sign."""
    return "-" if value is None else f"{100 * value:+.1f}"


def flags(raised: list[dict[str, str]]) -> list[str]:
    """A line a kind of flag: the first one, and how many more there are."""
    kinds: dict[str, list[dict[str, str]]] = {}
    for one in raised:
        kinds.setdefault(one["flag"], []).append(one)
    more = {
        kind: f" (and {len(held) - 1} more, see the card)" if len(held) > 1 else ""
        for kind, held in kinds.items()
    }
    return [
        f"flag: {kind} ({held[0]['where']}): {held[0]['evidence']}{more[kind]}"
        for kind, held in kinds.items()
    ]


def points(value: float | None) -> str:
    """A share as percent with one decimal."""
    return "-" if value is None else f"{100 * value:.1f}"


def thousands(tokens: float) -> str:
    """Tokens, in thousands or millions."""
    return f"{tokens / 1e6:.1f} M" if tokens >= 1e6 else f"{tokens / 1e3:.0f} k"


FLOOR_WINS = "0 (floor wins)"
"""What a cell says where no attack beats the floor: an attacker may abstain, so nothing is
transferred.
"""


def interval(row: dict[str, Any]) -> str:
    """T and its interval; an unbounded end is shown as such, and T of the floor or the ceiling
    itself has none.
    """
    if row["transfer"] is None:
        return "not measurable"
    if row.get("floor_wins"):
        return FLOOR_WINS
    if row.get("transfer_kind") == "itself":
        return f"{row['transfer']:.0f}"
    low = "-∞" if row["transfer_lo"] is None else _two(row["transfer_lo"])
    high = "∞" if row["transfer_hi"] is None else _two(row["transfer_hi"])
    return f"{_two(row['transfer'])} [{low}, {high}]"


def worst(case: dict[str, Any]) -> str:
    """T of a case with its interval, or why there is none; 0 where an attacker does better to
    abstain.
    """
    return FLOOR_WINS if (case["transfer"] or 0) < 0 else measured(case)


def measured(case: dict[str, Any]) -> str:
    """The same as it was measured, also below 0."""
    row = {"transfer": case["transfer"], "transfer_lo": case["lcb"], "transfer_hi": case["hi"]}
    return interval(row) if case["transfer"] is not None else str(case["kind"])


def set_to(teacher: dict[str, Any]) -> str:
    """The strength that a defence was set to by its cost, and what it learned; nothing where its
    settings are given.
    """
    found = teacher["matched"]
    parts = [f"{found['knob']} {found['value']:.4g} (-{found['loss']:.1f})"] if found else []
    parts += [
        f"{name.rpartition('.')[2]} {value:.3g}" for name, value in teacher["numbers"].items()
    ]
    return ", ".join(parts)


def bound(value: float | None) -> str:
    """A bound with two decimals; none is unbounded."""
    return "∞" if value is None else _two(value)


def two(value: float | None) -> str:
    """Two decimals, or a dash for what was not measured."""
    return "-" if value is None else _two(value)


def times(value: float | None) -> str:
    """A ratio."""
    return "-" if value is None else f"{value:.2f} ×"


def _two(value: float) -> str:
    """Two decimals, without a minus before zero."""
    return f"{round(value, 2) + 0.0:.2f}"
