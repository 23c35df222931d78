"""How the parts are joined: which questions, seeds, arms and settings reach which stage."""

import functools
import json
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save
from scipy import stats

from distill.completions import Completion, Interface, read_completions
from distill.objectives import Example
from distill.specs import TrainingConfig
from distill.trainer import train
from experiments import preregistration, run_folder, tasks
from experiments.analysis import card
from experiments.launch.one import make as make_stage
from experiments.measure import transfer, verdict
from experiments.measure.contrast import p_below, parts_of, pooled, variance
from experiments.measure.scores import Arm
from experiments.planning import arms, plan
from experiments.results import collect, grades, grades_file
from experiments.results.grades import Key
from experiments.results.table import jsonable
from experiments.seeds import seed_for
from experiments.settings import catalog, entries, schema
from experiments.settings.components import build
from experiments.settings.defenses import parse_defense
from experiments.stages import student
from experiments.stages.files import PreparedDefense
from experiments.stages.grades import read_grades
from experiments.stages.stage import Inputs, Spec, Stage, canonical
from experiments.store import Store
from tests.experiments.shipped import overrides

GSM8K = Path(__file__).parents[1] / "data" / "gsm8k"
TINY = [
    "teacher.steps=4",
    "teacher.hidden_size=16",
    "teacher.num_layers=1",
    "teacher.items=60",
    "student.steps=2",
    "teacher.max_new_tokens=32",
    "student.max_new_tokens=32",
    "student.hidden_size=16",
    "student.num_layers=1",
    "student.batch_size=8",
    "measure.items=12",
    "measure.selection_items=10",
    "measure.teacher_seeds=2",
    "provider.traces=8",
    "provider.proxy.steps=1",
    "provider.proxy.hidden_size=16",
    "seeds=[0,1]",
    "selection_seeds=[900]",
    "budget=8",
    "task=addition",
]


def shipped(name):
    return planned(name, *overrides(name))


@functools.cache
def planned(name, *words):
    return plan.make(schema.load(name, list(words)))


def tiny(*words):
    return planned("quickstart", *TINY, *words)


def made(stages, root):
    """Make stages here, in this process, with all that they need."""
    for stage in stages:
        for needed in stage.walk():
            make_stage(needed, root)
    return Store(root)


def folder(store, stage):
    return store.open(stage.kind, stage.key)


def answers_of(store, stage):
    return read_completions(folder(store, stage) / "completions.parquet")


