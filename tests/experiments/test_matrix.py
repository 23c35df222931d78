"""The defence x attacker table, by hand."""

import pytest

from experiments.report import matrix


def held():
    """Two defences against `sft` and `strongest/vote`, by hand."""

    def row(defense, attacker, right):
        return {
            "task": "t",
            "budget": 10,
            "defense": defense,
            "attacker": attacker,
            "defended": right,
            "steps": 900.0,
            "student_tokens": 812_345.0 if attacker == "sft" else 3_212_345.0,
            "over_first": right - 0.3,
            "over_first_lo": -0.1,
            "over_first_hi": 0.4,
        }

    def case(defense, attack, attacks):
        return {
            "task": "t",
            "budget": 10,
            "defense": defense,
            "attack": attack,
            "attacks": attacks,
            "floor": "f",
            "ceiling": "strongest/vote",
            "transfer": 0.5,
            "lcb": 0.4,
            "hi": None,
            "ucb": None,
            "kind": "ok",
            "verdict": "partial",
            "utility": {"change": -0.021},
        }

    vote = "strongest/vote"
    rows = [
        row("none", "f", 0.1),
        row("none", "sft", 0.7),
        row("none", vote, 0.9),
        row("d", "sft", 0.3),
        row("d", vote, 0.5),
        row("e", "sft", 0.9),
    ]
    return {
        "rows": rows,
        "cases": [
            case("d", "strongest/vote", ["sft", "strongest/vote"]),
            case("e", "sft", ["sft"]),
        ],
    }


def test_cells_share_one_scale_and_the_chosen_attack_is_marked():
    (one,) = matrix.matrices(held())
    # F .1 and U .9, of the vote, for every cell: (.3 - .1) / .8, (.5 - .1) / .8, and (.9 - .1) /
    # .8.
    assert one.lines[0].cells == pytest.approx((0.25, 0.5)) and one.lines[0].chosen == 1
    assert one.lines[1].cells == (pytest.approx(1.0), None) and one.lines[1].chosen == 0


def test_as_markdown():
    lines = matrix.markdown(held()).splitlines()
    assert lines[3] == "| `d` | -2.1 | 0.25 | **0.50** | 0.00 | 0.50 [0.40, ∞] | ∞ | partial |"
    assert lines[4].startswith("| `e` | -2.1 | **1.00** | - | 0.00 |")
    assert lines[1].startswith("| t: defence | teacher (points) | 1 | vote | abstain |")
    assert "Points over `sft` against the same defence:" in lines
    assert "| `d` | +20.0 [-10.0, +40.0] |" in lines and "| `e` | - |" in lines
    vote = "- vote: `ask/repeats(k=4) + clean/vote + sft`; 900 steps, 3.2 M tokens"
    assert {"- 1: `sft`; 900 steps, 812 k tokens", vote} <= {*lines}
    assert matrix.markdown({"rows": [], "cases": []}) == ""


def test_where_no_attack_beats_the_floor_to_abstain_is_the_worst():
    told = held()
    told["rows"] = [
        row | {"defended": 0.05} if row["defense"] == "d" else row for row in told["rows"]
    ]
    told["cases"][0] |= {"transfer": -0.06, "lcb": -0.2}
    (one,) = matrix.matrices(told)
    assert one.lines[0].cells == pytest.approx((-0.0625, -0.0625)) and one.lines[0].chosen is None
    line = matrix.markdown(told).splitlines()[3]
    assert line == "| `d` | -2.1 | 0.00 | 0.00 | **0.00** | 0 (floor wins) | ∞ | partial |"


def test_colours_go_from_white_to_red():
    assert matrix.colour(0.0) == "#ffffff" and matrix.colour(1.7) == matrix.colour(1.0) == "#f08a7a"
    assert matrix.colour(None) == "#f6f8fa"
