"""Seeds that an attack derives from its student's."""

import ast
from pathlib import Path

import pytest

from distill.attackers.best_of import seeds
from distill.seeds import derived_seed

ROOT = Path(__file__).parents[2]
FILES = [path for name in ("distill", "defenses") for path in (ROOT / name).rglob("*.py")]
SUMS = (ast.Add, ast.Sub, ast.Mult)


def test_no_two_draws_share_a_seed():
    """As `seed + turn` and `seed + 1000 * turn + voter` do, of neighbouring students."""
    drawn = {
        derived_seed(role, seed, turn, voter)
        for role in ("gad", "lord")
        for seed in range(20)
        for turn in range(5)
        for voter in range(5)
    }
    assert len(drawn) == 2 * 20 * 5 * 5
    assert derived_seed("gad", 1, 23) != derived_seed("gad", 12, 3)


def test_a_seed_is_the_same_tomorrow_and_fits_every_generator():
    assert derived_seed("gad", 7, 1) == 118_751_872
    assert seeds(7, 2) == [7, 626_756_361]
    assert all(0 <= derived_seed("gad", seed) < 2**32 for seed in range(100))


def is_seed(node):
    name = getattr(node, "id", getattr(node, "attr", ""))
    return name == "seed" or name.endswith("_seed")


def offsets(text):
    """Sums and products of a seed and a number."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, SUMS)
        and (is_seed(node.left) or is_seed(node.right))
    ]


def test_offsets_are_seen():
    assert offsets("f(seed + 1, 1000 * self.seed, seed % 2, [seed, 1])") == [
        "seed + 1",
        "1000 * self.seed",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_seed_is_a_neighbours(path):
    assert not offsets(path.read_text(encoding="utf-8"))