class Ran(NamedTuple):
    """A whole study that was run in this process, and which splits each kind of stage drew
    questions of.
    """

    plan: plan.Plan
    store: Store
    drawn: dict[tuple[str, str, str], set[str]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Every kind of stage of a study without campaigns, in its smallest size."""
    plan = tiny(
        "search=equal",
        "search.trials=2",
        "search.items=10",
        "search.steps=[1,2]",
        "own=worked",
        "own.worked=4",
        "seeds=[0]",
        "baseline_seeds=1",
        "provider.prefill=true",
        "measure.plateau=true",
        "defense=decoding/product_of_experts(match_utility=20)",
        "attacker=[sft,ask/select(pool=2) + clean/filter + sft + follow/prune]",
    )
    root, drawn, making = tmp_path_factory.mktemp("ran"), defaultdict(set), ["", "", ""]
    original = tasks.Task._draw

    def watched(self, split, seed):
        for item in original(self, split, seed):
            drawn[tuple(making)].add(split)
            yield item

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.Task, "_draw", watched)
        for stage in plan.stages:
            making[:] = (
                stage.kind,
                stage.settings.get("split", ""),
                stage.settings.get("source", ""),
            )
            make_stage(stage, root)
    return Ran(plan, Store(root), dict(drawn))


class TestQuestions:
    """Which split each stage asks: questions of the report split are for exams of reported students
    and teachers.
    """

    @pytest.mark.parametrize("name", catalog.names("study"))
    def test_only_exams_name_a_split_in_their_settings(self, name):
        """A plateau ends in the exam of its own student."""
        plan = shipped(name)
        for stage in plan.stages:
            settings = {
                name: value
                for name, value in stage.settings.items()
                if (stage.kind, name) != ("plateau", "evaluation")
            }
            if stage.kind != "evaluation":
                assert "split" not in settings and '"report"' not in canonical(settings), stage.kind
        assert {stage.settings["split"] for stage in plan.stages if stage.kind == "evaluation"} >= {
            "report"
        }
        assert {one.stage.settings["evaluation"]["split"] for one in plan.plateaus} <= {"report"}

    @pytest.mark.parametrize("name", catalog.names("study"))
    def test_nothing_that_is_made_rests_on_an_exam_of_reported_questions(self, name):
        """But the exam of a student, which reads the clean teacher's text to tell how well the
        student predicts it.
        """
        for stage in shipped(name).stages:
            for needed in stage.inputs:
                if needed.kind == "evaluation" and needed.settings["split"] == "report":
                    assert stage.kind in ("evaluation", "plateau") and needed is stage.inputs[-1]
                    assert stage.settings.get("evaluation", stage.settings)["split"] == "report"
                    assert needed.spec.defense == parse_defense("none").spec
                    assert needed.inputs[0].kind == "teacher" and len(needed.inputs) == 1

    @pytest.mark.parametrize("name", catalog.names("study"))
    def test_an_arm_is_examined_on_the_questions_of_its_split(self, name):
        plan = shipped(name)
        sizes = {"report": plan.study.measure.items, "select": plan.study.measure.selection_items}
        for arm in plan.arms:
            settings = arm.exam.settings
            assert (settings["split"], settings["items"], settings.get("defense")) == (
                arm.split,
                sizes[arm.split],
                None,
            )
        for (_, defense, split), exams in plan.teachers.items():
            assert exams and all(exam.settings["split"] == split for exam in exams), defense
            assert [exam.settings["seed"] for exam in exams] == list(
                range(plan.study.measure.teacher_seeds)
            )
            assert all(exam.settings["items"] == sizes[split] for exam in exams)

    def test_what_is_drawn_while_a_whole_study_runs(self, ran):
        drawn = {at: set(splits) for at, splits in ran.drawn.items()}
        # The provider's traces, with which its defences are made, are of the teacher's own training
        # questions.
        assert drawn.pop(("teacher", "", "")) == {"train"}
        assert drawn.pop(("defense", "", "")) == {"select"}
        assert drawn.pop(("completions", "", "traces")) == {"train"}
        assert drawn.pop(("evaluation", "report", "")) == {"report"}
        assert drawn.pop(("evaluation", "select", "")) == {"select"}
        assert drawn.pop(("evaluation", "validate", "")) == {"validate"}
        assert "report" in drawn[("plateau", "", "")] and drawn.pop(("plateau", "", "")) <= {
            "query",
            "report",
        }
        assert drawn.keys() >= {
            ("completions", "", "teacher"),
            ("completions", "", "public"),
            ("student", "", ""),
        }
        assert set().union(*drawn.values()) == {"query"}

    def test_a_learned_defence_is_made_of_training_questions(self, monkeypatch, tmp_path):
        plan = tiny(
            "defense=[none,trained/doge(steps=1,batch_size=2)]", "attacker=sft", "seeds=[0]"
        )
        (guard,) = [stage for stage in plan.stages if stage.kind == "defense"]
        made(guard.inputs, tmp_path)
        drawn, original = set(), tasks.Task._draw

        def watched(self, split, seed):
            drawn.add(split)
            return original(self, split, seed)

        monkeypatch.setattr(tasks.Task, "_draw", watched)
        make_stage(guard, tmp_path)
        assert drawn == {"train"}

    def test_the_bits_are_of_the_clean_teachers_text_on_the_same_questions(self, tmp_path):
        """Once more by hand: a student's surprisal of that text, in bits a byte of text and end."""
        from experiments.stages.models import load_network

        plan = tiny("defense=[none,release/answer_only]", "attacker=sft", "seeds=[0]")
        arm = next(
            arm
            for arm in plan.arms
            if arm.defense == "release/answer_only" and arm.split == "report"
        )
        store = made([arm.exam], tmp_path)
        trained, clean = (folder(store, stage) for stage in arm.exam.inputs)
        rows, texts = (
            read_grades(folder(store, arm.exam)),
            [row.text for row in read_grades(clean)],
        )
        prompts = [item.prompt for item in entries.build_task("addition").items("report", 12, 0)]
        assert [row.item for row in rows] == [prompt.id for prompt in prompts]
        nats = load_network(trained).surprisal(prompts, texts)
        by_hand = [
            n / np.log(2) / (len(text.encode()) + 1) for n, text in zip(nats, texts, strict=True)
        ]
        assert [row.bits_per_byte for row in rows] == pytest.approx(by_hand, rel=1e-6)
        assert [row.nats for row in rows] == pytest.approx(
            load_network(trained).surprisal(prompts, [row.text for row in rows]), rel=1e-6
        )


class TestSeeds:
    """One seed a role: what a student's seed reaches, and what has a seed of its own."""

    def test_a_students_seed_draws_its_questions_starts_its_weights_and_orders_its_batches(self):
        plan = tiny(
            "attacker=[sft,clean/filter + sft + follow/prune]", "defense=[none,release/answer_only]"
        )
        for arm in plan.arms:
            fresh = seed_for("control") if arm.defense == arms.IDENTITY else 0
            for stage in arm.student.walk():
                if stage.kind in ("completions", "student", "post_training"):
                    assert stage.settings["seed"] == arm.seed + fresh, (arm, stage.kind)
            assert arm.exam.settings["seed"] == 0, "students are asked greedily, once"

    def test_selected_students_have_other_seeds_than_reported_ones(self):
        plan = tiny("attacker=[sft,clean/filter + sft]", "defense=[none,release/answer_only]")
        by = defaultdict(set)
        for arm in plan.arms:
            by[arm.split].add(arm.seed)
            assert arm.student.settings["seed"] not in ({900} if arm.split == "report" else {0, 1})
        assert by["select"] == {900} and by["report"] >= {0, 1} and 900 not in by["report"]

    def test_the_identity_control_shares_nothing_with_the_undefended_arm_but_the_teacher(self):
        """A shared student, or shared answers, would agree with it by construction and show
        nothing.
        """
        plan = tiny("attacker=sft", "defense=[none,release/answer_only]")
        walked = {
            defense: {
                stage.key
                for arm in plan.arms
                for stage in arm.student.walk()
                if stage.kind != "teacher"
                and (arm.defense, arm.attacker, arm.split) == (defense, "sft", "report")
            }
            for defense in ("none", arms.IDENTITY)
        }
        assert (
            all(len(keys) >= 4 for keys in walked.values())
            and not walked["none"] & walked[arms.IDENTITY]
        )
        control = [arm for arm in plan.arms if arm.defense == arms.IDENTITY]
        none = parse_defense("none").spec
        assert all(arm.completions.spec.defense == none for arm in control)
        assert {arm.seed for arm in control} >= {0, 1}, (
            "its rows stand beside those of the same seeds"
        )

    def test_provider_and_teacher_have_seeds_that_no_student_has(self):
        plan = tiny(
            "defense=[none,decoding/product_of_experts,decoding/antidistillation]", "attacker=sft"
        )
        student_seeds = {arm.student.settings["seed"] for arm in plan.arms}
        (teacher,) = [stage for stage in plan.stages if stage.kind == "teacher"]
        assert teacher.settings["seed"] == 0
        traces = [stage for stage in plan.stages if stage.settings.get("source") == "traces"]
        keys = {stage.key for stage in traces}
        proxies = [
            stage
            for stage in plan.stages
            if stage.kind == "student" and stage.inputs[0].key in keys
        ]
        provider = seed_for("provider")
        assert {stage.settings["seed"] for stage in [*traces, *proxies]} == {provider}
        assert provider not in student_seeds
        # The proxy learns from the first traces, and gradients are taken over those behind them.
        assert {stage.settings["skip"] for stage in traces} == {0, 8}
        (proxy,) = proxies
        assert proxy.inputs[0].settings["skip"] == 0

    def test_weights_and_questions_of_two_seeds_differ(self, tmp_path):
        plan = tiny("attacker=sft", "defense=none")
        untrained = [
            arm for arm in plan.arms if (arm.attacker, arm.split) == (arms.UNTRAINED, "report")
        ][:2]
        store = made([arm.student for arm in untrained], tmp_path)
        weights = [
            (folder(store, arm.student) / "model.safetensors").read_bytes() for arm in untrained
        ]
        assert weights[0] != weights[1]
        answers = [answers_of(store, arm.completions) for arm in untrained]
        questions = [[answer.prompt_id for answer in some] for some in answers]
        assert questions[0] != questions[1] and len(questions[0]) == 8

    def test_worked_solutions_are_the_same_for_all_seeds(self):
        from experiments.stages.resources import Owned, attacker_resources

        task = entries.build_task("addition")
        owned = Owned(pool=1, budget=8, worked=5)
        first, other = (attacker_resources(task, owned, seed) for seed in (0, 1))
        assert first.worked == other.worked and first.public != other.public
        assert [a.text for a in first.worked] == [
            item.solution for item in task.items("query", 5, seed_for("worked"))
        ]
        assert [a.prompt for a in first.public] == [
            item.prompt.text for item in task.items("query", 8, 0)
        ]
        right, wrong = first.public[0], Completion("x", first.public[0].prompt, "# 0")
        assert first.check(right) and not first.check(wrong)
        cut = replace(right, finished=False)  # right by luck
        assert first.final(right) and first.final(cut) is None and not first.check(cut)


class TestFloors:
    def test_shuffled_answers_are_those_of_other_questions(self, tmp_path):
        plan = tiny("attacker=sft", "defense=none", "budget=16")
        pick = {
            arm.attacker: arm
            for arm in plan.arms
            if (arm.defense, arm.seed, arm.split) == ("none", 1, "report")
        }
        plain, mixed = pick["sft"].completions, pick[arms.SHUFFLED].completions
        assert mixed.settings["source"] == "shuffled" and plain in mixed.inputs
        store = made([plain, mixed], tmp_path)
        before, after = answers_of(store, plain), answers_of(store, mixed)
        assert [a.prompt for a in before] == [a.prompt for a in after]
        texts = [a.text for a in before]
        assert len(set(texts)) > 1, "or nothing could be seen"
        assert Counter(texts) == Counter(a.text for a in after)
        expected = texts[:]
        random.Random(1).shuffle(expected)
        assert [a.text for a in after] == expected != texts

    def test_a_self_distilled_student_learns_from_a_student_of_its_own_data(self):
        plan = tiny("attacker=sft", "defense=none")
        pick = {(arm.attacker, arm.seed): arm for arm in plan.arms if arm.split == "report"}
        for seed in (0, 1):
            answers = pick[arms.SELF, seed].completions
            assert answers.settings["source"] == "self"
            assert answers.inputs == (pick[arms.OWN_DATA, seed].student,)

    def test_a_self_distilled_student_is_taught_its_own_right_answers(self, tmp_path, monkeypatch):

        task = entries.build_task("addition")
        items = task.public(8, 1)
        answers = {
            item.prompt.text: f"so # {item.reference}" if i % 2 else "so # 0"
            for i, item in enumerate(items)
        }

        class Model:
            def generate(self, prompts, *, seed, interface):
                return [Completion(one.id, one.text, answers[one.text]) for one in prompts]

        from experiments.stages import completions

        monkeypatch.setattr(completions, "load_network", lambda folder: Model())
        stage = next(
            arm
            for arm in tiny("attacker=sft", "defense=none").arms
            if (arm.attacker, arm.seed) == (arms.SELF, 1)
        ).completions
        completions.run(stage.spec, stage.needs.map(lambda needed: tmp_path), tmp_path)
        learned = [a.text for a in read_completions(tmp_path / "completions.parquet")]
        assert learned == [
            answers[i.prompt.text] if n % 2 else i.solution for n, i in enumerate(items)
        ]

    def test_floors_ask_nobody(self):
        """A floor with the teacher behind it would be transfer: only answers to other questions
        come from it.
        """
        for name in ("quickstart", "matrix"):
            plan = shipped(name)
            floors = [arm for arm in plan.arms if arms.is_floor(arm.attacker)]
            assert {arm.attacker for arm in floors} >= {*arms.FLOORS} - {arms.WEAKER}
            for arm in floors:
                kinds = {stage.kind for stage in arm.student.walk()}
                assert arm.defense == "none" and ("teacher" in kinds) == (
                    arm.attacker == arms.SHUFFLED
                )
                if arm.attacker == arms.UNTRAINED:
                    assert arm.student.settings["shape"]["steps"] == 0


class TestMatchedStrength:
    """The guard stage: a strength at which the teacher loses what was asked, on questions of the
    selection split.
    """

    def test_it_is_found_on_questions_of_selection_alone(self, tmp_path, monkeypatch):
        """A teacher that errs on every other selection question once defended, and never on a
        reported one.
        """
        from defenses import NO_RESOURCES
        from experiments.stages import defense as stage

        task = entries.build_task("addition")
        items = {split: task.items(split, 40, 0) for split in ("select", "report")}
        right = {item.prompt.text: item for some in items.values() for item in some}
        select = {item.prompt.text: place for place, item in enumerate(items["select"])}
        seeds = []

        class Behind:
            def __init__(self, eps):
                self.eps = eps

            def generate(self, prompts, *, seed, interface):
                seeds.append(seed)
                assert interface == Interface()
                seen = []
                for prompt in prompts:
                    lost = prompt.text in select and select[prompt.text] < 40 * self.eps
                    seen.append(
                        Completion(
                            prompt.id, prompt.text, "# 0" if lost else right[prompt.text].solution
                        )
                    )
                return seen

        real = stage.build_defense

        def build_defense(spec, *resources):
            if not resources:
                return real(spec)
            return lambda model: Behind(spec[0].settings["eps"])

        monkeypatch.setattr(stage, "build_defense", build_defense)
        monkeypatch.setattr(stage, "teach_defense", lambda *given: [])
        parsed = parse_defense("decoding/perturbed(match_utility=25)")
        match = stage.MatchSpec(**parsed.match.model_dump(), items=40, seeds=3)
        spec, matched = stage._matched(task, Behind(0.0), parsed.spec, NO_RESOURCES, match)
        # 25 of 100 questions are lost at a share of one quarter; at full strength all that
        # selection has.
        strength = real(parsed.spec).parts[0].traits.strength
        strongest = min(1.0, strength.interpolate(1.0))
        assert matched.tried[0] == (1.0, pytest.approx(100 * strongest))
        assert matched.loss == pytest.approx(25, abs=2.5) and matched.points == 25
        assert spec[0].settings["eps"] == matched.value == pytest.approx(0.25, abs=0.05)
        assert set(seeds) == {0, 1, 2} and Counter(seeds)[0] == Counter(seeds)[2]

    def test_its_sizes_are_those_of_selection(self):
        plan = tiny(
            "attacker=sft",
            "defense=decoding/perturbed(match_utility=20)",
            "measure.selection_items=11",
        )
        (stage,) = [stage for stage in plan.stages if stage.kind == "defense"]
        assert stage.settings["match"]["items"] == 11 and stage.settings["match"]["seeds"] == 2
        assert stage.settings["match"]["points"] == 20

    def test_the_strength_that_was_found_is_the_one_that_defends(self, tmp_path, monkeypatch):

        plan = tiny("attacker=sft", "defense=decoding/perturbed(match_utility=20)")
        (stage,) = [stage for stage in plan.stages if stage.kind == "defense"]
        (part,) = stage.spec.defense
        matched = part.model_copy(update={"settings": part.settings | {"eps": 0.125}})
        PreparedDefense(defense=[matched], matched=None, numbers={}).write(tmp_path)
        (tmp_path / "0.safetensors").write_bytes(save({}))
        task = build("task", stage.settings["task"])
        arm = next(arm for arm in plan.arms if arm.defense.startswith("decoding"))
        assert arm.completions.needs.given.prepared == stage
        from experiments.stages import defended

        seen = []
        monkeypatch.setattr(
            defended,
            "build_defense",
            lambda spec, given, learned: lambda model: seen.append((spec, learned)),
        )
        inputs = defended.ProviderInputs(prepared=tmp_path)
        defended.defend(task, None, stage.spec.defense, inputs)
        assert seen == [([matched], [{}])]


def test_gradients_are_clipped_before_every_step(monkeypatch):
    """Adam divides by the size of gradients, so what clipping does is seen where they are far below
    its epsilon.
    """
    from distill.embedded import character_tokenizer, llama

    tokenizer = character_tokenizer("0123456789+=# ")
    size = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "max_length": 32}
    rows = [
        Example([3, 4, 5], [6, 7, tokenizer.eos_token_id]),
        Example([4, 4, 5], [8, 7, tokenizer.eos_token_id]),
    ]

    def moved(clip):
        network = llama(tokenizer, **size, seed=0)
        before = torch.cat([p.detach().clone().ravel() for p in network.parameters()])
        train(
            network,
            rows,
            TrainingConfig(max_length=32, steps=5, batch_size=2, learning_rate=1e-2, clip=clip),
            seed=0,
        )
        after = torch.cat([p.detach().ravel() for p in network.parameters()])
        return float((after - before).abs().max())

    assert moved(1e9) > 1e-2 and moved(1e-14) < 1e-5


