"""README and the pages below docs hold to what there is: their commands are planned, their tables
are lines that `report --markdown` wrote, their links lead somewhere.
"""

import json
import re
import shlex
from pathlib import Path

import pytest

from distill.embedded import character_tokenizer, llama
from distill.folders import save
from distill.models import LanguageModel
from experiments import cli
from experiments.settings import catalog
from experiments.settings.entries import build_task
from experiments.tasks import Task

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
STUDIES = sorted((ROOT / "docs").glob("study-*.md"))
SMALL = ["budget=40", "measure.items=10", "measure.selection_items=10"]
"""For the problems that the tests have, in place of a user's thousands."""


TRIED = ("run", "plan", "check-plugin", "list", "show", "doctor")


def tables(text: str) -> list[list[str]]:
    """Blocks of lines that begin with a bar."""
    return [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", text, re.M)]


def blocks(text: str, language: str = "") -> list[str]:
    """What stands between fences of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def commands(text: str, *verbs: str) -> list[list[str]]:
    """The words of every command line of these verbs."""
    whole = text.replace("\\\n", "")  # a command may go on in the next line
    lines = [line for block in blocks(whole) for line in block.splitlines()]
    ours = [shlex.split(line, comments=True) for line in lines if line.startswith("distill-")]
    return [words for words in ours if words[1] in verbs]


def files(text: str) -> dict[str, str]:
    """Code blocks that stand below the path of their file."""
    return dict(re.findall(r"`(my_plugins/[\w/.]+)`\n\n```\w+\n(.*?)^```$", text, re.M | re.S))


def write_answers(path: Path, task: Task) -> None:
    """A recording of right answers to every question that a study may ask."""
    drafts = [draft for i in range(task.size) if (draft := task.draft(i)) is not None]
    rows = [{"prompt": draft.text, "answer": task.solution(draft)} for draft in drafts]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what README's commands name: a model, recordings, data."""
    folder = tmp_path_factory.mktemp("stranger")
    task = build_task("trace")
    tokenizer = character_tokenizer(task.alphabet)
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "max_length": 128}
    network = llama(tokenizer, **sizes, seed=0)
    save(LanguageModel(network, tokenizer), folder / "path" / "to" / "model")
    write_answers(folder / "answers.jsonl", task)
    sums = [{"question": f"What is {i}+1?", "answer": i + 1} for i in range(1500)]
    (folder / "my_data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in sums))
    for page in PAGES:
        for name, text in files(page.read_text(encoding="utf-8")).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (page, words)
        for page in ("README.md", "docs/running.md", "docs/extending.md")
        for words in commands((ROOT / page).read_text(encoding="utf-8"), *TRIED)
    ],
    ids=lambda one: " ".join(one[1:]) if isinstance(one, list) else one,
)
def test_a_command_works(page, words, place, monkeypatch, capsys):
    """What would run is planned."""
    monkeypatch.chdir(place)
    small = SMALL if any("my_data" in word for word in words) else []
    verb = "plan" if words[1] == "run" else words[1]
    assert cli.main([verb, *words[2:], *small]) == 0, capsys.readouterr().err


def test_studies_that_are_named_are_there():
    for page in PAGES:
        for words in commands(page.read_text(encoding="utf-8"), "run", "report", "show"):
            assert words[2] in catalog.names("study") or words[2].endswith(".yaml"), words


def test_every_row_of_a_studys_table_is_as_the_study_wrote_it():
    written: dict[str, set[str]] = {}
    for table in (one for path in STUDIES for one in tables(path.read_text(encoding="utf-8"))):
        written.setdefault(table[0], set()).update(table)
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    shown = [table for table in tables(results) if table[0] in written]
    assert shown, "docs/results.md has a table of a study"
    assert not [line for table in shown for line in table if line not in written[table[0]]]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_studys_page_says_which_study_made_it(path):
    name = path.stem.removeprefix("study-")
    assert (ROOT / "configs" / "study" / f"{name}.yaml").is_file()
    assert f"distill-resist report {name} --markdown" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_tree_names_what_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text[text.index("## Where things are") :]
    for folder in ("distill", "defenses", "experiments"):
        part = tree[tree.index(f"\n{folder}/") :]
        for name in re.findall(r"\b([a-z_]+\.py)\b", part[: part.index("\n", 1)]):
            assert list((ROOT / folder).rglob(name)), name


def test_readme_is_read_in_five_minutes():
    assert len(README.splitlines()) <= 120 and len(README.split()) <= 900
