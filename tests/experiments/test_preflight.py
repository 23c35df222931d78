"""What a study names is opened before anything is written, and what is wrong is one line."""

import re
from dataclasses import replace

import pytest

from distill.completions import BadInput
from distill.embedded import byte_pair_tokenizer, character_tokenizer, llama
from distill.folders import save
from distill.models import LanguageModel
from experiments import cli
from experiments.planning import preflight
from experiments.settings.entries import build_task
from experiments.tasks import Outcome, trace
from tests.experiments.small import last

WORDS = ["task=addition", "defense=release/answer_only", "seeds=[0,1]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    tokenizer = character_tokenizer("0123456789+=; #")
    network = llama(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_length=96, seed=3)
    save(LanguageModel(network, tokenizer), place)
    return place


def overrides(path, *words):
    return last("teacher=pretrained", f"teacher.path={path}", "attacker=sft", *WORDS, *words)


@pytest.mark.parametrize("words", [[], ["attacker=logprob_kd", "defense=none"]])
def test_a_whole_folder_passes(words, folder, capsys):
    assert cli.main(["plan", "quickstart", *overrides(folder, *words)]) == 0
    output = capsys.readouterr()
    assert "to do" in output.out and not output.err


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ("./gone", [], "teacher.path: no folder .*a model is a folder with config.json"),
        ("http://127.0.0.1:8000/v1", [], "teacher.path: no folder"),
        ("config.json", [], "teacher.path: model .*config"),
        ("tokenizer.json", [], "teacher.path: model .*tokenizer"),
        ("model.safetensors", [], r"holds no weights \(\*.safetensors\)"),
        ("", ["teacher.max_new_tokens=90"], "90 and a question of addition of 8 tokens are more"),
        ("other", ["attacker=logprob_kd", "defense=none"], "student with the teacher's tokenizer"),
    ],
)
def test_a_model_that_cannot_be_asked_is_found_by_plan(
    change, words, message, folder, tmp_path, capsys
):
    import shutil

    place = shutil.copytree(folder, tmp_path / "model")
    if change == "other":
        tokenizer = character_tokenizer("0123456789+=; #x")
        network = llama(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_length=96, seed=3)
        save(LanguageModel(network, tokenizer), place)
    elif change.endswith((".json", ".safetensors")):
        (place / change).unlink()
    elif change:
        place = change
    teacher = ["teacher=pretrained", f"teacher.path='{place}'"]
    overrides = last(*teacher, "attacker=sft", *WORDS, *words)
    runs = tmp_path / "runs"
    assert cli.main(["run", "quickstart", "--runs", str(runs), *overrides]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1 and not runs.exists()


@pytest.mark.parametrize(
    ("tokens", "room", "message"),
    [
        ("characters", 600, "cannot spell what it is told, first 'Grade an answer"),
        ("bytes", 400, r"takes \d+ tokens with a question of addition; .* context of 400$"),
        ("bytes", 900, ""),
    ],
)
def test_what_a_teacher_is_told_must_be_spelled_and_fit(tokens, room, message, tmp_path, capsys):
    alphabet, texts = "0123456789+=; #", ["12+34="]
    spelled = character_tokenizer(alphabet), byte_pair_tokenizer(texts, 300)
    tokenizer = spelled[tokens == "bytes"]
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "max_length": room}
    save(LanguageModel(llama(tokenizer, seed=3, **sizes), tokenizer), tmp_path / "model")
    words = overrides(tmp_path / "model", "attacker=judged(by=instruction)", "defense=none")
    assert cli.main(["plan", "quickstart", *words]) == (2 if message else 0)
    error = capsys.readouterr().err
    assert re.search(message, error.strip()) and error.count("\n") == bool(message)


@pytest.mark.parametrize("entry", ["addition", "trace", "lookup"])
@pytest.mark.parametrize("what", ["public", "train_items"])
def test_a_grader_that_calls_its_own_answers_wrong_is_named(entry, what, monkeypatch):
    task = build_task(entry)
    preflight.check_grader(entry, task)
    solutions = {item.solution for item in getattr(task, what)(task.grader.tried, 0)}
    grade = type(task).grade
    monkeypatch.setattr(
        type(task),
        "grade",
        lambda self, text, reference: (
            Outcome.UNPARSED if text in solutions else grade(self, text, reference)
        ),
    )
    with pytest.raises(BadInput, match="its grader calls its own .* unparsed: question"):
        preflight.check_grader(entry, task)


def test_a_reference_that_the_grader_cannot_read_is_named(monkeypatch):
    task = build_task("trace")
    items = [replace(item, reference="none") for item in task.train_items(2, 0)]
    monkeypatch.setattr(type(task), "train_items", lambda *_: items)
    with pytest.raises(BadInput, match="task trace: question '.*: reference 'none' is nothing"):
        preflight.check_grader("trace", task)


def test_a_task_without_a_grader_is_named(monkeypatch):
    monkeypatch.delattr(trace.Task, "grader")
    with pytest.raises(BadInput, match="task trace.*has no grader"):
        build_task("trace(statements=5)")


def test_a_question_without_room_for_its_answer_is_named(tmp_path, capsys):
    words = ["student.max_length=66", "student.max_new_tokens=60", *WORDS]
    assert cli.main(["plan", "quickstart", *words]) == 2
    assert "student.max_length: 66 has no room for a question" in capsys.readouterr().err


def test_a_healthy_study_is_planned(capsys, tmp_path):
    assert cli.main(["plan", "first", "--runs", str(tmp_path), "--workers", "2"]) == 0
    out = capsys.readouterr().out
    assert " min with 2 workers (assumed" in out


def test_a_weaker_teacher_is_asked_the_same_questions(capsys):
    assert cli.main(["plan", "downgrade", "weaker_teacher.max_length=66"]) == 2
    assert "weaker_teacher.max_length: 66 has no room for a question" in capsys.readouterr().err