class Plain(Spec):
    STAGE = "exam"
    a: int = 0


class Other(Plain):
    STAGE = "answers"


@dataclass(frozen=True)
class Several(Inputs):
    first: object = None
    rest: tuple = ()


def test_the_address_of_a_stage_is_of_all_that_it_rests_on():
    root, later = Stage(Plain(a=5)), Stage(Plain(a=6))
    same = Stage(Plain(a=1), Several(root))
    others = [
        Stage(Plain(a=2), Several(root)),
        Stage(Plain(a=1)),
        Stage(Other(a=1), Several(root)),
        Stage(Plain(a=1), Several(later)),
        Stage(Plain(a=1), Several(root, (root,))),
        Stage(Plain(a=1), Several(None, (root,))),
    ]
    assert Stage(Plain(a=1), Several(Stage(Plain(a=5)))).key == same.key
    assert len({same.key, *(other.key for other in others)}) == 7


def test_what_is_at_its_default_is_no_part_of_an_address():
    class Later(Plain):
        b: int = 7

    assert Stage(Later(a=1)).key == Stage(Plain(a=1)).key == Stage(Later(a=1, b=7)).key
    assert Stage(Later(a=1, b=8)).key != Stage(Plain(a=1)).key
    assert Stage(Plain(a=0)).settings == {}


