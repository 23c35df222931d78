"""Any data set as a task: its questions, splits and copies, and one line for a row that is none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from distill.completions import BadInput
from experiments.contracts import tasks, title
from experiments.planning import plan
from experiments.planning.scope import Scope
from experiments.settings import schema
from experiments.tasks import dataset
from experiments.tasks.dataset import Settings, Task, _splits_of

ROOT = Path(__file__).parents[2]
SPLITS = ("train", "query", "validate", "select", "report")


def rows(n=400):
    return [
        {"question": f"What is {i}+{i + 1}?", "answer": 2 * i + 1, "on": i % 7} for i in range(n)
    ]


def write(path, some):
    path.write_text("".join(json.dumps(row) + "\n" for row in some))
    return str(path)


def task_of(path, **settings):
    return Task(Settings(path=str(path), **{"grader": "number"} | settings))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return task_of(write(tmp_path_factory.mktemp("data") / "d.jsonl", rows(2000)), cluster="on")


@pytest.mark.parametrize("claim", tasks.CLAIMS, ids=title)
def test_it_keeps_the_contract_of_a_task(claim, task):
    claim(task)


def test_every_row_is_in_one_split_as_the_plan_counts_it(task):
    drawn = {split: task.items(split, task.available(split, 10**6), 0) for split in SPLITS}
    texts = [item.prompt.text for items in drawn.values() for item in items]
    assert sorted(texts) == sorted(row["question"] for row in rows(2000))
    assert [round(len(drawn[split]) / 2000, 1) for split in SPLITS] == [0.5, 0.2, 0.1, 0.1, 0.1]
    assert {item.cluster for item in drawn["query"]} == set("0123456")


CHOICES = {"question": "2+2?", "options": ["3", "4", "5"]}
ROWS = {  # settings, a row, the prompt, the reference, the worked solution
    "plain": ({}, {"question": "2+2?", "answer": "4"}, "2+2?", "4", " # 4"),
    "a number": ({}, {"question": "2+2?", "answer": 4.0}, "2+2?", "4", " # 4"),
    "behind a mark": (
        {"behind": "####"},
        {"question": "2+2?", "answer": "2 and 2\n#### 4"},
        "2+2?",
        "4",
        "2 and 2 # 4",
    ),
    "columns by path": (
        {"question": "q.0.text", "answer": "a.value", "solution": "s"},
        {"q": [{"text": "2+2?"}], "a": {"value": 4}, "s": "2 and 2"},
        "2+2?",
        "4",
        "2 and 2 # 4",
    ),
    "a template": (  # a brace that holds no word is text, as is all that a column holds
        {"template": "{on} {question} {"},
        {"question": "2+2? {on}", "answer": "4", "on": "Sums."},
        "Sums. 2+2? {on} {",
        "4",
        " # 4",
    ),
    "a letter of options": (
        {"choices": "options", "grader": "choice"},
        CHOICES | {"answer": "b"},
        "2+2?\nA. 3\nB. 4\nC. 5",
        "B",
        " # B",
    ),
    "the number of an option": (
        {"choices": "options", "grader": "choice"},
        CHOICES | {"answer": 1},
        "2+2?\nA. 3\nB. 4\nC. 5",
        "B",
        " # B",
    ),
    "the text of an option": (
        {"choices": "options", "grader": "choice", "template": "{choices}\n{question}"},
        CHOICES | {"answer": "4"},
        "A. 3\nB. 4\nC. 5\n2+2?",
        "B",
        " # B",
    ),
    "labelled options": (
        {"choices": "options", "grader": "choice"},
        {"question": "q", "options": {"text": ["x", "y"], "label": ["A", "B"]}, "answer": "A"},
        "q\nA. x\nB. y",
        "A",
        " # A",
    ),
    "a truth value": (
        {"grader": "exact"},
        {"question": "q", "answer": True},
        "q",
        "true",
        " # true",
    ),
    "boxed": (
        {"format": {"kind": "boxed"}},
        {"question": "q", "answer": "4"},
        "q",
        "4",
        r" \boxed{4}",
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_row_is_a_question(case, tmp_path):
    settings, row, text, reference, solution = ROWS[case]
    made = task_of(write(tmp_path / "d.jsonl", [row]), **settings)
    item = made.item(made.draft(0))
    assert (item.prompt.text, item.reference, item.solution) == (text, reference, solution)
    assert made.grade(solution, item.reference) == "right"


def test_the_system_prompt_is_no_part_of_the_question(tmp_path):
    path = write(tmp_path / "d.jsonl", rows(9))
    bare, prompted = task_of(path), task_of(path, system="Be brief.")
    first, second = (one.item(one.draft(0)).prompt for one in (bare, prompted))
    assert second.system == "Be brief." and (first.id, first.text) == (second.id, second.text)


WRONG = {  # settings, a row behind a good one, what is said of its line
    "no column": ({}, {"question": "q"}, "line 2: has no column 'answer' (there are: question)"),
    "no such template": (
        {"template": "{text}"},
        {"question": "q", "answer": 1},
        "line 1: has no column 'text'",
    ),
    "an empty answer": ({}, {"question": "q", "answer": " "}, "line 2: answer is empty"),
    "no answer": ({}, {"question": "q", "answer": None}, "line 2: answer is empty (got None)"),
    "not a number": ({}, {"question": "q", "answer": float("nan")}, "line 2: answer is empty"),
    "an empty question": ({}, {"question": "", "answer": 4}, "line 2: question is empty"),
    "a list": ({}, {"question": ["q"], "answer": 4}, "line 2: question is no text (got ['q'])"),
    "another kind": (
        {},
        {"question": "q", "answer": "4"},
        "line 2: answer is a text, in the rows before it a nu",
    ),
    "what no grader reads": (
        {"grader": "exact", "grading": {"form": "[0-9]"}},
        {"question": "q", "answer": 44},
        "line 2: ",
    ),
    "half a letter": (
        {"answer": "on"},
        {"question": "\ud800", "on": 4},
        "line 2: question holds half",
    ),
    "nothing behind": ({"behind": "####", "answer": "question"}, {"question": "#"}, "line 1: "),
    "no options": (
        {"choices": "on"},
        {"question": "q", "on": "ab"},
        "must be a list of 2 to 26",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_row_that_is_none_is_one_line(case, tmp_path):
    settings, row, message = WRONG[case]
    path = write(tmp_path / "d.jsonl", [{"question": "2+2?", "answer": 4, "on": 4}, row])
    with pytest.raises(BadInput) as caught:
        task_of(path, **settings)
    line = str(caught.value)
    assert line.startswith(f"{path}: line ") and message in line and "\n" not in line


OPTIONS = {"question": "q", "options": ["x", "y"], "answer": "A"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "C"}, "answer is none of the options A, B, got 'C'"),
        ({"answer": 2}, "answer is none of the options A, B, got 2"),
        ({"options": ["x", "x"]}, "has an option that is empty, twice there"),
        ({"options": ["x", None]}, "has an option that is empty, twice there, or no text"),
        ({"options": {"text": ["x", "y"], "label": ["Q", "R"]}}, "has labels ['Q', 'R']"),
    ],
)
def test_options_that_leave_no_right_one_are_one_line(change, message, tmp_path):
    path = write(tmp_path / "d.jsonl", [OPTIONS | change])
    with pytest.raises(BadInput, match="line 1: ") as caught:
        task_of(path, choices="options", grader="choice")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": None}, "which data\\? write 'task=dataset"),
        ({"path": "gone.jsonl"}, "gone.jsonl: no such file"),
        ({"grader": "numbr"}, "grader: no 'numbr'; did you mean 'number'"),
        ({"grading": {"depth": 3}}, "grader number: depth"),
    ],
)
def test_a_setting_that_names_nothing_is_one_line(settings, message, tmp_path):
    path = write(tmp_path / "d.jsonl", rows(9))
    with pytest.raises(BadInput, match=message):
        Task(Settings(**{"path": path, "grader": "number"} | settings))


@pytest.mark.parametrize(
    ("parts", "splits"),
    [
        ({"train": ("train", "query", "validate"), "test": ("select", "report")}, None),
        ({"train": ("train", "query"), "dev": ("validate", "select"), "test": ("report",)}, None),
        ({split: (split,) for split in SPLITS}, None),
    ],
)
def test_parts_of_the_data_are_for_splits_that_fit_them(parts, splits):
    assert {part: _splits_of(part, {*parts}) for part in parts} == parts


def test_a_column_or_a_second_file_says_what_a_row_is_for(tmp_path):
    some = rows(300)
    for place, row in enumerate(some):
        row["for"] = "test" if place >= 200 else "train"
    by_column = task_of(write(tmp_path / "d.jsonl", some), split="for")
    by_file = task_of(
        write(tmp_path / "a.jsonl", some[:200]), test_path=write(tmp_path / "b.jsonl", some[200:])
    )
    for made in (by_column, by_file):
        exam = made.items("report", made.available("report", 99), 0)
        exam += made.items("select", made.available("select", 99), 0)
        assert {item.prompt.text for item in exam} == {row["question"] for row in some[200:]}
    assert by_column.data == by_file.data  # where the rows lie is no part of what they are
    some[0]["for"] = "lost"
    with pytest.raises(BadInput, match="the part 'lost' is unknown; a part is one of train, test"):
        task_of(write(tmp_path / "d.jsonl", some), split="for")


@pytest.mark.parametrize("change", ["in two splits", "with two answers"])
def test_copies_are_refused_or_dropped_by_rule_and_counted(change, tmp_path):
    some = rows(100)
    copy = {"question": " What is  3+4? ", "answer": 7 if change == "in two splits" else 8}
    train, test = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    settings = {"test_path": write(test, [copy, *rows(150)[100:]])}
    if change == "with two answers":
        some, settings = [*some, copy], {}
    write(train, some)
    with pytest.raises(BadInput, match="first 'What is 3.4.'; write duplicates=drop to leave"):
        task_of(train, **settings)
    made = task_of(train, duplicates="drop", **settings)
    assert made.notes == ("dataset: 1 questions are copies of others and left out",)
    there = [
        item
        for split in SPLITS
        for item in made.items(split, made.available(split, 999), 0)
        if item.prompt.text.split() == ["What", "is", "3+4?"]
    ]
    assert [item.reference for item in there] == ["7"]
    if change == "in two splits":  # the exam keeps its question
        assert there[0].prompt.text == copy["question"]


def test_copies_that_say_the_same_are_dropped_and_counted(tmp_path):
    made = task_of(write(tmp_path / "d.jsonl", [*rows(20), *rows(3)]))
    assert made.different == 20 and made.notes[0].startswith("dataset: 3 questions are copies")


def test_an_address_holds_what_the_data_are_and_not_where(tmp_path):
    def spec(name, change=0):
        some = rows(2000)
        some[5]["answer"] += change
        (tmp_path / name).mkdir()
        path = write(tmp_path / name / "d.jsonl", some)
        entry = f'dataset(path="{path}",grader=number)'
        made = schema.load("first", [f"task={entry}"])
        return Scope(made, made.blocks[0].tasks[0]).spec

    original, elsewhere, other = spec("one"), spec("elsewhere"), spec("other", 1)
    assert original == elsewhere and original.data != other.data
    assert str(tmp_path) not in original.model_dump_json()


def test_a_study_of_a_data_set_is_planned_and_says_what_was_left_out(tmp_path):
    path = write(tmp_path / "d.jsonl", [*rows(2000), *rows(2)])
    entry = f'dataset(path="{path}",grader=number)'
    words = [f"task={entry}", "attacker=sft", "budget=50", "measure.items=50", "seeds=[0]"]
    made = plan.make(schema.load("first", [*words, "measure.selection_items=20"]))
    assert "dataset: 2 questions are copies of others and left out" in made.notes


MEMORY = """
import json, resource, sys, tempfile
from experiments.tasks.dataset import Settings, Task
with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    for i in range(int(sys.argv[1])):
        row = {"question": f"What is {i}+{i + 1}, and why? " + "x" * 400, "answer": str(2 * i + 1)}
        file.write(json.dumps(row) + "\\n")
    file.flush()
    task = Task(Settings(path=file.name))
    task.items("report", 50, 0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_memory_grows_by_a_few_bytes_a_row():
    """Of rows of 450 bytes fewer than 100 are held: two million are 0.2 GB and not 1."""
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", MEMORY, str(n)],
                capture_output=True,
                check=True,
                text=True,
                cwd=ROOT,
            ).stdout
        )
        for n in (40_000, 120_000)
    ]
    assert (peaks[1] - peaks[0]) / 80_000 < 100


def test_a_file_that_changed_is_read_again(tmp_path):
    path = write(tmp_path / "d.jsonl", rows(20))
    before = task_of(path).data
    write(tmp_path / "d.jsonl", rows(21))
    assert task_of(path).data != before


def test_a_vocabulary_is_learned_from_training_questions(task):
    texts = task.corpus()
    train = {item.prompt.text for item in task.train_items(9999, 0)}
    assert {*texts[::2]} == train and len(texts) == 2 * len(train)
    assert dataset.LEARNED >= len(train)
