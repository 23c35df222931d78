"""What a study asks of its teachers is what a recording must hold, before anything runs."""

import json

import numpy as np
import pytest

from distill.completions import BadInput, Interface
from distill.embedded import character_tokenizer
from distill.models import vocabulary_of
from distill.recordings import RecordedModel, read_recorded
from experiments import cli
from experiments.planning import questions
from experiments.settings import models, schema
from experiments.settings.entries import build_task

SMALL = ["task=addition(digits=2)", "seeds=[0]", "selection_seeds=[900]", "budget=40"]
SMALL += ["measure.items=10", "measure.selection_items=10", "defense=none"]


def study(*words):
    return schema.load("first", [*SMALL, *words])


def block_of(made):
    (block,) = made.blocks
    return block


def asked_prompts(*words):
    made = study(*words)
    block = block_of(made)
    return questions.asked_prompts(made, block.tasks[0], block)


def write(path, prompts, **more):
    rows = [{"prompt": prompt.text, "answer": "1"} | more for prompt in prompts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_study_asks_its_exam_its_queries_and_what_attacks_make_of_them():
    plain = asked_prompts("attacker=sft")
    assert set(plain) == {questions.TEXT}
    seeds = questions.query_seeds(study(), "addition(digits=2)")
    task = build_task("addition(digits=2)")
    items = [*task.items("report", 10, 0)]
    items += [item for seed in seeds for item in task.items("query", 40, seed)]
    assert {p.text for p in plain[questions.TEXT]} == {item.prompt.text for item in items}
    several = asked_prompts("attacker=ask/repeats(k=3) + clean/vote + sft")[questions.TEXT]
    assert {prompt.attempt for prompt in several} == {0, 1, 2}
    shown = asked_prompts("attacker=ask/few_shot + sft", "own=worked", "own.worked=4")
    assert any("\n" in prompt.text for prompt in shown[questions.TEXT])
    scored = asked_prompts("attacker=logprob_kd")
    assert set(scored) == {questions.TEXT, Interface("top_k", 20)}


@pytest.fixture
def plan(tmp_path, capsys):
    """`plan` of a study whose teacher is a recording of these rows; its exit code and output."""

    def planned(prompts, *words, **more):
        path = tmp_path / "r.jsonl"
        write(path, prompts, **more)
        questions._opened.cache_clear()
        overrides = ["teacher=recorded", f"teacher.path={path}", *SMALL, *words]
        code = cli.main(["plan", "first", "--runs", str(tmp_path), *overrides])
        shown = capsys.readouterr()
        assert code != 2 or shown.err.count("\n") == 1
        return code, shown.out + shown.err

    return planned


def test_a_recording_asked_more_often_than_it_has_attempts_is_one_line(plan):
    prompts = asked_prompts("attacker=sft")[questions.TEXT]
    vote = "attacker=ask/repeats(k=2) + clean/vote + sft"
    code, shown = plan(prompts, vote)
    assert code == 2 and "is asked 2 times, and was recorded 1 times" in shown
    code, shown = plan([*prompts, *prompts], vote)
    assert code == 0
    assert "teacher: read as fields" in shown and "at most 2 a prompt" in shown


def logprobs(**more):
    row = {"ids": [1, 2], "values": [-0.1, -2.5]}
    return {"token_ids": [1], "logprobs": [row, row]} | more


def own_tokenizer():
    return vocabulary_of(character_tokenizer(build_task("addition(digits=2)").alphabet))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "interface top_k asks for logprobs; the recording has none for"),
        (logprobs(), "does not say of which tokenizer its logprobs are"),
        (logprobs(tokenizer="a" * 64), "over the tokenizer aaaaaaaaaaaa, and the student's is"),
    ],
    ids=["none", "of an unknown tokenizer", "of another tokenizer"],
)
def test_an_attack_on_logprobs_needs_them_of_the_students_tokenizer(more, message, plan):
    code, shown = plan(asked_prompts("attacker=sft")[questions.TEXT], "attacker=logprob_kd", **more)
    assert code == 2 and message in shown


def test_recorded_logprobs_reach_the_student(plan, tmp_path):
    """From a file to the cache that a student learns from, by the stages themselves."""
    from distill import logprob_cache
    from experiments.launch import one
    from experiments.planning import plan as planning

    prompts = asked_prompts("attacker=sft")[questions.TEXT]
    code, shown = plan(prompts, "attacker=logprob_kd", **logprobs(tokenizer=own_tokenizer()))
    assert code == 0 and "2 logprobs a token" in shown
    words = ["teacher=recorded", f"teacher.path={tmp_path / 'r.jsonl'}", "attacker=logprob_kd"]
    planned = planning.make(study(*words))
    arm = next(arm for arm in planned.arms if arm.attacker == "logprob_kd")
    (completions,) = [s for s in arm.student.walk() if s.kind == "completions"]
    for stage in completions.walk():
        one.make(stage, tmp_path / "store")
    folder = tmp_path / "store" / "completions" / completions.key / "logprobs"
    cache = logprob_cache.read(folder, tokenizer=own_tokenizer())
    assert len(cache) == 40 and cache.arrays["values"].shape == (80, 2)
    assert np.allclose(cache.arrays["values"][0].astype("f4"), [-0.1, -2.5], atol=1e-3)


def test_a_weaker_teacher_is_asked_for_text_alone(tmp_path):
    made = study("attacker=logprob_kd")
    block = block_of(made)
    path = tmp_path / "w.jsonl"
    write(path, asked_prompts("attacker=sft")[questions.TEXT])
    recorded = models.Recorded(kind="recorded", name="weak", path=str(path))
    opened = questions.check_recording(made, block.tasks[0], "weaker_teacher", recorded, block)
    assert isinstance(opened, RecordedModel) and opened.answers == read_recorded(path).answers
    with pytest.raises(BadInput, match="asks for logprobs"):
        questions.check_recording(made, block.tasks[0], "teacher", recorded, block)