def test_inputs_keep_their_names_when_stages_become_folders():
    inner = Several(1, (2, 3))
    outer = Several(inner, (inner, 4))
    assert outer.named() == {
        "first.first": 1,
        "first.rest.0": 2,
        "first.rest.1": 3,
        "rest.0.first": 1,
        "rest.0.rest.0": 2,
        "rest.0.rest.1": 3,
        "rest.1": 4,
    }
    assert outer.map(str) == Several(Several("1", ("2", "3")), (Several("1", ("2", "3")), "4"))
    assert Several(None, ()).named() == {} and Several().map(str) == Several()


@pytest.fixture(scope="module")
def expected(ran):
    """By key and seed, the stage that was graded; a plateau is of the attack that selection finds
    worst.
    """
    stages = {}
    for arm in ran.plan.arms:
        stages[Key(arm.task, arm.defense, arm.attacker, arm.budget, arm.split), arm.seed] = arm.exam
    for (task, defense, split), exams in ran.plan.teachers.items():
        who = Key(task, defense, "", 0, split)
        stages |= {(who, seed): exam for seed, exam in enumerate(exams)}
    for longer in ran.plan.plateaus:
        right = {
            attacker: np.mean(
                [
                    row.outcome == "right"
                    for arm in ran.plan.arms
                    if (arm.defense, arm.attacker, arm.split)
                    == (longer.defense, attacker, "select")
                    for row in read_grades(folder(ran.store, arm.exam))
                ]
            )
            for attacker in longer.attackers
        }
        worst = max(longer.attackers, key=right.get)
        stages[Key(longer.task, longer.defense, worst, longer.budget, "plateau"), longer.seed] = (
            longer.stage
        )
    return stages


