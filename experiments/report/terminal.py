"""The table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.table import Table

from experiments.report.templates import in_line
from experiments.results.schema.defenses import CaseResult, TeacherResult
from experiments.results.schema.measures import Measures, RaisedFlag
from experiments.results.schema.rows import Row

CAPTION = (
    "floor, undefended, defended: student accuracy in %; T = (D-F)/(U-F); steps, tokens: of its "
    "training"
)
VERDICT_HEADS = (
    "task",
    "defence",
    "set to",
    "T, worst of the attacks",
    "verdict",
    "teacher (points)",
    "detectability",
)


def table(rows: Sequence[Row], title: str) -> Table:
    """One line a row: points are percent, T with its Fieller set, `not measurable` where it has
    none.

    Args:
        rows: of a study, in their order.
        title: above the table.
    """
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1), title=title, caption=CAPTION)
    several = len({row.budget for row in rows}) > 1
    longer = any(row.twice is not None for row in rows)
    if several:
        shown.add_column("budget", justify="right", no_wrap=True)
    for name in ("task", "attacker", "defence"):
        shown.add_column(name, no_wrap=True)
    more = ["at 2 x steps"] if longer else []
    for name in ("floor", "undef.", "defended", *more, "T [95 %]", "teacher", "steps", "tokens"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    for row in rows:
        shown.add_row(*_cells(row, several, longer))
    return shown


def _cells(row: Row, several: bool, longer: bool) -> list[str]:
    return [
        *([str(row.budget)] if several else []),
        row.task,
        row.attacker,
        row.defense,
        points(row.floor),
        points(row.undefended),
        points(row.defended),
        *([signed(row.twice)] if longer else []),
        interval(row),
        f"{points(row.teacher_clean)}→{points(row.teacher_defended)}",
        f"{row.steps:.0f}",
        thousands(row.student_tokens),
        row.verdict or "-",
    ]


def markdown(measures: Measures) -> str:
    """The verdicts of a study as Markdown: a line a defence with worst case, word, cost and how its
    text tells.

    At each task's largest budget, as verdicts are.
    """
    study = measures.study
    run = f"`distill-resist run {study.name}`, `distill-resist report {study.name} --markdown`"
    made = f"{run}; {study.seeds} seeds, {study.items} questions."
    if measures.old:
        made += f"\n\n**{in_line(old_results(measures.old))}**"
    lines = [f"# Study `{study.name}`", "", in_line(study.question), "", made, ""]
    lines += [f"| {' | '.join(VERDICT_HEADS)} |", "|" + "---|" * len(VERDICT_HEADS)]
    teachers = {(teacher.task, teacher.defense): teacher for teacher in measures.teachers}
    largest = {case.task: case.budget for case in measures.cases}  # cases rise with their budget
    for case in measures.cases:
        if case.budget == largest[case.task]:
            cells = _verdict_cells(case, teachers.get((case.task, case.defense)))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _verdict_cells(case: CaseResult, teacher: TeacherResult | None) -> list[str]:
    cost = case.utility
    return [
        in_line(case.task),
        f"`{in_line(case.defense)}`",
        set_to(teacher) if teacher else "",
        worst(case),
        case.verdict or "-",
        f"{signed(cost.change)} [{signed(cost.lo)}, {signed(cost.hi)}]",
        two(teacher.detectability) if teacher else "-",
    ]


def old_results(old: Sequence[str]) -> str:
    """What is said over results that are used though they are old.

    Args:
        old: what of the results other code made, a line each.
    """
    return f"OLD RESULTS (--keep-old): {'; '.join(old)}"


def signed(value: float | None) -> str:
    """A difference of shares in points, with its sign.

    Args:
        value: -1 to 1; None for a dash.
    """
    return "-" if value is None else f"{100 * value:+.1f}"


def flags(raised: Sequence[RaisedFlag]) -> list[str]:
    """A line a kind of flag: the first one, and how many more there are.

    Args:
        raised: in their order.
    """
    kinds: dict[str, list[RaisedFlag]] = {}
    for flag in raised:
        kinds.setdefault(flag.flag, []).append(flag)
    return [_flag_line(same) for same in kinds.values()]


def _flag_line(same: Sequence[RaisedFlag]) -> str:
    first, more = same[0], ""
    if len(same) > 1:
        more = f" (and {len(same) - 1} more, see the card)"
    return f"flag: {first.flag} ({first.where}): {first.evidence}{more}"


def points(value: float | None) -> str:
    """A share as percent with one decimal.

    Args:
        value: 0 to 1; None for a dash.
    """
    return "-" if value is None else f"{100 * value:.1f}"


def thousands(tokens: float) -> str:
    """Tokens, in thousands or millions.

    Args:
        tokens: 0 or more.
    """
    return f"{tokens / 1e6:.1f} M" if tokens >= 1e6 else f"{tokens / 1e3:.0f} k"


FLOOR_WINS = "0 (floor wins)"
"""What a cell says where no attack beats the floor: an attacker may abstain, so nothing is
transferred.
"""


class HasTransfer(Protocol):
    """What has a T with an interval."""

    @property
    def transfer(self) -> float | None: ...
    @property
    def transfer_lo(self) -> float | None: ...
    @property
    def transfer_hi(self) -> float | None: ...
    @property
    def transfer_kind(self) -> str | None: ...
    @property
    def floor_wins(self) -> bool: ...


def interval(row: HasTransfer) -> str:
    """T and its interval; an unbounded end is shown as such, and T of the floor or the ceiling
    itself has none.
    """
    if row.transfer is None:
        return "not measurable"
    if row.floor_wins:
        return FLOOR_WINS
    if row.transfer_kind == "itself":
        return f"{row.transfer:.0f}"
    return _bounded(row.transfer, row.transfer_lo, row.transfer_hi)


def _bounded(value: float, lo: float | None, hi: float | None) -> str:
    low = "-∞" if lo is None else _two(lo)
    return f"{_two(value)} [{low}, {bound(hi)}]"


def worst(case: CaseResult) -> str:
    """T of a case with its interval, or why there is none; 0 where an attacker does better to
    abstain.
    """
    return FLOOR_WINS if (case.transfer or 0) < 0 else measured(case)


def measured(case: CaseResult) -> str:
    """The same as it was measured, also below 0."""
    return case.kind if case.transfer is None else _bounded(case.transfer, case.lcb, case.hi)


def set_to(teacher: TeacherResult) -> str:
    """The strength that a defence was set to by its cost, and what it learned; nothing where its
    settings are given.
    """
    matched, parts = teacher.matched, []
    if matched:
        parts.append(f"{matched.knob} {matched.value:.4g} (-{matched.loss:.1f})")
    parts += [f"{name.rpartition('.')[2]} {value:.3g}" for name, value in teacher.numbers.items()]
    return ", ".join(parts)


def bound(value: float | None) -> str:
    """A bound with two decimals; none is unbounded.

    Args:
        value: of T.
    """
    return "∞" if value is None else _two(value)


def whole(value: float | None) -> str:
    """A count; none is unbounded.

    Args:
        value: 0 or more.
    """
    return "∞" if value is None else f"{value:.0f}"


def two(value: float | None) -> str:
    """Two decimals, or a dash for what was not measured.

    Args:
        value: of T.
    """
    return "-" if value is None else _two(value)


def times(value: float | None) -> str:
    """A ratio, or a dash for what was not measured.

    Args:
        value: 0 or more.
    """
    return "-" if value is None else f"{value:.2f} ×"


def noticed(teacher: TeacherResult) -> str:
    """Questions until a loss is noticed, with those at the ends of the loss; - where none is
    measured.
    """
    if teacher.noticed_after_lo is None:
        return "-"
    middle, high = (
        "more" if n is None else f"{n:g}" for n in (teacher.noticed_after, teacher.noticed_after_hi)
    )
    return f"{middle} [{teacher.noticed_after_lo:g}, {high}]"


def _two(value: float) -> str:
    """Two decimals, without a minus before zero."""
    return f"{round(value, 2) + 0.0:.2f}"


FORMATS = {
    "bound": bound,
    "interval": interval,
    "noticed": noticed,
    "points": points,
    "set_to": set_to,
    "signed": signed,
    "thousands": thousands,
    "times": times,
    "two": two,
    "whole": whole,
    "worst": worst,
}
"""What templates write values with."""
