"""Settings, plan and a whole study at a size of seconds."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.answers import BadInput
from experiments import config, plan
from experiments.stages import fingerprint
from experiments.store import Store

ROOT = Path(__file__).parents[2]
GSM8K = ROOT / "tests" / "data" / "gsm8k"
SMALL = [
    "teacher.steps=8",
    "student.steps=4",
    "seeds=[0,1]",
    "selection_seeds=[900]",
    "measure.items=50",
    "measure.selection_items=20",
    "teacher.items=200",
    "budget=16",
]
SMALL += ["task=addition", "defense=release/answer_only", "attacker=sft"]


@pytest.mark.parametrize("name", config.names("study"))
def test_every_shipped_study_plans(name):
    data = [f"task=gsm8k(path='{GSM8K}')", "budget=40", "measure.items=10"] if name == "gsm8k" else []
    data += [f"{who}.path={GSM8K}/example_model_solutions.jsonl" for who in ("teacher", "weaker_teacher") if data]
    made = plan.make(config.load(name, data))
    assert {arm.attacker for arm in made.arms} >= set(plan.FLOORS) - ({plan.WEAKER} if not data else set())
    assert plan.IDENTITY in {arm.defense for arm in made.arms}
    assert all(("none" == arm.defense) or arm.attacker not in plan.FLOORS for arm in made.arms)


@pytest.mark.parametrize("group", ["defense", "attacker", "task"])
def test_every_shipped_component_builds_and_shows_all_its_settings(group):
    for name in config.names(group):
        from omegaconf import OmegaConf

        written = OmegaConf.load(config.config_folder() / group / f"{name}.yaml")
        resolved, _ = config.component(group, f"gsm8k(path='{GSM8K}')" if name == "gsm8k" else name)
        assert dict(written.get("settings", {})).keys() == resolved.settings.keys(), name


def test_an_unknown_study_names_those_that_exist():
    with pytest.raises(BadInput, match="did you mean 'quickstart'"):
        config.load("quikstart", [])


def run(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "experiments.cli", "run", "quickstart", "--runs", str(folder), *SMALL, *more]


ENV = os.environ | {"OMP_NUM_THREADS": "1"}


def test_killed_ten_times_and_continued_in_another_folder_the_results_are_the_same(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    subprocess.run(run(first), cwd=ROOT, env=ENV, check=True, capture_output=True)
    rng = random.Random(0)
    for pause in [rng.uniform(1, 8) for _ in range(10)]:
        process = subprocess.Popen(
            run(second), cwd=ROOT, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(pause)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    done = subprocess.run(run(second, "--json"), cwd=ROOT, env=ENV, check=True, capture_output=True, text=True)
    rows = json.loads(done.stdout)
    made = plan.make(config.load("quickstart", SMALL))
    assert fingerprint(Store(first / "store"), made.stages) == fingerprint(Store(second / "store"), made.stages)
    for name in ("results.json", "measures.json", "arms.json", "grades.parquet", "analysis.yaml", "report.html"):
        assert (first / "quickstart" / name).read_bytes() == (second / "quickstart" / name).read_bytes()
    assert {"task", "defense", "attacker", "floor", "undefended", "transfer", "verdict"} <= rows[0].keys()
    # Students of four steps learn nothing, and nothing is a word.
    assert {row["verdict"] for row in rows} == {None, "not measurable"} and rows[0]["transfer"] is None


def test_sixty_arms_and_more_are_planned():
    words = ["seeds=[0,1,2,3,4]", "task=trace", "attacker=sft", "budget=[100,200]",
             "defense=[none,decoding/temperature,release/answer_only,release/truncate]"]  # fmt: skip
    config.load("quickstart", [])  # imports
    began = time.process_time()
    made = plan.make(config.load("quickstart", words))
    spent = time.process_time() - began
    assert len(made.arms) >= 60
    print(f"{len(made.arms)} arms in {spent:.2f} s")  # shown with -s; machines here are too noisy to assert on time