class TestGrades:
    """What is written of a study is what its exams and students left, under the name of who was
    asked and learned.
    """

    def test_all_exams_are_collected(self, ran, expected):
        graded = grades_file.read(collect.collect(ran.plan, ran.store))
        assert {(key, seed) for key, exams in graded.items() for seed in exams.seeds} == set(
            expected
        )
        for (key, seed), stage in expected.items():
            rows, exam = (
                read_grades(folder(ran.store, stage)),
                graded[key].exams[graded[key].seeds.index(seed)],
            )
            assert list(exam.items) == [row.item for row in rows]
            assert list(exam.prompts) == [row.prompt for row in rows]
            assert exam.right_N.tolist() == [float(row.outcome == "right") for row in rows]
            assert (exam.final_N >= 0).tolist() == [row.final is not None for row in rows]
            assert exam.nats_N.tolist() == [row.nats for row in rows]
            for name in ("l1", "kl", "flips", "passes", "tokens"):
                mean = np.mean([getattr(row, name) for row in rows])
                assert getattr(exam, name) == pytest.approx(mean), name
            assert exam.unfinished == pytest.approx(np.mean([not row.finished for row in rows]))
            assert exam.bytes == pytest.approx(np.mean([len(row.text.encode()) for row in rows]))
            assert list(exam.texts) == ([] if key.attacker else [row.text for row in rows])
            if key.attacker and key.split in ("report", "plateau"):
                assert exam.bits_N.tolist() == [row.bits_per_byte for row in rows]

    def test_what_each_student_took(self, ran):
        records = {
            tuple(one[name] for name in grades.WHO): one
            for one in jsonable(collect.arms(ran.plan, ran.store))
        }
        assert len(records) == len(ran.plan.arms)
        for arm in ran.plan.arms:
            record = records[arm.task, arm.defense, arm.attacker, arm.budget, arm.split, arm.seed]
            training = json.loads((folder(ran.store, arm.student) / "training.json").read_text())
            exchanges = folder(ran.store, arm.completions) / "exchanges.json"
            cost = (
                json.loads(exchanges.read_text())
                if exchanges.exists()
                else dict.fromkeys(("exchanges", "tokens_in", "tokens_out"), 0)
            )
            trials = 2 * (arm.attacker != arms.UNTRAINED)
            same = {
                "finished": True,
                **cost,
                "student_tokens": training["tokens"],
                "trials": trials,
                "leaked": 0,
            }
            same |= {
                name: training[name]
                for name in (
                    "parameters",
                    "steps",
                    "learning_rate",
                    "cut",
                    "no_final",
                    "diverged",
                    "losses",
                )
            }
            same["flops"] = 6 * training["parameters"] * training["positions"] * (1 + trials)
            assert {name: record[name] for name in same} == same, arm
            asks = not arms.is_floor(arm.attacker) or arm.attacker == arms.SHUFFLED
            answers = answers_of(ran.store, arm.completions)
            assert (cost["exchanges"] == len(answers)) == asks == bool(cost["tokens_in"])
            if arm.defense.startswith("decoding"):
                (guard,) = [stage for stage in arm.completions.inputs if stage.kind == "defense"]
                matched = PreparedDefense.read(folder(ran.store, guard)).matched
                assert record["prepared"]["matched"] == matched.model_dump(exclude={"tried"})
            else:
                assert record["prepared"] is None

    def test_a_student_that_is_not_there_is_not_finished(self, ran, tmp_path):
        assert [one.finished for one in collect.arms(ran.plan, Store(tmp_path))] == [False] * len(
            ran.plan.arms
        )

    def test_seconds_of_an_arm_are_those_of_its_own_stages(self, ran):
        def seconds(stage, name):
            return json.loads((folder(ran.store, stage) / "done.json").read_text())[name]

        made = run_folder.manifest(ran.plan, ran.store).by_key
        spent = card.arm_seconds(ran.plan, made)
        for arm in [arm for arm in ran.plan.arms if arm.split == "report"]:
            parts = [arm.completions, arm.student, arm.exam]
            if arm.completions.settings["source"] in ("edited", "shuffled"):
                parts.append(arm.completions.needs.completions)
            took = spent[arm.task, arm.defense, arm.attacker, arm.budget]
            for name, value in (("seconds", took.wall), ("cpu_seconds", took.cpu)):
                assert value == pytest.approx(sum(seconds(one, name) for one in parts))
        for (task, defense), ms in card.answer_ms(ran.plan, made).items():
            exams = ran.plan.teachers[task, defense, "report"]
            mean = np.mean([seconds(exam, "answer_seconds") for exam in exams])
            assert ms == pytest.approx(1000 * mean / 12)


