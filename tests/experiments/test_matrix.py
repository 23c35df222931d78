"""The defence x attacker table, by hand."""

import pytest

from experiments.report import matrix
from experiments.results.schema.defenses import CaseResult, Utility
from experiments.results.schema.measures import AttackFacts, Measures
from experiments.results.schema.rows import Row

VOTE = "strongest/vote"
PARTS = "ask/repeats(k=4) + clean/vote + sft"


def row(defense, attacker, right):
    """A row of which only what a matrix shows is there."""
    return Row.model_construct(
        task="t",
        budget=10,
        defense=defense,
        attacker=attacker,
        defended=right,
        steps=900.0,
        student_tokens=812_345.0 if attacker == "sft" else 3_212_345.0,
        over_first=right - 0.3,
        over_first_lo=-0.1,
        over_first_hi=0.4,
    )


def case(defense, attack, transfers, transfer=0.5, lcb=0.4):
    return CaseResult.model_construct(
        task="t",
        budget=10,
        defense=defense,
        attack=attack,
        attacks=[*transfers],
        transfers=transfers,
        transfer=transfer,
        lcb=lcb,
        hi=None,
        ucb=None,
        kind="ok",
        verdict="partial",
        utility=Utility.model_construct(change=-0.021),
    )


def measures(first=None):
    """Two defences against `sft` and `strongest/vote`, by hand."""
    rows = [
        row("none", "f", 0.1),
        row("none", "sft", 0.7),
        row("none", VOTE, 0.9),
        row("d", "sft", 0.3),
        row("d", VOTE, 0.5),
        row("e", "sft", 0.9),
    ]
    facts = (("sft", "sft"), (VOTE, PARTS))
    return Measures.model_construct(
        rows=rows,
        cases=[first or case("d", VOTE, {"sft": 0.25, VOTE: 0.5}), case("e", "sft", {"sft": 1.0})],
        attacks=[AttackFacts(name=name, parts=parts, interface="text") for name, parts in facts],
    )


def test_cells_stand_below_their_attack_and_the_chosen_one_is_marked():
    (table,) = matrix.matrices(measures())
    assert table.lines[0].cells == pytest.approx((0.25, 0.5)) and table.lines[0].worst == 1
    assert table.lines[1].cells == (pytest.approx(1.0), None) and table.lines[1].worst == 0


def test_as_markdown():
    lines = matrix.markdown(measures()).splitlines()
    assert lines[3] == "| `d` | -2.1 | 0.25 | **0.50** | 0.00 | 0.50 [0.40, ∞] | ∞ | partial |"
    assert lines[4].startswith("| `e` | -2.1 | **1.00** | - | 0.00 |")
    assert lines[1].startswith("| t: defence | teacher (points) | 1 | vote | abstain |")
    assert "Points over `sft` against the same defence:" in lines
    assert "| `d` | +20.0 [-10.0, +40.0] |" in lines and "| `e` | - |" in lines
    vote = "- vote: `ask/repeats(k=4) + clean/vote + sft`; 900 steps, 3.2 M tokens"
    assert {"- 1: `sft`; 900 steps, 812 k tokens", vote} <= {*lines}
    assert matrix.markdown(Measures.model_construct(rows=[], cases=[], attacks=[])) == ""


def test_where_no_attack_beats_the_floor_to_abstain_is_the_worst():
    measured = measures(case("d", VOTE, {"sft": -0.0625, VOTE: -0.0625}, -0.06, -0.2))
    (table,) = matrix.matrices(measured)
    assert table.lines[0].cells == pytest.approx((-0.0625, -0.0625))
    assert table.lines[0].worst is None
    line = matrix.markdown(measured).splitlines()[3]
    assert line == "| `d` | -2.1 | 0.00 | 0.00 | **0.00** | 0 (floor wins) | ∞ | partial |"


def test_colours_go_from_white_to_red():
    assert matrix.colour(0.0) == "#ffffff" and matrix.colour(1.7) == matrix.colour(1.0) == "#f08a7a"
    assert matrix.colour(None) == "#f6f8fa"
