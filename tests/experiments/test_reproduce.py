"""Verify, reproduce, export and diff on a study of seconds: what is whole passes, and every
tampering is named.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from distill.completions import BadInput, digest
from experiments import cli, preregistration
from experiments.planning import plan
from experiments.results import grades, grades_file
from experiments.review import form, rerun
from experiments.review.verify import verify
from experiments.settings import schema
from experiments.store import Store
from tests.experiments import small

ROOT = Path(__file__).parents[2]
STUDY = small.last(*small.STUDY, "budget=[8,16]")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    runs = tmp_path_factory.mktemp("made")
    small.run(runs, *STUDY)
    return runs


@pytest.fixture
def runs(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "runs"))


def failed(runs):
    """The claims that fail, with what was got."""
    checks = verify(runs / "quickstart", Store(runs / "store"))
    return {check.claim: check.got for check in checks if check.word == "FAIL"}


def resign(home, name):
    """What a careful forger does: the manifest's digest is made to fit."""
    path = home / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][name] = digest((home / name).read_bytes())
    path.write_text(json.dumps(manifest, indent=1))


def test_what_was_made_verifies(made, capsys):
    assert failed(made) == {}
    assert cli.main(["verify", "quickstart", "--runs", str(made)]) == 0
    assert "0 FAIL, 0 INCONCLUSIVE" in capsys.readouterr().out


def test_a_tampered_grade_fails_even_if_its_digest_is_made_to_fit(runs):
    home = runs / "quickstart"
    table = pq.read_table(home / "grades.parquet")
    better = pc.if_else(
        pc.equal(table["defense"], "release/answer_only"), "right", table["outcome"]
    )
    pq.write_table(
        table.set_column(table.schema.get_field_index("outcome"), "outcome", better),
        home / "grades.parquet",
    )
    assert set(failed(runs)) >= {"grades.parquet is as it was written"}
    resign(home, "grades.parquet")
    claims = failed(runs)
    assert "grades.parquet is as it was written" not in claims
    assert any("rows.0" in got or "defended" in got for got in claims.values()), claims


def test_a_truncated_grade_file_fails(runs):
    path = runs / "quickstart" / "grades.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    assert any("not a whole file of grades" in got for got in failed(runs).values())


def test_a_changed_config_fails_with_the_setting(runs):
    home = runs / "quickstart"
    study = json.loads((home / "config.json").read_text())
    study["student"]["learning_rate"] = 0.5
    (home / "config.json").write_text(json.dumps(study, indent=2, ensure_ascii=False))
    resign(home, "config.json")
    assert set(failed(runs)) == {"config is the manifest's"}, (
        "nothing is said of what would follow from it"
    )
    manifest = json.loads((home / "manifest.json").read_text())
    manifest["config_sha256"] = digest(form.study_of(home).model_dump_json())
    (home / "manifest.json").write_text(json.dumps(manifest, indent=1))
    claims = failed(runs)
    assert (
        "learning_rate: 0.004 became 0.5" in claims["the settings lead to the stages that were run"]
    )


def test_a_config_that_is_no_study_fails(runs):
    (runs / "quickstart" / "config.json").write_text('{"name": "x"}')
    assert "config.json is a study" in failed(runs)


def test_a_missing_seed_fails_with_its_name(runs):
    home = runs / "quickstart"
    table = pq.read_table(home / "grades.parquet")
    gone = pc.and_(pc.equal(table["seed"], 1), pc.equal(table["defense"], "release/answer_only"))
    pq.write_table(table.filter(pc.invert(gone)), home / "grades.parquet")
    resign(home, "grades.parquet")
    assert (
        "2 missing, first release/answer_only sft addition seed 1"
        in failed(runs)["every planned student was graded"]
    )


