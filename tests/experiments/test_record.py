"""A recording of a teacher is the teacher: the same answers, and the same bytes after a kill."""

import json

import pytest

from distill.completions import Interface
from distill.embedded import character_tokenizer, llama
from distill.folders import load, save
from distill.models import LanguageModel, vocabulary_of
from distill.recordings import read_recorded
from experiments import cli
from experiments.commands import recording
from experiments.settings.entries import build_task

ENTRY = "addition(digits=2)"
SMALL = [f"task={ENTRY}", "seeds=[0]", "selection_seeds=[900]", "budget=20", "defense=none"]
SMALL += ["measure.items=10", "measure.selection_items=10"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    tokenizer = character_tokenizer(build_task(ENTRY).alphabet)
    network = llama(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_length=64, seed=3)
    save(LanguageModel(network, tokenizer), place)
    return place


def words(folder, *more):
    pretrained = ["teacher=pretrained", f"teacher.path={folder}", "teacher.max_new_tokens=6"]
    return [*pretrained, *SMALL, *more]


def test_a_study_runs_on_the_recording_that_was_made_for_it(folder, tmp_path, capsys):
    to, runs = tmp_path / "r.jsonl", ["--runs", str(tmp_path)]
    attack = "attacker=ask/repeats(k=2) + clean/vote + sft"
    command = ["record", "first", *words(folder, attack), *runs, "--to", str(to)]
    assert cli.main(command) == 0, capsys.readouterr().err
    recorded = read_recorded(to)
    assert max(map(len, recorded.answers.values())) == 2
    overrides = ["teacher=recorded", f"teacher.path={to}", attack, *SMALL]
    assert cli.main(["plan", "first", *overrides, *runs]) == 0, capsys.readouterr().err
    assert "read as fields" in capsys.readouterr().out
    assert cli.main(command) == 2
    assert "is there already" in capsys.readouterr().err


def test_what_is_recorded_is_what_the_model_says(folder, tmp_path, capsys):
    to = tmp_path / "r.jsonl"
    more = ["--split", "query", "--n", "5", "--seed", "7", "--interface", "top_k", "--to", str(to)]
    overrides = words(folder, "attacker=sft", "teacher.temperature=1.0")
    command = ["record", "first", *overrides, "--runs", str(tmp_path), "--attempts", "3", *more]
    assert cli.main(command) == 0, capsys.readouterr().err
    model = load(str(folder), temperature=1.0, max_new_tokens=6)
    items = build_task(ENTRY).items("query", 5, 7)
    prompts = recording._several([item.prompt for item in items], 3)
    top = Interface("top_k", 20)
    expected = model.generate(prompts, seed=7, interface=top)
    recorded = read_recorded(to)
    assert recorded.vocabulary == vocabulary_of(model.tokenizer)
    answers = recorded.generate(prompts, seed=0, interface=top)
    for ours, theirs in zip(answers, expected, strict=True):
        assert (ours.text, ours.token_ids, ours.finished) == (
            theirs.text,
            theirs.token_ids,
            theirs.finished,
        )
        assert (ours.logprobs.values_TK == theirs.logprobs.values_TK).all()
    assert len({one.text for one in expected}) > 5  # or attempts would not be told apart


def test_a_killed_recording_goes_on_and_has_the_same_bytes(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recording, "CHUNK", 4)
    whole, again = tmp_path / "whole.jsonl", tmp_path / "again.jsonl"
    overrides = words(folder, "attacker=sft")
    command = ["record", "first", *overrides, "--runs", str(tmp_path)]
    command += ["--split", "query", "--n", "10"]
    assert cli.main([*command, "--to", str(whole)]) == 0, capsys.readouterr().err
    write, left = recording._line, [6]

    def dying(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(recording, "_line", dying)
    assert cli.main([*command, "--to", str(again)]) == 130 and not again.exists()
    (part,) = tmp_path.glob("again.jsonl.*.part")
    part.write_bytes(part.read_bytes() + b'{"prompt": "half a li')
    monkeypatch.setattr(recording, "_line", write)
    capsys.readouterr()
    assert cli.main([*command, "--to", str(again)]) == 0
    assert capsys.readouterr().err.startswith("8 of 10 answers\n")  # the first four are there
    assert again.read_bytes() == whole.read_bytes() and len(whole.read_text().splitlines()) == 10
    assert all(json.loads(line)["attempt"] == 0 for line in whole.open())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--split", "query"], "--n: how many questions of query?"),
        (["--split", "test", "--n", "3"], "no split 'test'"),
        (["--task", "trace"], "--task: must be one of the study's, got trace"),
    ],
)
def test_a_wrong_word_is_one_line(more, message, folder, tmp_path, capsys):
    to = ["--to", str(tmp_path / "r.jsonl"), "--runs", str(tmp_path)]
    assert cli.main(["record", "first", *words(folder, "attacker=sft"), *to, *more]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
