"""Settings, plan and a whole study at a size of seconds."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from distill.completions import BadInput
from experiments.analysis import summary
from experiments.planning import arms, graph, plan
from experiments.settings import attacks, catalog, entries, schema
from experiments.settings.components import load_module
from experiments.stages import search
from experiments.stages.completions import SelfSpec, self_distilled
from experiments.stages.files import Choice, Trial
from experiments.stages.grades import GradeRow, read_grades, write_grades
from experiments.stages.stage import TaskSpec
from experiments.store import Store, fingerprint
from tests.experiments import snapshots
from tests.experiments.shipped import overrides
from tests.experiments.small import STUDY, apart, command, last, run

ROOT = Path(__file__).parents[2]
GSM8K = ROOT / "tests" / "data" / "gsm8k"


@pytest.mark.parametrize("name", catalog.names("study"))
def test_every_shipped_study_plans(name):
    made = plan.make(schema.load(name, overrides(name)))
    assert {arm.attacker for arm in made.arms} >= set(arms.FLOORS) - (
        set() if name == "gsm8k" else {arms.WEAKER}
    )
    assert arms.IDENTITY in {arm.defense for arm in made.arms}
    assert all(("none" == arm.defense) or arm.attacker not in arms.FLOORS for arm in made.arms)


@pytest.mark.parametrize("name", catalog.names("study"))
def test_every_shipped_study_can_be_reported_once_it_was_run(name):
    """Of made-up grades: what a report needs and a plan left out would show hours later."""
    few = ["measure.items=30", "measure.selection_items=20", "measure.draws=100"]
    made = plan.make(schema.load(name, last(*few, *overrides(name))))
    cases = summary.measure(made.study, *snapshots.made_up(made)).cases
    asking = [arm for arm in made.arms if not arms.is_floor(arm.attacker)]
    wanted = {(arm.task, arm.defense) for arm in asking} - {(arm.task, "none") for arm in asking}
    assert {(case.task, case.defense) for case in cases} == wanted


@pytest.mark.parametrize("group", ["defense", "attacker", "task"])
def test_every_shipped_component_builds_and_shows_all_its_settings(group, tmp_path):
    rows = [json.dumps({"question": f"{n} + 1?", "answer": str(n + 1)}) for n in range(100)]
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    reading = {
        "gsm8k": f"gsm8k(path='{GSM8K}')",
        "dataset": f"dataset(path='{tmp_path}/data.jsonl')",
    }
    for name in catalog.names(group):
        if group == "attacker" and attacks.battery(name):
            continue
        from omegaconf import OmegaConf

        written = OmegaConf.load(catalog.config_folder() / group / f"{name}.yaml")
        component = entries.resolve(group, reading.get(name, name))
        component.build()
        shown = dict(written.get("settings", {})).keys()
        fields = load_module(group, name).Settings.model_fields
        # Settings that came later are no part of an address where they are as ever.
        later = {field for field, info in fields.items() if info.exclude_if}
        assert shown == {*component.spec.settings} | later, name


def test_an_unknown_study_names_those_that_exist():
    with pytest.raises(BadInput, match="did you mean 'quickstart'"):
        schema.load("quikstart", [])


def finished(folder: Path) -> int:
    return len([*folder.glob("store/*/*/done.json")])


def test_killed_four_times_and_continued_in_another_folder_the_results_are_the_same(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    run(first)
    rng = random.Random(0)
    total = finished(first)
    for kill in range(4):
        process = apart(command(second, workers=2), tmp_path / "said")
        while process.is_alive() and finished(second) < kill * total // 5:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was over before it was killed"
    last = apart(command(second, "--json", workers=2), tmp_path / "said")
    last.join()
    rows = json.loads((tmp_path / "said" / "out").read_text())
    made = plan.make(schema.load("quickstart", STUDY))
    assert fingerprint(Store(first / "store"), made.stages) == fingerprint(
        Store(second / "store"), made.stages
    )
    for name in (
        "results.json",
        "measures.json",
        "arms.json",
        "grades.parquet",
        "analysis.yaml",
        "report.html",
    ):
        assert (first / "quickstart" / name).read_bytes() == (
            second / "quickstart" / name
        ).read_bytes()
    assert {"task", "defense", "attacker", "floor", "undefended", "transfer", "verdict"} <= rows[
        0
    ].keys()
    # Students of one step learn nothing, and nothing is a word.
    assert {row["verdict"] for row in rows} == {None, "not measurable"}
    assert all(row["transfer"] is None for row in rows if row["transfer_kind"] != "itself")


def test_sixty_arms_and_more_are_planned():
    words = [
        "seeds=[0,1,2,3,4]",
        "task=trace",
        "attacker=sft",
        "budget=[100,200]",
        "defense=[none,decoding/temperature,release/answer_only,release/truncate]",
    ]
    schema.load("quickstart", [])  # imports
    began = time.process_time()
    made = plan.make(schema.load("quickstart", words))
    spent = time.process_time() - began
    assert len(made.arms) >= 60
    print(
        f"{len(made.arms)} arms in {spent:.2f} s"
    )  # shown with -s; machines here are too noisy to assert on time


def test_the_search_gives_every_trained_arm_the_same_trials_on_a_split_of_its_own():
    made = plan.make(schema.load("quickstart", [*STUDY, "search=equal", "search.trials=3"]))
    trained = {
        arm.attacker: arm.student
        for arm in made.arms
        if arm.split == "report" and arm.defense == "none"
    }
    for attacker, student in trained.items():
        searches = [stage for stage in student.inputs if stage.kind == "search"]
        if attacker == arms.UNTRAINED:
            assert not searches
            continue
        (search,) = searches
        assert search.spec.recipes == graph.recipes(made.study.search) and len(search.inputs) == 3
        assert {exam.settings["split"] for exam in search.inputs} == {"validate"}
        assert {exam.inputs[0].settings["seed"] for exam in search.inputs} == {900}
    first, *others = graph.recipes(made.study.search)
    assert first.changes == {} and all(
        1e-3 <= trial.learning_rate <= 8e-3 and 200 <= trial.steps <= 900 for trial in others
    )


@pytest.mark.parametrize(
    ("right", "best"),
    [([1, 3, 2], 1), ([2, 3, 3], 1), ([0, 0, 0], 0), ([0, 1, 4], 2), ([4, 4, 4], 0)],
)
def test_the_best_trial_has_the_most_right_answers_and_of_equals_is_the_first(
    right, best, tmp_path
):
    """A wrong and an unparsed answer count alike; the first recipe is the study's own."""
    trials = [Trial(), Trial(steps=20), Trial(steps=30, learning_rate=0.25)]
    folders = tuple(tmp_path / str(i) for i in range(len(right)))
    for folder, n in zip(folders, right, strict=True):
        folder.mkdir()
        outcomes = ["right"] * n + ["wrong", "unparsed"] * (4 - n)
        write_grades(folder, [GradeRow(item=str(i), outcome=o) for i, o in enumerate(outcomes)])
    search.run(search.SearchSpec(recipes=trials), search.SearchInputs(folders), tmp_path)
    assert Choice.read(tmp_path).model_dump(exclude_none=True) == trials[best].changes