def test_a_swapped_artifact_fails(runs):
    a, b, *_ = sorted((runs / "store" / "student").glob("*/model.safetensors"))
    shutil.copyfile(a, b)
    if a.read_bytes() == b.read_bytes():
        b.write_bytes(b.read_bytes()[:-1] + b"\0")
    assert "student/" in failed(runs)["every artifact is the one that was made"]


def test_a_changed_analysis_fails(runs):
    path = runs / "quickstart" / "analysis.yaml"
    path.write_text(path.read_text().replace("theta: 0.5", "theta: 0.9"))
    assert "was changed after it was frozen" in failed(runs)["the analysis is as it was frozen"]


def test_edited_results_and_cards_fail(runs):
    home = runs / "quickstart"
    for name in ("results.json", "measures.json", "card.json"):
        path = home / name
        path.write_text(path.read_text().replace("not measurable", "effective"))
        resign(home, name)
    claims = failed(runs)
    assert sum(claim.startswith("every aggregate") for claim in claims) == 3, claims


def again(made, tmp_path, *more):
    return [
        "reproduce",
        "quickstart",
        "--runs",
        str(made),
        "--into",
        str(tmp_path / "again"),
        "--workers",
        "1",
        *more,
    ]


def test_reproducing_repeats_the_bytes(made, tmp_path, capsys):
    assert cli.main(again(made, tmp_path)) == 0
    out = capsys.readouterr().out
    assert "bitwise" in out and "FAIL:" not in out and " 0 FAIL" in out and "verdict" in out


def test_other_threads_and_another_processor_keep_numbers_and_words(made, tmp_path):
    words = [sys.executable, "-m", "experiments.cli", *again(made, tmp_path, "--threads", "2")]
    # Threads that wait sleep: where cores are busy, waiting awake costs more than all else.
    env = os.environ | {"ATEN_CPU_CAPABILITY": "default", "OMP_WAIT_POLICY": "passive"}
    env["COLUMNS"] = "400"  # no cell of the table is folded
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    printed = " ".join(done.stdout.split())
    assert "threads 1 -> 2" in printed and "-> DEFAULT" in printed


def test_a_smoke_test_runs_a_part_of_the_same_stages(made):
    study = form.study_of(made / "quickstart")
    whole, part = plan.make(study), plan.make(rerun.smoke(study))
    keys = {stage.key for stage in whole.stages}
    assert len(part.arms) < len(whole.arms) and {stage.key for stage in part.stages} <= keys


def test_what_differs_beyond_the_tolerance_fails(made, tmp_path):
    """Another teacher of the same study: neither the bytes nor the numbers are those of the run."""
    study = form.study_of(made / "quickstart")
    home = Path(shutil.copytree(made / "quickstart", tmp_path / "forged"))
    table = pq.read_table(home / "grades.parquet")
    flipped = pa.array(np.where(np.arange(len(table)) % 2, "right", "wrong"))
    pq.write_table(
        table.set_column(table.schema.get_field_index("outcome"), "outcome", flipped),
        home / "grades.parquet",
    )
    checks = rerun.compare(home, study, Store(made / "store"), "full")
    assert any(check.word == "FAIL" and "points" in check.tolerance for check in checks)
    manifest = json.loads((home / "manifest.json").read_text())
    manifest["stages"][0]["files"] = {"model.safetensors": "0" * 64}
    (home / "manifest.json").write_text(json.dumps(manifest, indent=1))
    assert [c.word for c in rerun.compare(home, study, Store(made / "store"), "full")][1] == "FAIL"
    manifest["machine"]["cpu_capability"] = "another"
    (home / "manifest.json").write_text(json.dumps(manifest, indent=1))
    words = [check.word for check in rerun.compare(home, study, Store(made / "store"), "full")]
    assert words[:2] == ["INCONCLUSIVE", "INCONCLUSIVE"]  # other bytes are expected there


