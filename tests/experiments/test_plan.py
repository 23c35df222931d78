"""What is trained how long, on which seeds, and what twice the steps would change."""

import itertools
import json

import pytest

from distill.completions import BadInput
from experiments.analysis import comparisons, flagging
from experiments.launch import one
from experiments.planning import arms, checks, plan
from experiments.results import collect, grades_file
from experiments.results.grades import Key
from experiments.settings import schema
from experiments.stages.grades import GradeRow, read_grades
from experiments.store import Store

TINY = [
    "teacher.steps=4",
    "teacher.hidden_size=16",
    "teacher.num_layers=1",
    "teacher.items=60",
    "student.steps=6",
    "teacher.max_new_tokens=32",
    "student.max_new_tokens=32",
    "student.hidden_size=16",
    "student.num_layers=1",
    "student.batch_size=8",
    "measure.items=12",
    "measure.selection_items=10",
    "measure.teacher_seeds=1",
    "own=worked",
    "own.worked=4",
    "seeds=[0,1]",
    "selection_seeds=[900]",
    "budget=8",
    "task=addition",
    "measure.plateau=true",
]
BATTERY = [
    "sft",
    "ask/repeats(k=2) + clean/vote + sft",
    "sft + follow/expert_iteration(rounds=2, steps=3)",
    "solo",
]


def made(*words, attackers=BATTERY):
    overrides = [
        "attacker=[" + ",".join(attackers) + "]",
        "defense=[none,release/answer_only]",
        "baseline_seeds=3",
    ]
    return plan.make(schema.load("quickstart", [*TINY, *overrides, *words]))


@pytest.fixture(scope="module")
def there():
    return made()


