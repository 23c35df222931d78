"""The quickstart as a user runs it, in full, with its outcome asserted: minutes, and the best test
of them all.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import cli
from experiments.launch import one
from experiments.measure.scores import Arm
from experiments.measure.transfer import transfer
from experiments.planning import arms, plan
from experiments.results import grades, grades_file
from experiments.settings import schema
from experiments.store import Store, fingerprint
from tests.experiments.simulations import undefended_splits

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of one's own, or the one that `make quickstart` has filled where the environment
    names it.
    """
    folder = Path(os.environ.get("QUICKSTART_RUNS") or tmp_path_factory.mktemp("runs"))
    subprocess.run(
        [sys.executable, "-m", "experiments.cli", "run", "quickstart", "--runs", str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def rows(runs):
    words = [
        sys.executable,
        "-m",
        "experiments.cli",
        "report",
        "quickstart",
        "--json",
        "--runs",
        str(runs),
    ]
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
    return {
        (row["task"], row["attacker"], row["defense"].partition("(")[0]): row
        for row in json.loads(done.stdout)
    }


def test_the_study_is_as_large_as_it_claims(rows):
    defended = {defense for _, attacker, defense in rows if not attacker.startswith("floor/")} - {
        "none",
        arms.IDENTITY,
    }
    assert defended == {"release/answer_only", "release/top_k"}
    assert {task for task, _, _ in rows} == {"addition"}
    assert {attacker for _, attacker, _ in rows} >= {
        "sft",
        "logprob_kd",
        *arms.FLOORS[:2],
        arms.SHUFFLED,
    }
    assert {
        attacker: row["seeds"] for (_, attacker, _), row in rows.items() if row["seeds"] != 6
    } == {arms.SHUFFLED: 3}
    assert all(row["seeds"] == row["planned"] for row in rows.values())


@pytest.mark.parametrize("attacker", ["sft", "logprob_kd"])
def test_the_controls_hold(rows, attacker):
    ceiling = rows["addition", attacker, "none"]
    assert ceiling["teacher_clean"] >= 0.95
    assert ceiling["undefended"] >= 0.95 and ceiling["undefended"] - ceiling["floor"] >= 0.5
    assert (ceiling["transfer"], ceiling["transfer_lo"]) == (1.0, None)
    identity = rows["addition", attacker, arms.IDENTITY]
    shuffled = rows["addition", arms.SHUFFLED, "none"]
    assert identity["transfer_lo"] <= 1 <= identity["transfer_hi"]
    assert identity["transfer_hi"] - identity["transfer_lo"] <= 0.2
    assert shuffled["transfer_lo"] <= 0


def test_hiding_the_reasoning_stops_transfer_and_costs_the_user_nothing(rows):
    row = rows["addition", "sft", "release/answer_only"]
    assert row["transfer"] <= 0.3 and row["teacher_defended"] == row["teacher_clean"]
    assert row["verdict"] == "effective"


def test_a_logprob_defence_that_leaves_the_text_does_nothing_and_is_told_so(runs, rows):
    row = rows["addition", "logprob_kd", "release/top_k"]
    assert row["verdict"] == "ineffective" and row["transfer_hi"] - row["transfer_lo"] <= 0.1
    graded = grades_file.read(runs / "quickstart" / "grades.parquet")
    keys = [
        grades.Key("addition", d, a, 800, "report")
        for d, a in (
            ("none", row["floor_arm"]),
            ("none", "logprob_kd"),
            (row["defense"], "logprob_kd"),
        )
    ]
    five = transfer(*(Arm(graded[key].right_SN[:5], graded[key].seeds[:5]) for key in keys))
    assert five.hi - five.lo <= 0.1, "five seeds are enough for that"


def test_students_are_trained_as_far_as_it_goes(runs):
    """No seed of an arm is left behind: the spread of undefended students is that of their exam."""
    data = json.loads((runs / "quickstart" / "measures.json").read_text())
    assert not [
        one
        for one in data["flags"]
        if one["flag"] in ("under-trained", "cut answers") and "none" in one["where"]
    ]
    assert not [one for one in data["flags"] if one["flag"] == "identity"]
    exams = grades_file.read(runs / "quickstart" / "grades.parquet")
    for attacker in ("sft", "logprob_kd"):
        right = exams[grades.Key("addition", "none", attacker, 800, "report")].right_SN.mean(1)
        assert right.min() >= 0.9, attacker


def test_the_folder_holds_what_a_reader_needs(runs):
    import pyarrow.parquet as pq

    home = runs / "quickstart"
    made = plan.make(schema.load("quickstart", []))
    manifest = json.loads((home / "manifest.json").read_text())
    assert manifest["fingerprint"] == fingerprint(Store(runs / "store"), made.stages)
    assert (
        len(manifest["stages"]) == len(made.stages)
        and {"torch", "transformers"} <= manifest["versions"].keys()
    )
    assert json.loads((home / "config.json").read_text())["name"] == "quickstart"
    # The table follows from the grades alone.
    graded = pq.read_table(home / "grades.parquet").to_pylist()
    sizes = {"report": made.study.measure.items, "select": made.study.measure.selection_items}
    assert sum(g["attacker"] != "" for g in graded) == sum(sizes[arm.split] for arm in made.arms)
    wanted = ("addition", "none", "sft", "report")
    cell = [
        g["outcome"] == "right"
        for g in graded
        if (g["task"], g["defense"], g["attacker"], g["split"]) == wanted
    ]
    row = next(
        r
        for r in json.loads((home / "results.json").read_text())
        if (r["task"], r["defense"], r["attacker"]) == ("addition", "none", "sft")
    )
    assert sum(cell) / len(cell) == pytest.approx(row["undefended"])


@pytest.mark.parametrize("attacker", ["sft", "logprob_kd"])
def test_undefended_against_undefended_differs_by_nothing(runs, attacker):
    graded = grades_file.read(runs / "quickstart" / "grades.parquet")
    right = [
        graded[grades.Key("addition", defense, attacker, 800, "report")].right_SN
        for defense in ("none", arms.IDENTITY)
    ]
    got = undefended_splits(np.concatenate(right), splits=300)
    assert got.students == 12 and got.covered >= 0.93


def test_the_run_verifies(runs, capsys):
    assert cli.main(["verify", "quickstart", "--runs", str(runs)]) == 0
    assert "0 FAIL, 0 INCONCLUSIVE" in capsys.readouterr().out


def test_a_defended_arm_that_is_made_again_has_the_same_bytes(runs, tmp_path):
    """Each kind of stage at full size; small studies are made again as a whole elsewhere."""
    made = plan.make(schema.load("quickstart", []))
    arm = next(arm for arm in made.arms if arm.defense == "release/top_k")
    stages = [*arm.exam.walk()]
    for stage in stages:
        one.make(stage, tmp_path)
    assert {stage.kind for stage in stages} == {stage.kind for stage in made.stages}
    assert fingerprint(Store(tmp_path), stages) == fingerprint(Store(runs / "store"), stages)


def test_the_page_is_self_contained_and_shows_its_plots(runs):
    page = (runs / "quickstart" / "report.html").read_text()
    assert (
        page.count("<svg") == 2
        and "http-equiv" not in page
        and "<script" not in page
        and 'src="' not in page
    )
    assert "release/answer_only" in page and "Answers, clean and defended" in page