@pytest.mark.parametrize(
    ("now", "effect", "word"),
    [
        (0.5, 0.3, "PASS"),
        (0.52, 0.3, "PASS"),
        (0.9, 0.3, "FAIL"),
        (0.52, 0.05, "INCONCLUSIVE"),
        (0.5, 0.05, "INCONCLUSIVE"),  # as many answers are right, and others
        (0.9, 0.05, "FAIL"),
        (0.52, 0.0, "INCONCLUSIVE"),
        (0.5, 0.0, "INCONCLUSIVE"),
        (0.9, 0.0, "FAIL"),
    ],
)
def test_a_tolerance_as_wide_as_the_effect_shows_nothing(now, effect, word):
    check = rerun._accuracy(("task", "none", "sft"), first(0.5), last(now), effect)
    assert check.word == word and ("no less than the effect" in check.tolerance) is (effect < 0.1)


def first(share):
    """The first of 200 answers are right."""
    return SimpleNamespace(seeds=[0], right_SN=(np.arange(200) < 200 * share)[None] * 1.0)


def last(share):
    """The last of 200 answers are right."""
    return SimpleNamespace(seeds=[0], right_SN=first(share).right_SN[:, ::-1])


@pytest.mark.parametrize("effect", [0.3, 0.05, 0.0])
def test_the_same_answers_right_need_no_tolerance(effect):
    check = rerun._accuracy(("task", "none", "sft"), first(0.5), first(0.5), effect)
    assert (check.word, check.tolerance) == ("PASS", "none: the same answers are right")


def test_no_seed_in_common_shows_nothing():
    other = SimpleNamespace(seeds=[1], right_SN=first(0.5).right_SN)
    assert rerun._accuracy(("task",), first(0.5), other, 0.3).word == "INCONCLUSIVE"


def test_the_effect_of_a_task_is_from_its_worst_students_to_its_best():
    exams = {
        grades.Key(task, "none", attacker, 1, "report"): SimpleNamespace(right_SN=np.array([[x]]))
        for task, attacker, x in (("a", "sft", 0.9), ("a", "f", 0.2), ("a", "", 1.0), ("b", "", 1))
    }
    assert rerun._effects(exams) == {"a": pytest.approx(0.7)}


def test_a_changed_word_fails():
    case = SimpleNamespace(task="t", budget=1, defense="d", verdict="effective")
    other = SimpleNamespace(task="t", budget=1, defense="d", verdict="inconclusive")
    checks = rerun._words([case], [other])
    assert [(c.word, c.expected, c.got) for c in checks] == [("FAIL", "effective", "inconclusive")]
    assert rerun._words([case], [])[0].word == "FAIL"


def test_an_export_is_deterministic_verifies_and_reproduces(made, tmp_path, capsys):
    first, second = tmp_path / "a.zip", tmp_path / "b.zip"
    for path in (first, second):
        assert cli.main(["export", "quickstart", "--runs", str(made), "--to", str(path)]) == 0
    assert first.read_bytes() == second.read_bytes()
    names = set(zipfile.ZipFile(first).namelist())
    assert names >= {
        "card.md",
        "card.json",
        "manifest.json",
        "lock.txt",
        "grades.parquet",
        "analysis.yaml",
    }
    assert cli.main(["verify", str(first)]) == 0
    words = ["reproduce", str(first), "--tier", "smoke", "--runs", str(tmp_path)]
    assert cli.main(words) == 0, capsys.readouterr().out
    broken = tmp_path / "c.zip"
    broken.write_bytes(first.read_bytes()[:5000])
    assert (
        cli.main(["verify", str(broken)]) == 2 and "not a whole archive" in capsys.readouterr().err
    )
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("../outside", "x")
    assert (
        cli.main(["verify", str(tmp_path / "d.zip")]) == 2
        and "not an export of ours" in capsys.readouterr().err
    )