class TestSteps:
    """All trained students of a task take as many steps, whatever follows their training."""

    def test_what_follows_is_made_up_for(self):
        plan = tiny(
            "attacker=[sft,solo,sft + follow/expert_iteration]",
            "defense=[none,release/answer_only]",
            "own=worked",
            "own.worked=4",
        )
        study = plan.study
        steps = {}
        for arm in plan.arms:
            first = arm.student if arm.student.kind == "student" else arm.student.inputs[0]
            follows = arms.learning(arm.attacker).followed(study.student)
            taken = student.steps_of(first.spec, first.spec.shape)
            steps.setdefault(arm.attacker, set()).add(taken + follows)
        assert steps.pop(arms.UNTRAINED) == {0}
        longest = max(arms.learning(one).followed(study.student) for one in steps)
        assert longest > 0 and set().union(*steps.values()) == {study.student.steps + longest}

    def test_twice_the_steps_are_of_all_of_them(self):
        spec = tiny("attacker=sft", "defense=none").arms[0].student.spec
        shape = spec.shape.model_copy(update={"steps": 30})

        def steps(**changes):
            return student.steps_of(spec.model_copy(update={"more": 0} | changes), shape)

        assert steps() == 30 and steps(more=20) == 50 and steps(more=20, times=2) == 100
        # 10 steps follow in any case, so that this stage takes 30 more than twice its own.
        assert steps(times=2, followed=10) + 10 == 2 * (30 + 10)


