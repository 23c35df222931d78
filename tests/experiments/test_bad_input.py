"""What a user can get wrong is one line that says where and what is right, exit code 2, and nothing lost."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import cli, config, entries, plan

ROOT = Path(__file__).parents[2]
SMALL = ["teacher.steps=4", "student.steps=2", "seeds=[0]", "measure.items=50", "teacher.items=100", "budget=8",
         "task=addition", "defense=release/answer_only", "attacker=sft"]  # fmt: skip
ENV = os.environ | {"OMP_NUM_THREADS": "1"}


def command(folder, *more, verb="run"):
    return [sys.executable, "-m", "experiments.cli", verb, "quickstart", "--runs", str(folder), *SMALL, *more]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("student.lerning_rate=1", "unknown key 'student.lerning_rate'; did you mean 'learning_rate'"),
        ("measure.item=1", "unknown key 'measure.item'; did you mean 'items'"),
        ("+measure.item=60", "unknown key 'measure.item'; did you mean 'items'"),
        ("+teacher.stepz=60", "unknown key 'teacher.recipe.stepz'; did you mean 'steps'"),
        ("seds=[1]", "unknown key 'seds'; did you mean 'seeds'"),
        ("tracking.mod=off", "did you mean 'mode'"),
        ("student=tiney", "student: no 'tiney'; did you mean 'tiny'"),
        ("tracking=wandb", r"tracking: no 'wandb' \(there are: off, offline, online\)"),
        ("student.learning_rate=-1", "greater than 0 .got -1"),
        ("student.hidden_size=20", "multiple of 2 x num_heads"),
        ("measure.items=many", "valid integer"),
        ("teacher.kind=magic", "'recipe', 'pretrained', 'recorded'"),
        ("seeds=[0,0]", "must differ"),
        ("seeds=[-1]", "greater than or equal to 0"),
        ("seeds", "an override is key=value"),
        ("defense=release/topk", "did you mean 'release/top_k'"),
        ("defense=release/truncate(kep=0.2)", "unknown key 'kep'; did you mean 'keep'"),
        ("defense=release/truncate(keep=2)", "less than or equal to 1"),
        ("defense=release/truncate(0.2)", "an entry is a name, or name"),
        ("task=adition", "did you mean 'addition'"),
        ("task=gsm8k(path=nowhere)", "no train.jsonl and no test.jsonl in nowhere"),
        ("budget=0", "greater than or equal to 1 .got '0'"),
        ("attacker=logprob_kd", None),
    ],
)
def test_a_mistake_in_the_settings(override, message, capsys):
    more = ["defense=release/truncate"] if override.startswith("attacker") else []
    code = cli.main(["plan", "quickstart", *more, override])
    if message is None:  # a cell that cannot be is left out with a note, and the ceiling of the attacker stays
        assert code == 0 and "release/truncate, as it releases no logprobs: logprob_kd" in capsys.readouterr().out
        return
    error = capsys.readouterr().err
    assert code == 2 and re.search(message, error) and error.count("\n") == 1


@pytest.mark.parametrize(
    ("word", "group"),
    [("access", "access"), ("campaigns", "campaigns"), ("detectors", "detector"), ("studies", "study")],
)
def test_a_group_is_listed_by_its_name_and_by_its_plural(word, group, capsys):
    assert cli.main(["list", word]) == 0
    assert capsys.readouterr().out == f"{group}: {' '.join(entries.names(group))}\n"


@pytest.mark.parametrize("words", [["report", "nothing"], ["run", "my.yaml"], ["list", "defence"], ["show"]])
def test_what_does_not_exist_is_named_with_what_does(words, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and ("there are" in error or "studies by name" in error)


def test_an_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["plan", "quickstart", "--wrokers", "2"])
    with pytest.raises(SystemExit, match="2"):
        cli.main(["plan", "quickstart", "--workers", "0"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ('{"prompt": 1, "answer": "x"}', "line 2: prompt must be a string, got 1"),
        ('{"prompt": "1+1="}', "line 2: answer must be a string, got None"),
        (
            '{"prompt": "x", "answer": "y", "logprobs": [{"ids": [], "values": []}, {"ids": [], "values": []}]}',
            "line 2: token_ids and logprobs",
        ),
        ('{"prompt": "ok", "answer": "another"}', "line 2: a second, other answer"),
        ('{"prompt": "x", "answer": "y"}', r"no answer to \d+ prompts, first"),
    ],
)
def test_a_broken_recording_is_refused_before_anything_runs(line, message, tmp_path, capsys):
    path = tmp_path / "recorded.jsonl"
    path.write_text('{"prompt": "ok", "answer": "ok"}\n' + line + "\n")
    assert cli.main(["plan", "quickstart", "teacher=recorded", f"teacher.path={path}", "defense=release/truncate",
                     "attacker=sft"]) == 2  # fmt: skip
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1


def test_a_recording_cannot_be_decoded_anew(tmp_path, capsys):
    path = tmp_path / "recorded.jsonl"
    exam = entries.component("task", "addition")[1]
    seeds = [*range(6), 900, *range(1000, 1006)]  # of students, floors and the identity control

    def recorded(seeds):
        items = exam.items("report", 300, 0) + [i for seed in seeds for i in exam.items("query", 800, seed)]
        path.write_text("".join(json.dumps({"prompt": i.prompt.text, "answer": i.solution}) + "\n" for i in items))

    words = ["plan", "quickstart", "teacher=recorded", f"teacher.path={path}", "task=addition", "attacker=sft"]
    for lost in (5, 900, 1005):
        recorded([seed for seed in seeds if seed != lost])
        plan._recording.cache_clear()
        assert cli.main([*words, "defense=release/truncate"]) == 2
        assert "no answer to" in capsys.readouterr().err
    recorded(seeds)
    plan._recording.cache_clear()
    assert cli.main([*words, "defense=release/truncate"]) == 0
    assert cli.main([*words, "defense=decoding/perturbed"]) == 2
    assert "is recorded and can only be edited" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["file", "proc"])
def test_a_folder_that_cannot_be_written(where, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "runs" if where == "file" else Path("/proc/runs")
    assert cli.main(["run", "quickstart", "--runs", str(folder), *SMALL]) == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error and error.count("\n") == 1


def test_a_full_disk_loses_nothing(tmp_path):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    failed = subprocess.run(
        command(tmp_path), cwd=ROOT, env=ENV, capture_output=True, text=True, preexec_fn=small_files
    )
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1, failed.stderr
    assert "the same command continues" in failed.stderr
    subprocess.run(command(tmp_path), cwd=ROOT, env=ENV, check=True, capture_output=True)


def test_two_processes_share_one_folder(tmp_path):
    both = [subprocess.Popen(command(tmp_path, "--json"), cwd=ROOT, env=ENV, stdout=-1, stderr=-1) for _ in range(2)]
    rows = [json.loads(one.communicate(timeout=3600)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0] and rows[0] == rows[1]


def test_an_altered_result_is_named(tmp_path, capsys):
    subprocess.run(command(tmp_path), cwd=ROOT, env=ENV, check=True, capture_output=True)
    arm = plan.make(config.load("quickstart", SMALL)).arms[0]
    path = tmp_path / "store" / "exam" / arm.exam.key / "grades.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert cli.main(["report", "quickstart", "--runs", str(tmp_path), *SMALL]) == 2
    assert re.search("grades.parquet: missing or altered", capsys.readouterr().err)
