"""Study `real` in small, with the real model where its package can be had: two steps a student."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.results.read import read_results
from tests.distill.smollm2 import smollm2

ROOT = Path(__file__).parents[1]
SMALL = [
    "seeds=[0]",
    "baseline_seeds=1",
    "selection_seeds=[900]",
    "measure.looks=[5]",
    "measure.items=10",
    "measure.selection_items=10",
    "measure.teacher_seeds=1",
    "teacher.items=4",
    "teacher.steps=2",
    "teacher.batch_size=2",
    "teacher.max_new_tokens=23",
    "student.steps=2",
    "student.batch_size=2",
    "student.max_new_tokens=23",
    "defense=[none]",
    "attacker=sft",
    "budget=4",
    "own.worked=0",
    "provider.proxy=null",
    "name=small",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the model where study `real` looks for it."""
    source, into = smollm2(), tmp_path_factory.mktemp("real")
    model = into / "runs/models/smollm2-135m-instruct"
    assert command(into, "convert", str(source), str(model)) == 0
    yield into
    shutil.rmtree(into)


def command(folder, *words):
    call = [sys.executable, "-m", "experiments.cli", *words]
    return subprocess.run(call, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode


def test_a_real_student_is_trained_and_examined(folder):
    """Two steps teach nothing; but all of it runs, on that model, and floors are no student of the
    teacher.
    """
    assert command(folder, "run", "real", *SMALL, "--workers", "1") == 0
    arms = read_results(folder / "runs/small").arms
    assert all(arm.finished and arm.parameters == 134_515_008 for arm in arms)
    steps = {arm.attacker: arm.steps for arm in arms}
    assert steps.pop("floor/untrained") == 0 and set(steps.values()) == {2}
    # A pretrained model is less surprised than one that knows nothing: log 49,152 is 10.8.
    learnt = [arm.losses[0] for arm in arms if arm.attacker == "sft"]
    assert learnt and all(0 < loss < 8 for loss in learnt)
