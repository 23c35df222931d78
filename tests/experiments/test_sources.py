"""Studies with teachers that are not trained here: a local folder, and a recording
of real answers.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from distill.completions import BadInput, Interface, Prompt
from distill.embedded import byte_pair_tokenizer, character_tokenizer, llama
from distill.folders import save
from distill.models import LanguageModel
from experiments import cli
from experiments.planning import plan
from experiments.planning.scope import Scope
from experiments.settings import entries, schema
from experiments.stages import teacher
from experiments.stages.grades import read_grades
from experiments.stages.stage import Inputs
from experiments.store import Store

GSM8K = Path(__file__).parents[1] / "data" / "gsm8k"
TINY = [
    "student.steps=2",
    "seeds=[0]",
    "selection_seeds=[900]",
    "measure.items=10",
    "measure.selection_items=10",
]


def rows(capsys, *words):
    assert cli.main(["run", *words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_a_teacher_from_a_local_folder_is_asked_for_text_and_logprobs(tmp_path, capsys):
    exam = entries.build_task("addition")
    tokenizer = character_tokenizer(exam.alphabet)
    network = llama(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_length=128, seed=3)
    save(LanguageModel(network, tokenizer), tmp_path / "model")
    table = rows(
        capsys,
        "quickstart",
        "--runs",
        str(tmp_path / "runs"),
        *TINY,
        "teacher=pretrained",
        f"teacher.path={tmp_path / 'model'}",
        "teacher.max_new_tokens=8",
        "task=addition",
        "budget=6",
        "attacker=[sft,logprob_kd]",
        "defense=release/top_k",
    )
    assert {row["attacker"] for row in table} >= {"sft", "logprob_kd"} and table[-1][
        "verdict"
    ] == "not measurable"


def test_a_changed_folder_is_another_teacher(tmp_path):
    (tmp_path / "weights").write_text("1")
    words = ["teacher=pretrained", f"teacher.path={tmp_path}", "task=addition"]

    def address():
        return (
            plan.make(schema.load("quickstart", words))
            .teachers["addition", "none", "report"][0]
            .key
        )

    before = address()
    assert before == address()
    (tmp_path / "weights").write_text("2")
    assert before != address()


def test_real_recorded_answers_make_a_study(tmp_path, capsys):
    recording = GSM8K / "example_model_solutions.jsonl"
    words = [
        f"task=gsm8k(path='{GSM8K}')",
        f"teacher.path={recording}",
        f"weaker_teacher.path={recording}",
        "budget=20",
        "student.max_new_tokens=100",
        "student.vocabulary=400",
        "student.hidden_size=16",
    ]
    table = rows(capsys, "gsm8k", "--runs", str(tmp_path), *TINY, *words)
    by = {(row["attacker"], row["defense"]): row for row in table}
    assert {"floor/untrained", "floor/own_data", "floor/weaker_teacher", "floor/shuffled"} <= {
        name for name, _ in by
    }
    assert all(0 < row["bits_per_byte"] < 20 for row in table)
    # The recorded teacher's own exam is what its authors graded.
    made = plan.make(schema.load("gsm8k", [*TINY, *words]))
    stage = made.teachers[made.arms[0].task, "none", "report"][0]
    graded = read_grades(Store(tmp_path / "store").open(stage.kind, stage.key))
    by_question = {
        (line := json.loads(text))["question"]: line for text in recording.read_text().splitlines()
    }
    right = [by_question[row.prompt]["175b_verification"]["is_correct"] for row in graded]
    assert [row.outcome == "right" for row in graded] == right
    # A recording has no surprisal; students have one of each of their own answers, however long.
    assert all(row.nats is None for row in graded)
    grades = read_grades(Store(tmp_path / "store").open("evaluation", made.arms[0].exam.key))
    assert all(row.nats > 0 for row in grades)


def test_surprisal_is_the_negative_log_likelihood_of_a_plain_forward_pass():
    tokenizer = character_tokenizer("0123456789+=")
    network = llama(
        tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_length=32, seed=0, init=0.5
    )
    model = LanguageModel(network, tokenizer, max_new_tokens=8, batch_size=2)
    prompts, texts = [Prompt(str(n), "1" * n + "=") for n in (1, 5, 3)], ["7", "", "123"]
    for prompt, text, nats in zip(prompts, texts, model.surprisal(prompts, texts), strict=True):
        ids = torch.tensor(
            [model.encode(prompt) + tokenizer(text).input_ids + [tokenizer.eos_token_id]]
        )
        start = len(model.encode(prompt))
        logs = torch.log_softmax(network(ids).logits[0], -1)
        expected = -sum(float(logs[t - 1, ids[0, t]]) for t in range(start, ids.shape[1]))
        assert nats == pytest.approx(expected, rel=1e-4)


def test_a_byte_pair_tokenizer_spells_any_text():
    tokenizer = byte_pair_tokenizer(["the cat sat on the mat"] * 5, 280)
    for text in ("the cat", "naïve 😀\n", "a  b"):
        assert (
            tokenizer.decode(tokenizer(text).input_ids, clean_up_tokenization_spaces=False) == text
        )
    assert len(tokenizer) <= 280 and len(tokenizer("the").input_ids) < 3


def test_an_empty_profile_of_a_recording_is_text_alone(tmp_path):
    from distill.recordings import read_recorded

    path = tmp_path / "r.jsonl"
    path.write_text(
        '{"prompt": "p", "answer": "a", "token_ids": [1], "finished": false, '
        '"logprobs": [{"ids": [1, 2], "values": [-0.1, -2.5]}]}\n'
    )
    recorded = read_recorded(path)
    assert recorded.generate([Prompt("x", "p")], seed=0, interface=Interface())[0].logprobs is None
    logprobs = recorded.generate([Prompt("x", "p")], seed=0, interface=Interface("top_k", 2))[
        0
    ].logprobs
    assert logprobs.values_TK.shape == (1, 2) and logprobs.values_TK[0].tolist() == pytest.approx(
        [-0.1, -2.5]
    )


def test_a_teacher_that_diverges_is_an_error(tmp_path, monkeypatch):
    training = SimpleNamespace(diverged=True, steps=40, learning_rate=9.0)
    monkeypatch.setattr(teacher, "train_fresh", lambda *_: (None, training))
    scope = Scope(schema.load("quickstart", ["task=addition(digits=2)"]), "addition(digits=2)")
    with pytest.raises(
        BadInput,
        match="teacher: its training diverged after 40 steps; lower its learning rate of 9",
    ):
        teacher.run(scope.teacher.spec, Inputs(), tmp_path)


def test_a_pretrained_teacher_is_looked_at_in_its_own_stage(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    words = ["teacher=pretrained", f"teacher.path='{tmp_path}'"]
    spec = Scope(schema.load("quickstart", words), "addition").teacher.spec
    with pytest.raises(BadInput, match="Unrecognized model"):
        teacher.run(spec, Inputs(), tmp_path)