def test_the_analysis_says_what_the_study_does():
    plan = tiny("attacker=[sft,solo]", "own=worked", "own.worked=4", "defense=release/answer_only")
    analysis, study = preregistration.analysis(plan), plan.study
    assert (analysis["study"], analysis["question"]) == (study.name, study.question)
    estimands = analysis["estimands"]
    assert estimands["uplift"].startswith("D - F") and estimands["harm"].startswith("U - D")
    assert "(D - F) / (U - F)" in estimands["transfer"] and "Te_d - Te" in estimands["utility"]
    assert "selection" in estimands["worst_case"]
    assert all(one in analysis["floor"] for one in (*arms.CHOICES, "solo", "selection split"))
    assert analysis["controls"] == [arms.IDENTITY, arms.SHUFFLED]
    assert analysis["primary_match"] == "exchanges" and "Holm" in analysis["multiplicity"]
    assert analysis["items"] == {"report": 12, "selection": 10}
    assert analysis["seeds"] == {
        "report": [0, 1],
        "selection": [900],
        "floors and undefended": {"addition": study.baseline("addition")},
    }
    thresholds, recipes = analysis["thresholds"], analysis["recipes"]
    assert thresholds["theta"] == study.measure.theta and "prices" not in thresholds
    assert analysis["own"] == {"worked": 4} and analysis["search"]["trials"] == 0
    assert recipes["student"]["steps"] == 2 and recipes["teacher"]["steps"] == 4
    assert analysis["blocks"][0]["attackers"] == ["sft", "solo"]
    assert (
        "(1 - p)^S" in analysis["effective"]
        and "steps" in analysis["training"]
        and "wrong" in analysis["exclusions"]
    )