def test_a_run_that_does_not_exist_is_one_line(tmp_path, capsys):
    for words in (
        ["verify", "nothing"],
        ["reproduce", "nothing"],
        ["export", "nothing"],
        ["diff", "nothing", "x"],
    ):
        assert cli.main([*words, "--runs", str(tmp_path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_comparison_shows_settings_and_results(made, runs, capsys):
    home = runs / "quickstart"
    study = json.loads((home / "config.json").read_text())
    study["student"]["learning_rate"] = 0.5
    (home / "config.json").write_text(json.dumps(study))
    rows = json.loads((home / "results.json").read_text())
    (home / "results.json").write_text(json.dumps(rows[1:]))
    assert cli.main(["diff", str(made / "quickstart"), str(home)]) == 0
    out = capsys.readouterr().out
    assert "student.learning_rate: 0.004 | 0.5" in out and "floor/untrained" in out
    assert cli.main(["diff", str(made / "quickstart"), str(made / "quickstart")]) == 0
    assert "settings are the same" in capsys.readouterr().out


def test_the_analysis_is_frozen_before_anything_is_scored(made):
    home = made / "quickstart"
    seal = json.loads((home / "analysis.json").read_text())
    assert seal == {
        "sha256": digest((home / "analysis.yaml").read_bytes()),
        "scored_before": 0,
        "of": seal["of"],
    }
    frozen = yaml.safe_load((home / "analysis.yaml").read_text())
    assert {name: frozen["seeds"][name] for name in ("report", "selection")} == {
        "report": [0, 1],
        "selection": [900],
    }
    assert frozen["thresholds"]["theta"] == 0.5


def test_a_later_change_is_a_deviation_on_the_card(runs):
    store, home = Store(runs / "store"), runs / "quickstart"
    changed = plan.make(schema.load("quickstart", [*STUDY, "measure.theta=0.4", "seeds=[0]"]))
    before = (home / "analysis.yaml").read_bytes()
    preregistration.freeze(changed, store, home)
    assert (home / "analysis.yaml").read_bytes() == before
    deviations = preregistration.deviations(changed, home)
    assert len(deviations) == 2
    assert "thresholds.theta: 0.5 was registered, 0.4 was done" in deviations
    assert (
        cli.main(
            [
                "report",
                "quickstart",
                "--runs",
                str(runs),
                *small.last(*STUDY, "measure.theta=0.4", "seeds=[0]"),
            ]
        )
        == 0
    )
    assert "thresholds.theta: 0.5 was registered" in (home / "card.md").read_text()


def test_a_seal_that_is_not_the_last_runs_is_refused(runs, capsys):
    """How much had been scored before is nowhere else, so a flipped digit of it would pass."""
    home = runs / "quickstart"
    seal = (home / "analysis.json").read_bytes()
    (home / "analysis.json").write_bytes(seal.replace(b'"scored_before": 0', b'"scored_before": 1'))
    words = ["run", "quickstart", "--runs", str(runs), *small.last(*STUDY)]
    assert cli.main(words) == 2
    assert "analysis.json: is not the one that manifest.json names" in capsys.readouterr().err
    (home / "analysis.json").write_bytes(seal)
    assert cli.main(words) == 0
    for name in ("analysis.json", "analysis.yaml"):
        (home / name).unlink()
    store, planned = Store(runs / "store"), plan.make(schema.load("quickstart", STUDY))
    preregistration.freeze(planned, store, home)  # anew, and killed before anything else
    assert not (home / "manifest.json").exists()
    assert cli.main(words) == 0


def test_an_analysis_frozen_late_says_so(runs):
    home = runs / "quickstart"
    (home / "analysis.yaml").unlink()
    assert cli.main(["report", "quickstart", "--runs", str(runs), *STUDY]) == 0
    seal = json.loads((home / "analysis.json").read_text())
    assert seal["scored_before"] == seal["of"] > 0


def test_a_partial_report_counts_what_is_missing_and_gives_no_word(runs, capsys):
    made = plan.make(schema.load("quickstart", STUDY))
    arm = next(
        a
        for a in made.arms
        if a.defense == "release/answer_only" and a.seed == 1 and a.budget == 16
    )
    shutil.rmtree(runs / "store" / "evaluation" / arm.exam.key)
    words = ["report", "quickstart", "--runs", str(runs), *STUDY]
    assert cli.main(words) == 2 and "--partial" in capsys.readouterr().err
    assert cli.main([*words, "--partial"]) == 0
    data = json.loads((runs / "quickstart" / "measures.json").read_text())
    row = next(
        r for r in data["rows"] if r["defense"] == "release/answer_only" and r["budget"] == 16
    )
    assert (row["seeds"], row["planned"], row["verdict"]) == (1, 2, "not measurable")
    assert "1 of 2 students" in row["rule"] and any(
        flag["flag"] == "missing" for flag in data["flags"]
    )


def test_an_arm_that_is_missing_altogether_is_flagged_and_never_dropped_silently(runs, capsys):
    made = plan.make(schema.load("quickstart", STUDY))
    words = ["report", "quickstart", "--runs", str(runs), *STUDY, "--partial"]

    def without(defense):
        for arm in made.arms:
            if (arm.defense, arm.attacker, arm.budget) == (defense, "sft", 16):
                shutil.rmtree(runs / "store" / "evaluation" / arm.exam.key, ignore_errors=True)
        return cli.main(words)

    assert without("release/answer_only") == 0
    data = json.loads((runs / "quickstart" / "measures.json").read_text())
    missing = [flag for flag in data["flags"] if flag["flag"] == "missing"]
    assert (
        missing[0]["evidence"] == "0 of 2 students finished"
        and "release/answer_only sft 16" in missing[0]["where"]
    )
    assert without("none") == 2
    assert "no undefended student finished at budget 16" in capsys.readouterr().err


def test_arms_with_the_same_outputs_are_aliases_and_no_run(runs):
    home, words = runs / "quickstart", ["report", "quickstart", "--runs", str(runs), *STUDY]
    made = plan.make(schema.load("quickstart", STUDY))
    by = {
        (a.defense, a.attacker, a.budget, a.seed): a.exam.key
        for a in made.arms
        if a.split == "report"
    }
    for seed in (0, 1):  # what a defence that was never applied would leave behind
        shutil.rmtree(runs / "store" / "evaluation" / by["release/answer_only", "sft", 16, seed])
        shutil.copytree(
            runs / "store" / "evaluation" / by["none", "sft", 16, seed],
            runs / "store" / "evaluation" / by["release/answer_only", "sft", 16, seed],
        )
    assert cli.main(words) == 2, "its own record says that it was made of another student"
    assert cli.main([*words, "--keep-old"]) == 0
    data = json.loads((home / "measures.json").read_text())
    (flag,) = [one for one in data["flags"] if one["flag"] == "alias"]
    assert flag["evidence"] == "every answer equals those under none"


def test_budgets_are_nested_within_a_seed(made):
    from distill.completions import read_completions

    planned = plan.make(schema.load("quickstart", STUDY))
    store = Store(made / "store")

    def answers(budget):
        arm = next(
            a
            for a in planned.arms
            if (a.attacker, a.defense, a.budget, a.seed) == ("sft", "none", budget, 0)
        )
        return [
            a.text
            for a in read_completions(
                store.open("completions", arm.completions.key) / "completions.parquet"
            )
        ]

    assert len(answers(8)) == 8 and answers(16)[:8] == answers(8)


def test_grades_hold_what_the_store_holds(made):
    planned = plan.make(schema.load("quickstart", STUDY))
    graded = grades_file.read(made / "quickstart" / "grades.parquet")
    assert sum(len(exams.seeds) for key, exams in graded.items() if key.attacker) == len(
        planned.arms
    )
    with pytest.raises(BadInput, match="not a whole file"):
        grades_file.read(b"PAR1")
