"""Defence x attacker: every cell's transfer on one scale, the worst of the listed attacks marked,
and the verdict.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from experiments.report.terminal import bound, signed, thousands, two, worst
from experiments.settings.schema import spelled


class Line(NamedTuple):
    """A defence against all attacks: T of each in the order of the columns, None where an attack
    cannot be made.

    `chosen` is the place of the worst attack; None where it does worse than to abstain, which is an
    attack as well.
    """

    defense: str
    cells: tuple[float | None, ...]
    chosen: int | None
    case: dict[str, Any]


class Matrix(NamedTuple):
    """A task at its largest budget; `gains`: by defence, rows of what each attack gains over the
    first one.

    `trained`: the optimiser steps and tokens of each attack's undefended students.
    """

    task: str
    budget: int
    attacks: tuple[str, ...]
    lines: tuple[Line, ...]
    trained: tuple[str, ...]
    gains: dict[str, tuple[dict[str, Any] | None, ...]]

    @property
    def heads(self) -> list[str]:
        """Short names of the attacks: a battery's own, and numbers for lists of parts, which are
        long.
        """
        return [
            str(i) if spelled(one) == one else one.partition("/")[2]
            for i, one in enumerate(self.attacks, 1)
        ]

    @property
    def legend(self) -> list[tuple[str, str, str]]:
        """What the short names stand for, and how long each trains."""
        return [
            (head, spelled(one), long)
            for head, one, long in zip(self.heads, self.attacks, self.trained, strict=True)
        ]


def matrices(held: dict[str, Any]) -> list[Matrix]:
    """One a task with several attacks. T = (D - F) / (U* - F) with one U*, that of the best
    undefended attack.

    The worst case was chosen on the selection split, so it need not be the largest of its line.
    """
    found = []
    for task in dict.fromkeys(case["task"] for case in held["cases"]):
        here = [case for case in held["cases"] if case["task"] == task]
        budget = max(case["budget"] for case in here)
        here = [case for case in here if case["budget"] == budget]
        attacks = tuple(dict.fromkeys(attack for case in here for attack in case["attacks"]))
        if len(attacks) < 2:
            continue
        rows = {
            (row["defense"], row["attacker"]): row
            for row in held["rows"]
            if (row["task"], row["budget"]) == (task, budget)
        }
        right = {at: row["defended"] for at, row in rows.items()}
        lines = tuple(_line(case, attacks, right) for case in here)
        gains = {
            defense: tuple(rows.get((defense, attack)) for attack in attacks)
            for defense in ["none", *(line.defense for line in lines)]
        }
        found.append(
            Matrix(
                task, budget, attacks, lines, tuple(_trained(rows, one) for one in attacks), gains
            )
        )
    return found


def _trained(rows: dict[tuple[str, str], dict[str, Any]], attack: str) -> str:
    """Mean steps and tokens of an attack's students."""
    row = next(row for (_, attacker), row in rows.items() if attacker == attack)
    return f"{row['steps']:.0f} steps, {thousands(row['student_tokens'])} tokens"


def cell(share: float | None) -> str:
    """T of one attack; what is worse than to abstain transfers nothing."""
    return two(share if share is None else max(share, 0.0))


def gained(row: dict[str, Any] | None) -> str:
    """What an attack gains over the first one, in points, with its interval."""
    if row is None or row["over_first"] is None:
        return "-"
    return (
        f"{signed(row['over_first'])} [{signed(row['over_first_lo'])}, "
        f"{signed(row['over_first_hi'])}]"
    )


def _line(
    case: dict[str, Any], attacks: tuple[str, ...], right: dict[tuple[str, str], float]
) -> Line:
    F, U = right["none", case["floor"]], right["none", case["ceiling"]]
    D = [right.get((case["defense"], attack)) for attack in attacks]
    cells = tuple(None if d is None or U <= F else (d - F) / (U - F) for d in D)
    chosen = attacks.index(case["attack"]) if (case["transfer"] or 0) >= 0 else None
    return Line(case["defense"], cells, chosen, case)


def markdown(held: dict[str, Any]) -> str:
    """The matrices of a study, each with the names of its attacks below."""
    lines: list[str] = []
    for one in matrices(held):
        heads = [
            f"{one.task}: defence",
            "teacher (points)",
            *one.heads,
            "abstain",
            "worst: T [95 %]",
            "UCB",
            "verdict",
        ]
        lines += [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 2) + "---|"]
        for line in one.lines:
            cells = [
                f"**{cell(t)}**" if i == line.chosen else cell(t) for i, t in enumerate(line.cells)
            ]
            cells.append("**0.00**" if line.chosen is None else "0.00")
            told = (
                f"`{line.defense}`",
                signed(line.case["utility"]["change"]),
                *cells,
                worst(line.case),
                bound(line.case["ucb"]),
                line.case["verdict"] or "-",
            )
            lines.append(f"| {' | '.join(told)} |")
        lines += ["", f"Points over `{one.attacks[0]}` against the same defence:", ""]
        lines += [
            f"| defence | {' | '.join(one.heads[1:])} |",
            "|---|" + "--:|" * (len(one.heads) - 1),
        ]
        lines += [
            f"| `{defense}` | {' | '.join(map(gained, row[1:]))} |"
            for defense, row in one.gains.items()
        ]
        lines += ["", *(f"- {head}: `{parts}`; {long}" for head, parts, long in one.legend), ""]
    return "\n".join(["", *lines]) if lines else ""


def colour(share: float | None) -> str:
    """A cell's background: white where nothing is transferred, red where all is."""
    if share is None:
        return "#f6f8fa"
    part = min(max(share, 0.0), 1.0)
    return "#{:02x}{:02x}{:02x}".format(
        *(round(255 + part * (to - 255)) for to in (0xF0, 0x8A, 0x7A))
    )
