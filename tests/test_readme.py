"""README's numbers are generated: its tables are lines that `report --markdown` wrote, and its
links lead somewhere.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
STUDIES = sorted((ROOT / "docs").glob("study-*.md"))


def tables(text: str) -> list[list[str]]:
    """Blocks of lines that begin with a bar."""
    return [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", text, re.M)]


def test_every_row_of_a_studys_table_is_as_the_study_wrote_it():
    written: dict[str, set[str]] = {}
    for table in (one for path in STUDIES for one in tables(path.read_text(encoding="utf-8"))):
        written.setdefault(table[0], set()).update(table)
    shown = [table for table in tables(README) if table[0] in written]
    assert shown, "README has a table of a study"
    assert not [line for table in shown for line in table if line not in written[table[0]]]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_studys_page_says_which_study_made_it(path):
    name = path.stem.removeprefix("study-")
    assert (ROOT / "configs" / "study" / f"{name}.yaml").is_file()
    assert f"distill-resist report {name} --markdown" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_tree_names_what_is_there():
    tree = README[README.index("## Where things are") :]
    for folder in ("distill", "defenses", "experiments"):
        part = tree[tree.index(f"\n{folder}/") :]
        for name in re.findall(r"\b([a-z_]+\.py)\b", part[: part.index("\n", 1)]):
            assert list((ROOT / folder).rglob(name)), name