@pytest.fixture(scope="module")
def store(there, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    for stage in there.stages:
        one.make(stage, root)
    return Store(root)


class TestSeeds:
    def test_what_all_defences_are_compared_with_has_more_seeds(self, there):
        seeds = {}
        for arm in there.arms:
            if arm.split == "report":
                seeds.setdefault((arm.defense, arm.attacker), []).append(arm.seed)
        for (defense, attacker), got in seeds.items():
            compared = defense == "none" and attacker != arms.SHUFFLED
            assert got == ([0, 1, 2] if compared else [0, 1]), (defense, attacker)

    def test_the_diagnostic_floor_has_few(self):
        more = made("seeds=[0,1,2,3,4]", "baseline_seeds=6", attackers=["sft"])
        assert [arm.seed for arm in more.arms if arm.attacker == arms.SHUFFLED] == [0, 1, 2]

    @pytest.mark.parametrize(
        ("defenses", "budgets", "wanted"),
        [(1, [8], 8), (4, [8], 16), (12, [8], 28), (4, [4, 8], 8)],
    )
    def test_about_the_root_of_the_number_of_defences(self, defenses, budgets, wanted):
        study = schema.load("quickstart", ["seeds=[0,1,2,3,4,5,6,7]", "baseline_seeds=null"])
        names = ["none", *(f"release/truncate(keep=0.{i}1)" for i in range(1, 10)), "a", "b", "c"][
            : defenses + 1
        ]
        block = study.blocks[0].model_copy(
            update={"defenses": names, "budgets": budgets, "tasks": ["trace"]}
        )
        study = study.model_copy(update={"blocks": [block]})
        assert study.baseline("trace") == list(range(wanted))

    def test_more_seeds_are_never_those_that_choose(self):
        study = schema.load(
            "quickstart", ["seeds=[7,8]", "selection_seeds=[9,11]", "baseline_seeds=5"]
        )
        assert study.baseline("trace") == [7, 8, 10, 12, 13]

    @pytest.mark.parametrize(
        "words", [["baseline_seeds=1"], ["baseline_seeds=0"], ["seeds=[0,0]"], ["seeds=[]"]]
    )
    def test_too_few_is_one_line(self, words):
        with pytest.raises(BadInput, match="seeds") as error:
            made(*words)
        assert "\n" not in str(error.value)


def test_whoever_is_chosen_among_has_students_on_the_selection_split():
    """Attackers of one defence at one budget, whether one block names them or two; and the teacher
    whose answers they learn from.
    """
    named = (
        ("release/answer_only", "sft", [8, 4]),
        ("release/answer_only", BATTERY[1], [8]),
        ("release/truncate", "sft", [8]),
    )
    blocks = [
        schema.Block(tasks=["addition"], defenses=["none", one], attackers=[two], budgets=three)
        for one, two, three in named
    ]
    there = plan.make(schema.load("quickstart", TINY).model_copy(update={"blocks": blocks}))
    selected = {
        (arm.defense, arm.attacker, arm.budget)
        for arm in there.arms
        if arm.split == "select" and not arms.is_floor(arm.attacker)
    }
    among = ["none", "release/answer_only"]
    assert selected == {*itertools.product(among, ["sft", BATTERY[1]], [8])}
    assert {defense for _, defense, split in there.teachers if split == "select"} == {*among}


class TestLength:
    def test_every_attack_of_a_task_trains_as_long_as_the_longest(self, there, store):
        for arm in (arm for arm in there.arms if arm.attacker != arms.UNTRAINED):
            stages = {stage.kind: stage.settings for stage in (arm.student, *arm.student.inputs)}
            followed = 6 if "post_training" in stages else 0
            assert ("post_training" in stages) == ("follow/" in arm.attacker)
            assert (
                stages["student"]["shape"]["steps"] + stages["student"].get("more", 0) + followed
                == 12
            )
        taken = {}
        for arm in there.arms:
            training = json.loads(
                (store.folder(arm.student.kind, arm.student.key) / "training.json").read_text()
            )
            taken.setdefault((arm.defense, arm.attacker), set()).add(training["steps"])
        assert taken["none", arms.UNTRAINED] == {0} and taken["none", "sft"] == taken[
            "none", arms.OWN_DATA
        ] == {12}
        # A student that has nothing right to practise on ends early, and nobody takes more.
        assert max(max(steps) for steps in taken.values()) == 12

    def test_without_a_long_attack_the_recipe_is_as_it_is(self):
        alone = made(attackers=["sft"])
        settings = [arm.student.settings for arm in alone.arms if arm.attacker == "sft"]
        assert all("more" not in one and one["shape"]["steps"] == 6 for one in settings)

    def test_worked_solutions_are_measured_before_anything_runs(self):
        with pytest.raises(
            BadInput, match="student.max_length: 16 tokens are too few for every worked solution"
        ):
            made("student.max_length=16", "student.max_new_tokens=15", "task=trace")
        whole = checks._token_counts("addition", 0).whole
        assert min(whole) < max(whole)
        (note,) = [
            one
            for one in made(
                f"student.max_length={max(whole) - 1}", "student.max_new_tokens=30"
            ).notes
            if "max_length" in one
        ]
        share = 100 * whole.count(max(whole)) / len(whole)
        assert (
            f"student.max_length: {max(whole) - 1} tokens cut {share:.0f} %" in note
            and str(max(whole)) in note
        )


class TestPlateau:
    def test_one_of_the_undefended_and_one_a_defence_at_the_largest_budget(self, there):
        assert [(p.task, p.defense, p.budget, p.seed) for p in there.plateaus] == [
            ("addition", "none", 8, 0),
            ("addition", "release/answer_only", 8, 0),
        ]
        assert all(p.attackers == tuple(BATTERY[:3]) for p in there.plateaus)
        assert not made("measure.plateau=false").plateaus

    def test_it_is_of_the_attack_that_selection_finds_worst(
        self, there, store, tmp_path, monkeypatch
    ):
        """Scores are forged so that another attack than the first is the worst."""
        from experiments.stages import plateau

        (longer, _) = there.plateaus
        inputs = longer.stage.needs.map(lambda stage: store.open(stage.kind, stage.key))
        for worst, wanted in enumerate(longer.attackers):
            winners = {
                store.folder(arm.exam.kind, arm.exam.key)
                for arm in there.arms
                if (arm.defense, arm.attacker, arm.split) == ("none", wanted, "select")
            }

            def forged(folder, winners=winners):
                return [GradeRow(outcome="right" if folder in winners else "wrong")] * 12

            out = tmp_path / str(worst)
            out.mkdir()
            with monkeypatch.context() as patch:
                patch.setattr(plateau, "read_grades", forged)
                plateau.run(longer.stage.spec, inputs, out)
            assert json.loads((out / "plateau.json").read_text()) == {"attack": worst}
            assert sorted(p.name for p in out.iterdir()) == [
                "grades.parquet",
                "plateau.json",
                "training.json",
            ]
            if wanted == "sft":
                assert json.loads((out / "training.json").read_text())["steps"] == 24

    def test_its_student_sits_the_report_exam_and_stands_beside_the_word(self, there, store):
        grades = grades_file.read(collect.collect(there, store))
        table = comparisons.ArmTable(there.study, grades, collect.arms(there, store))
        longer = [key for key in grades if key.split == "plateau"]
        assert {(key.defense, key.budget) for key in longer} == {
            ("none", 8),
            ("release/answer_only", 8),
        }
        for key in longer:
            once = grades[key._replace(split="report")]
            assert grades[key].exams[0].items == once.exams[0].items and grades[key].seeds == (0,)
            gained = grades[key].right_SN[0].mean() - once.right_SN[once.seeds.index(0)].mean()
            change = flagging.plateau_change(table, key._replace(split="report"))
            assert change.change == pytest.approx(gained)
        control = Key("addition", arms.IDENTITY, "sft", 8, "report")
        assert flagging.plateau_change(table, control) is None


def test_two_ways_to_the_same_answers_are_one_student(there, store):
    """The self-distilled floor's student answers nothing right here, so it owns the solutions and
    nothing else.
    """
    floors = {
        name: next(arm for arm in there.arms if (arm.attacker, arm.seed) == (name, 0))
        for name in (arms.OWN_DATA, arms.SELF)
    }
    first, second = (store.done(arm.student.kind, arm.student.key) for arm in floors.values())
    assert floors[arms.OWN_DATA].student.key != floors[arms.SELF].student.key
    assert second.copied == floors[arms.OWN_DATA].student.key and first.files == second.files
    assert read_grades(store.open("evaluation", floors[arms.SELF].exam.key)) == read_grades(
        store.open("evaluation", floors[arms.OWN_DATA].exam.key)
    )