def test_the_best_trial_is_the_recipe_that_students_are_trained_with(tmp_path):
    more = ["search=equal", "search.trials=2", "search.items=20", "search.steps=[2,4]", "seeds=[0]"]
    run(tmp_path, *more)
    made, store = plan.make(schema.load("quickstart", [*STUDY, *more])), Store(tmp_path / "store")
    for arm in made.arms:
        search = [stage for stage in arm.student.inputs if stage.kind == "search"]
        report = json.loads((store.open("student", arm.student.key) / "training.json").read_text())
        if not search:
            assert report["steps"] == 0
            continue
        scores = [
            sum(row.outcome == "right" for row in read_grades(store.open("evaluation", exam.key)))
            for exam in search[0].inputs
        ]
        best = search[0].settings["recipes"][scores.index(max(scores))]
        assert (report["steps"], report["learning_rate"]) == (
            best.get("steps", 1),
            best.get("learning_rate", 4e-3),
        )
    ledger = json.loads((tmp_path / "quickstart" / "measures.json").read_text())["ledger"]
    assert {row["trials"] for row in ledger if row["attacker"] != arms.UNTRAINED} == {2}


def test_a_self_distilled_floor_keeps_right_answers_and_owns_the_rest():
    from distill.completions import Completion

    task = entries.build_task("addition")
    items = task.public(6, 0)
    right = [Completion(i.prompt.id, i.prompt.text, f"because # {i.reference}") for i in items[:3]]
    wrong = [Completion(i.prompt.id, i.prompt.text, "# 0") for i in items[3:]]

    class AttackerResources:
        def generate(self, prompts, *, seed, interface):
            return right + wrong

    spec = SelfSpec(task=TaskSpec(name="addition", settings={}), budget=6, seed=0, source="self")
    answers = self_distilled(task, spec, AttackerResources())
    assert answers[:3] == right and [a.text for a in answers[3:]] == [i.solution for i in items[3:]]
