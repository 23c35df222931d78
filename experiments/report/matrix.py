"""Defence x attacker: every cell's transfer, the worst of the listed attacks marked, and the
verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from experiments.report.templates import in_line
from experiments.report.terminal import bound, signed, thousands, two, worst
from experiments.results.schema.defenses import CaseResult
from experiments.results.schema.measures import AttackFacts, Measures
from experiments.results.schema.rows import Row

Rows = dict[tuple[str, str], Row]
"""The rows of a task's largest budget, by defence and attack."""


class Line(NamedTuple):
    """A defence against all attacks: T of each in the order of the columns, all with the one U of
    the case; None where an attack cannot be made.

    `worst` is the place of the worst attack; None where it does worse than to abstain, which is an
    attack as well.
    """

    defense: str
    cells: tuple[float | None, ...]
    worst: int | None
    case: CaseResult


class Legend(NamedTuple):
    """What a column's short name stands for, and how long its undefended students train."""

    name: str
    head: str
    parts: str
    trained: str


class Matrix(NamedTuple):
    """A task at its largest budget; `gains`: by defence, the row of each attack."""

    task: str
    budget: int
    legend: tuple[Legend, ...]
    lines: tuple[Line, ...]
    gains: dict[str, tuple[Row | None, ...]]

    @property
    def heads(self) -> list[str]:
        """Short names of the attacks."""
        return [column.head for column in self.legend]


def matrices(measures: Measures) -> list[Matrix]:
    """One a task with several attacks.

    T of a cell compares with the best undefended attack, so that the attacks of a line are on one
    scale; the table of rows compares each with itself undefended. The worst case was chosen on the
    selection split, so it need not be the largest of its line.
    """
    made = (_matrix(measures, task) for task in dict.fromkeys(c.task for c in measures.cases))
    return [matrix for matrix in made if len(matrix.legend) > 1]


def _matrix(measures: Measures, task: str) -> Matrix:
    budget = max(case.budget for case in measures.cases if case.task == task)
    cases = [case for case in measures.cases if (case.task, case.budget) == (task, budget)]
    attacks = list(dict.fromkeys(attack for case in cases for attack in case.attacks))
    rows = {
        (row.defense, row.attacker): row
        for row in measures.rows
        if (row.task, row.budget) == (task, budget)
    }
    facts = {attack.name: attack for attack in measures.attacks}
    legend = tuple(
        _legend(facts[name], number, _first_row(rows, name))
        for number, name in enumerate(attacks, 1)
    )
    lines = tuple(_line(case, attacks) for case in cases)
    gains = {name: _rows(rows, name, attacks) for name in ["none", *(c.defense for c in cases)]}
    return Matrix(task, budget, legend, lines, gains)


def _legend(attack: AttackFacts, number: int, row: Row) -> Legend:
    """A battery has a name of its own; lists of parts are long and get numbers."""
    head = attack.name.partition("/")[2] if attack.is_battery else str(number)
    trained = f"{row.steps:.0f} steps, {thousands(row.student_tokens)} tokens"
    return Legend(attack.name, head, attack.parts, trained)


def _first_row(rows: Rows, attack: str) -> Row:
    """Of its undefended students, which all tables list first."""
    return next(row for row in rows.values() if row.attacker == attack)


def _line(case: CaseResult, attacks: Sequence[str]) -> Line:
    worst = attacks.index(case.attack) if (case.transfer or 0) >= 0 else None
    return Line(case.defense, tuple(map(case.transfers.get, attacks)), worst, case)


def _rows(rows: Rows, defense: str, attacks: Sequence[str]) -> tuple[Row | None, ...]:
    return tuple(rows.get((defense, attack)) for attack in attacks)


def cell(share: float | None) -> str:
    """T of one attack; what is worse than to abstain transfers nothing.

    Args:
        share: T, or None where it is not measurable.
    """
    return two(share if share is None else max(share, 0.0))


def gained(row: Row | None) -> str:
    """What an attack gains over the first one, in points, with its interval."""
    if row is None or row.over_first is None:
        return "-"
    ends = f"[{signed(row.over_first_lo)}, {signed(row.over_first_hi)}]"
    return f"{signed(row.over_first)} {ends}"


def markdown(measures: Measures) -> str:
    """The matrices of a study, each with the names of its attacks below."""
    lines = [line for matrix in matrices(measures) for line in _markdown(matrix)]
    return "\n".join(["", *lines]) if lines else ""


def _markdown(matrix: Matrix) -> list[str]:
    heads = [f"{in_line(matrix.task)}: defence", "teacher (points)", *matrix.heads, "abstain"]
    heads += ["worst: T [95 %]", "UCB", "verdict"]
    return [
        _joined(heads),
        "|---|" + "--:|" * (len(heads) - 2) + "---|",
        *(_joined(_line_cells(line)) for line in matrix.lines),
        "",
        f"Points over `{matrix.legend[0].name}` against the same defence:",
        "",
        _joined(["defence", *matrix.heads[1:]]),
        "|---|" + "--:|" * (len(matrix.heads) - 1),
        *(
            _joined([f"`{in_line(name)}`", *map(gained, row[1:])])
            for name, row in matrix.gains.items()
        ),
        "",
        *(f"- {one.head}: `{in_line(one.parts)}`; {one.trained}" for one in matrix.legend),
        "",
    ]


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line_cells(line: Line) -> list[str]:
    shares = [cell(share) for share in line.cells]
    if line.worst is not None:
        shares[line.worst] = f"**{shares[line.worst]}**"
    return [
        f"`{in_line(line.defense)}`",
        signed(line.case.utility.change),
        *shares,
        "**0.00**" if line.worst is None else "0.00",
        worst(line.case),
        bound(line.case.ucb),
        line.case.verdict or "-",
    ]


def colour(share: float | None) -> str:
    """A cell's background: white where nothing is transferred, red where all is.

    Args:
        share: T, or None where it is not measurable.

    Returns:
        A colour of CSS.
    """
    if share is None:
        return "#f6f8fa"
    part = min(max(share, 0.0), 1.0)
    return "#{:02x}{:02x}{:02x}".format(
        *(round(255 + part * (to - 255)) for to in (0xF0, 0x8A, 0x7A))
    )
