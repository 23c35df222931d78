"""What each component is stands in one table; docs, lists and cards are made from it."""

from pathlib import Path

import pytest

from experiments.settings import component_docs
from experiments.settings.attacks import battery, parse_attack
from experiments.settings.catalog import shipped
from experiments.settings.defenses import parse_defense
from experiments.settings.origins import described, origin, origins

ROOT = Path(__file__).parents[2]
TABLES = {"defense": origins().defense, "attacker": origins().attacker}


@pytest.mark.parametrize("group", TABLES)
def test_every_shipped_component_says_what_it_is_and_nothing_else_does(group):
    there = {name for name in shipped(group) if group == "defense" or not battery(name)}
    assert set(TABLES[group]) == there


@pytest.mark.parametrize(
    ("group", "name"), [(g, name) for g, table in TABLES.items() for name in table]
)
def test_what_is_not_the_papers_says_what_differs_and_what_is_names_a_paper(group, name):
    what = origin(group, name)
    part = component_docs.PAGES[group].part(name)
    paper = part.traits.paper if group == "defense" else part.paper
    assert what.kind == "paper" or what.differs
    assert what.kind == "rule" or paper != "-"


@pytest.mark.parametrize(("group", "file"), [("defense", "defenses"), ("attacker", "attackers")])
def test_pages_and_lists_are_made_from_it(group, file):
    page = component_docs.PAGES[group]
    text = (ROOT / "docs" / f"{file}.md").read_text(encoding="utf-8")
    assert text == page.markdown()
    for name, what in TABLES[group].items():
        assert f"| `{name}` | {what.kind} |" in text and what.differs in text
    assert page.table().columns[1].header == "is"


def test_a_card_says_it_of_every_part():
    parts = parse_defense("decoding/perturbed + release/rounding").parts
    assert described(parts) == {
        name: str(origin("defense", name)) for name in ("decoding/perturbed", "release/rounding")
    }
    attack = parse_attack("clean/vote + sft")
    assert described(attack.parts) == {"clean/vote": "paper", "sft": "paper"}