class TestJudged:
    """p-values of verdicts have seed variances moderated over the cases, each word at its own share
    of the gap.
    """

    def test_each_share_has_a_prior_of_its_own(self):
        rng = np.random.default_rng(3)

        def arm(mean, spread):
            p = np.clip(mean + spread * rng.normal(size=(8, 1)), 0.01, 0.99)
            return Arm((rng.random((8, 200)) < p).astype(float), tuple(range(8)))

        clean = Arm((rng.random((3, 200)) < 0.97).astype(float), (-1, -2, -3))
        floor, top = arm(0.1, 0.01), arm(0.8, 0.01)
        cases = [
            verdict.Case(floor, [top], [arm(mean, spread)], clean, clean)
            for mean, spread in ((0.38, 0.02), (0.42, 0.15), (0.5, 0.05), (0.71, 0.1), (0.66, 0.03))
        ]
        rules = verdict.Rules()
        assert (
            verdict._without_tests(cases[0], verdict.non_inferiority(clean, clean, 0.02), rules)
            is None
        )
        parts = [variance([floor, top, one.attacks[0]]) for one in cases]
        raw = [
            [p_below(one, c, pooled([parts_of(other, c) for other in parts])) for one in parts]
            for c in ([0.5 - 1, -0.5, 1], [1 - 0.8, 0.8, -1])
        ]
        judged = verdict.judge(cases, rules)
        assert [one.p for one in judged] == pytest.approx(_holm(raw[0]))
        assert [one.p_ineffective for one in judged] == pytest.approx(_holm(raw[1]))
        assert all(0 < p < 1 for p in raw[0]), "or nothing could be seen"

    def test_a_word_on_transfer_is_one_sided_at_half_the_level(self):
        rng = np.random.default_rng(1)
        clean, floor, top, low, high = (
            Arm((rng.random((8, 200)) < mean).astype(float), tuple(range(8)))
            for mean in (0.97, 0.1, 0.8, 0.12, 0.79)
        )
        cost, rules = verdict.non_inferiority(clean, clean, 0.02), verdict.Rules(alpha=0.05)

        def word(defended, effective, ineffective):
            case = verdict.Case(floor, [top], [defended], clean, clean)
            return verdict._tested(
                case, cost, rules, verdict._Tests(effective, 1.0, ineffective)
            ).word

        assert [word(low, p, 1.0) for p in (0.024, 0.026)] == ["effective", "inconclusive"]
        assert [word(high, 1.0, p) for p in (0.024, 0.026)] == ["ineffective", "inconclusive"]

    def test_what_selection_cannot_rule_out(self):
        """The quantile has the degrees of freedom of all options together: 4 options of 2 seeds
        have 4; and it is one-sided at half the level.
        """
        rng = np.random.default_rng(0)
        options = [(rng.random((2, 100)) < mean).astype(float) for mean in (0.9, 0.4, 0.45, 0.56)]
        spread = np.mean([some.mean(1).var(ddof=1) for some in options])

        def left(df, quantile=0.975):
            indices = [0]
            for i, some in enumerate(options[1:], 1):
                gap_N = options[0].mean(0) - some.mean(0)
                error = np.sqrt(spread * (1 / 2 + 1 / 2) + gap_N.var(ddof=1) / 100)
                indices += [i] if gap_N.mean() - 0.1 <= stats.t.ppf(quantile, df) * error else []
            return indices

        assert transfer._likely(options, 0.05) == left(4)
        assert left(4) not in (left(1), left(4, 0.95))


def _holm(ps):
    """Step-down, by its definition."""
    order, adjusted, least = np.argsort(ps), [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = least
    return adjusted
