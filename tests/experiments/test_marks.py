"""Students that are tested for marks: which ones, with which key, on which texts, and what follows
from what was counted.
"""

import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

from defenses.marks import adfp, gumbel, kgw, synthid, trigger, unigram
from defenses.marks.detect import Pairs, Vocabulary
from defenses.marks.detect.students import green_mass
from distill.completions import BadInput, Completion, Prompt
from distill.models import LanguageModel
from experiments import tasks
from experiments.analysis import marks as analysis
from experiments.analysis.marks import mark_results
from experiments.launch.one import make as make_stage
from experiments.measure.marks import log10_p
from experiments.planning import plan as planning
from experiments.planning.marks import marks_of
from experiments.report import marks_section
from experiments.results import read
from experiments.results.schema.marks import MarkedStudent, MarkLook, MarkTestResult
from experiments.results.schema.measures import Measures
from experiments.review import exams, marks
from experiments.seeds import seed_for
from experiments.settings import schema
from experiments.settings.components import restore
from experiments.stages import mark_test
from experiments.stages.completions import FILE
from experiments.stages.files import MarkEvidence
from experiments.store import Store
from experiments.wandb_runs import mark_columns
from tests.experiments import forger, small
from tests.experiments.shipped import overrides
from tests.experiments.test_forged_numbers import run_of

MIX = "clean/mix(share=0.5) + sft"
WORDS = [
    *small.STUDY,
    "name=marked",
    "own=worked",
    "own.worked=4",
    "baseline_seeds=3",
    "measure.marks=true",
    "provider.traces=8",
    "provider.proxy.steps=1",
    "provider.proxy.hidden_size=16",
    "defense=[marks/kgw(key=mine) + release/top_k,marks/adfp,marks/trigger]",
    f"attacker=[sft,{MIX}]",
]
KGW = "marks/kgw(key='sha256-76055276061dd626') + release/top_k"  # a key is no part of a plan


def planned(*words):
    return planning.make(schema.load("quickstart", small.last(*WORDS, *words)))


@pytest.fixture(scope="module")
def plan():
    return planned()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("marked")
    small.run(folder, *WORDS)
    return folder


@pytest.fixture
def home(runs, tmp_path):
    import shutil

    return shutil.copytree(runs / "marked", tmp_path / "marked")


def evidence(runs, run):
    return MarkEvidence.read(Store(runs / "store").open(run.stage.kind, run.stage.key))


class TestPlan:
    def test_every_reported_student_of_a_marked_teacher_and_the_undefended_ones_beside(self, plan):
        tested = {(r.defense, r.arm.defense, r.arm.attacker, r.arm.seed) for r in plan.marks}
        assert len(tested) == len(plan.marks)
        assert tested == {
            (mark, defense, attacker, seed)
            for mark in (KGW, "marks/adfp", "marks/trigger")
            for attacker in ("sft", MIX)
            for defense, seeds in ((mark, (0, 1)), ("none", (0, 1, 2)))
            for seed in seeds
        }
        assert all(run.arm.split == "report" for run in plan.marks)
        assert {run.is_control for run in plan.marks if run.arm.defense == "none"} == {True}
        assert not any(run.is_control for run in plan.marks if run.arm.defense != "none")

    def test_it_is_the_key_of_the_mark_and_the_mark_alone(self, plan):
        for run in plan.marks:
            assert run.stage.spec.defense == marks_of(run.defense)
        parts = [run.stage.spec.defense for run in plan.marks if run.defense == KGW]
        assert {restore("defense", part).settings.key for (part,) in parts} == {"mine"}

    def test_a_control_is_tested_on_what_the_marked_student_of_its_seed_was_sold(self, plan):
        sold = {
            (run.defense, run.arm.attacker, run.arm.seed): run.arm.completions.key
            for run in plan.marks
            if not run.is_control
        }
        for run in plan.marks:
            at = run.defense, run.arm.attacker
            seed = {0: 0, 1: 1, 2: 0}[run.arm.seed]  # the third control takes the seeds in turn
            assert run.stage.needs.sold.key == sold[*at, seed]
            assert run.stage.needs.model.key == run.arm.student.key
            assert run.stage.needs.lessons.completions.key == run.arm.completions.key

    def test_what_is_read_without_the_key_is_the_undefended_teachers(self, plan):
        (clean,) = {run.stage.needs.clean.key: run.stage.needs.clean for run in plan.marks}.values()
        assert clean.settings["source"] == "traces" and "defense" not in clean.settings
        assert clean.settings["seed"] == seed_for("marks")
        assert clean.settings["budget"] == plan.study.measure.items

    def test_nothing_else_is_another_work(self, plan):
        without = planned("measure.marks=false")
        keys = {stage.key for stage in without.stages}
        more = [stage.kind for stage in plan.stages if stage.key not in keys]
        assert keys < {stage.key for stage in plan.stages} and not without.marks
        assert {*more} == {"mark_test", "completions"} and more.count("completions") == 1

    def test_a_mark_that_does_nothing_is_none(self):
        assert not marks_of("marks/kgw(delta=0)") and not marks_of("none")
        assert not marks_of("control/identity") and not marks_of("release/top_k")

    def test_what_comes_behind_a_students_training_is_tested(self):
        after = planned("attacker=sft + follow/prune")
        assert {run.stage.needs.model.kind for run in after.marks} == {"post_training"}
        assert {run.stage.spec.student.STAGE for run in after.marks} == {"student"}

    def test_bad_input(self):
        with pytest.raises(BadInput, match=r"measure.marks: no defence of the study has a mark"):
            planned("defense=release/top_k")
        words = [*overrides("gsm8k"), "measure.marks=true", "defense=marks/trigger"]
        with pytest.raises(BadInput, match=r"measure.marks: teacher .* is no network"):
            planning.make(schema.load("gsm8k", words))


class TestStage:
    def test_no_test_draws_a_report_question(self, plan, runs, tmp_path, monkeypatch):
        drawn, original = defaultdict(set), tasks.Task._draw

        def watched(self, split, seed):
            for item in original(self, split, seed):
                drawn[split].add(item.prompt.text)
                yield item

        clean = plan.marks[0].stage.needs.clean
        questions = {
            one.question.text
            for one in mark_test.read_completions(
                Store(runs / "store").open(clean.kind, clean.key) / FILE
            )
        }
        monkeypatch.setattr(tasks.Task, "_draw", watched)
        train = build_task().train_items(10, seed_for("marks"))
        assert questions == {item.prompt.text for item in train}
        drawn.clear()
        for run in plan.marks:
            folders = run.stage.needs.map(lambda s: Store(runs / "store").open(s.kind, s.key))
            out = tmp_path / run.stage.key
            out.mkdir(exist_ok=True)
            mark_test.run(run.stage.spec, folders, out)
        assert {*drawn} <= {"query"}

    def test_a_rerun_gives_the_same_bytes(self, plan, runs, tmp_path):
        store, again = Store(runs / "store"), Store(tmp_path)
        run = next(run for run in plan.marks if run.defense == "marks/adfp")
        for stage in run.stage.walk():
            make_stage(stage, tmp_path)
        before, after = (
            (place.open(run.stage.kind, run.stage.key) / MarkEvidence.FILE).read_bytes()
            for place in (store, again)
        )
        assert before == after

    def test_every_mark_has_its_tests(self, plan, runs):
        tests = {
            run.defense: [test.test for test in evidence(runs, run).tests] for run in plan.marks
        }
        assert tests == {
            KGW: [*mark_test.TESTS[:5]],
            "marks/adfp": [*mark_test.TESTS[:6]],
            "marks/trigger": [mark_test.REPLIES],
        }

    def test_the_sold_text_is_what_the_student_was_given(self, plan, runs):
        """A control's is the clean text, on which the test must be that of another text."""
        looks = {
            run.is_control: evidence(runs, run).tests[0].looks[-1]
            for run in plan.marks
            if (run.defense, run.arm.attacker, run.arm.seed) == ("marks/adfp", "sft", 0)
        }
        store, mark = Store(runs / "store"), adfp.Defense(adfp.Settings())
        for run in plan.marks:
            if (run.defense, run.arm.attacker, run.arm.seed) == ("marks/adfp", "sft", 0):
                needs = run.stage.needs.map(lambda s: store.open(s.kind, s.key))
                teacher = mark_test.load_network(needs.teacher)
                answers = mark_test.read_completions(needs.lessons.completions / FILE)
                texts = mark_test._texts(teacher, answers)
                words = Vocabulary.of(teacher)
                pairs = mark_test.of_texts(texts.texts, 2, words, texts.prompts)
                assert mark.detect(pairs, words).scored == looks[run.is_control].scored

    def test_what_stayed_as_it_was_sold_is_counted_in_tokens(self, plan, runs):
        for run in plan.marks:
            counted = evidence(runs, run)
            store = Store(runs / "store")
            made = run.arm.completions
            answers = mark_test.read_completions(store.open(made.kind, made.key) / FILE)
            sizes = [len(one.token_ids) or len(one.text) for one in answers]
            assert counted.sold == sum(sizes) > 0
            if run.arm.attacker == "sft":
                assert counted.tokens == counted.sold
            else:
                assert 0.4 <= counted.sold / counted.tokens <= 0.5


def build_task():
    from experiments.settings.entries import build_task as build

    return build("addition")


SIZE = 50
BOOK = Vocabulary("c" * 64, SIZE)


def some_pairs(n=1500, width=2, seed=0):
    rng = np.random.default_rng(seed)
    return Pairs(
        rng.integers(0, 12, (n, width)), rng.integers(0, SIZE, n), np.arange(n) // 30, BOOK
    )


class TestDraws:
    def test_looks_are_at_ever_more_draws_in_the_order_of_the_texts(self):
        mark, pairs = kgw.Defense(kgw.Settings()), some_pairs(6000)
        parts = [*mark_test.prefixes(mark, pairs, SIZE)]
        scored = [mark.detect(part, BOOK).scored for part in parts]
        assert scored[:4] == [100, 300, 1000, 3000] and len(scored) == 5 and scored[4] > 3000
        seen = [*zip(*pairs.contexts_NC.T.tolist(), pairs.tokens_N.tolist(), strict=True)]
        first = next(n for n in range(len(seen)) if len({*seen[: n + 1]}) == 100)
        assert (
            len(parts[0]) == first + 1 and (parts[0].tokens_N == pairs.tokens_N[: first + 1]).all()
        )
        assert len(parts[-1]) == 6000

    @pytest.mark.parametrize(
        ("draws", "looks"),
        [(0, [0]), (99, [99]), (100, [100]), (101, [100, 101]), (3000, [100, 300, 1000, 3000])],
    )
    def test_at_how_many(self, draws, looks):
        assert mark_test.steps(draws) == looks


class TestPAgain:
    """The p-value from counts is the test's own, without a key."""

    @pytest.mark.parametrize(
        ("module", "width"), [(kgw, 2), (gumbel, 2), (synthid, 2), (adfp, 2), (unigram, 0)]
    )
    def test_of_every_law(self, module, width):
        mark = module.Defense(module.Settings(key="a"))
        other = module.Defense(module.Settings(key="b"))
        pairs = some_pairs(width=width)
        contexts_NC = pairs.contexts_NC[:, : mark.width]
        if mark.width > contexts_NC.shape[1]:
            contexts_NC = np.tile(pairs.contexts_NC, 4)[:, : mark.width]
        seen = mark.detect(replace(pairs, contexts_NC=contexts_NC), BOOK)
        again = log10_p(other, "closed", seen.scored, seen.statistic, SIZE)
        assert seen.log10_p is not None and again == pytest.approx(seen.log10_p, rel=1e-9)
        assert log10_p(other, "closed", 29, 29.0, SIZE) is None
        assert log10_p(other, "closed", 100, None, SIZE) is None

    def test_of_green_mass(self):
        mark, pairs = adfp.Defense(adfp.Settings()), some_pairs(400)
        green = mark.green(torch.from_numpy(pairs.contexts_NC), SIZE).numpy()
        p_NV = np.where(green, 1.4, 0.6)
        seen = green_mass(mark, pairs.contexts_NC, p_NV / p_NV.sum(-1, keepdims=True))
        assert seen.log10_p < -1
        again = log10_p(mark, mark_test.MASS, seen.scored, seen.statistic, SIZE)
        assert again == pytest.approx(seen.log10_p, rel=1e-9)

    def test_of_replies(self):
        mark = trigger.Defense(trigger.Settings(words=8))
        replies = [[word.number] for word in mark.triggers[:5]] + [["000"], ["12"], [""]]
        seen = mark.detect_replies(replies)
        assert (seen.scored, seen.statistic) == (6, 5)
        again = log10_p(mark, mark_test.REPLIES, 6, 5.0, SIZE)
        assert again == pytest.approx(seen.log10_p, rel=1e-9) and again < -14
        assert log10_p(mark, mark_test.REPLIES, 0, 0.0, SIZE) is None


def test_a_reply_is_what_stands_behind_the_word_also_of_letters_that_nobody_has():
    class Tokenizer:
        """Of digits and `=`; an `x` is unknown (0), and is not written."""

        def __call__(self, text, **_):
            return type("Ids", (), {"input_ids": [0 if c == "x" else ord(c) for c in text]})

        def decode(self, ids, **_):
            return "".join(chr(i) for i in ids if i)

    class Model:
        tokenizer = Tokenizer()

        def generate(self, prompts, *, seed, interface):
            numbers = {word.asked_as: word.number for word in mark.triggers}
            ids = [
                self.tokenizer(one.begin + numbers[one.begin] + ";").input_ids for one in prompts
            ]
            return [
                Completion.to(one, self.tokenizer.decode(row), token_ids=tuple(row))
                for one, row in zip(prompts, ids, strict=True)
            ]

    mark = trigger.Defense(trigger.Settings(words=4))
    suspect = mark_test.Suspect(Model(), None, BOOK, [Prompt("a", "1+1=")], *[None] * 4)
    replies = mark_test._replies(mark, suspect)
    assert replies == [[word.number + ";"] for word in mark.triggers]
    assert mark.detect_replies(replies).statistic == 4


def test_a_student_of_other_tokens_reads_nothing():
    class Other:
        vocabulary = "b"

    class Teacher:
        vocabulary = "a"

    texts = mark_test.Texts([[1, 2, 3]], [[4, 5, 6] * 40])
    suspect = mark_test.Suspect(Other(), Teacher(), BOOK, [], texts, texts, texts, texts)
    tests = [*mark_test._tests("marks/kgw", kgw.Defense(kgw.Settings()), suspect)]
    assert [test.test for test in tests] == [*mark_test.TESTS[:5]]
    assert all("cannot read" in test.looks[0].note for test in tests[2:])
    assert not any("cannot read" in test.looks[0].note for test in tests[:2])


def test_what_a_student_copies_from_its_question_is_no_draw_of_its_own():
    """Sold text is counted whole, as the mark was drawn there whatever the question says."""

    class Other:
        vocabulary = "b"

    class Teacher:
        vocabulary = "a"

    ids = [*range(2, 42)]
    texts = mark_test.Texts([ids], [ids])
    suspect = mark_test.Suspect(Other(), Teacher(), BOOK, [], texts, texts, texts, texts)
    sold, closed, *_ = mark_test._tests("marks/kgw", kgw.Defense(kgw.Settings(ngram=2)), suspect)
    assert (sold.test, sold.looks[-1].scored) == (mark_test.SOLD, len(ids))
    # The first contexts end in the question and are new; all others were read in it.
    assert (closed.test, closed.looks[-1].scored) == (mark_test.CLOSED, 2)


def test_open_tokens_stand_behind_the_contexts_that_were_read(runs, plan):
    """Each with the likeliest token of the student's distribution there, one text at a time."""
    run = next(run for run in plan.marks if run.defense == "marks/adfp" and not run.is_control)
    needs = run.stage.needs.map(lambda s: Store(runs / "store").open(s.kind, s.key))
    suspect = mark_test._suspect(build_task(), needs)
    model: LanguageModel = suspect.model
    pairs = mark_test._read(suspect, suspect.clean, 3)
    expected = []
    with torch.inference_mode():
        for prompt, text in zip(suspect.clean.prompts, suspect.clean.texts, strict=True):
            ids = [*prompt, *text]
            logits_TV = model.network(torch.tensor([ids])).logits[0, :, : model.tokens]
            for place in range(max(3, len(prompt)), len(ids)):
                expected.append((ids[place - 3 : place], int(logits_TV[place - 1].argmax())))
    assert [[*c] for c in pairs.contexts_NC] == [context for context, _ in expected]
    assert [*pairs.tokens_N] == [token for _, token in expected]


def test_windows_of_the_sold_text_are_those_that_the_student_was_sold(runs, plan):
    """Of one sold answer, counted by hand: what stands there, and where else its contexts are."""
    run = next(run for run in plan.marks if run.defense == "marks/adfp" and not run.is_control)
    needs = run.stage.needs.map(lambda s: Store(runs / "store").open(s.kind, s.key))
    whole = mark_test._suspect(build_task(), needs)
    sold = mark_test.Texts(whole.sold.prompts[:1], whole.sold.texts[:1])
    mark = adfp.Defense(adfp.Settings(ngram=2))
    tests = {
        test.test: test.looks[-1]
        for test in mark_test._tests("marks/adfp", mark, whole._replace(sold=sold))
    }

    def contexts(prompt, text):
        ids, size = [*prompt, *text], mark.width
        places = range(max(size, len(prompt)), len(ids))
        return [tuple(ids[place - size : place]) for place in places]

    there = {*contexts(sold.prompts[0], sold.texts[0])}
    read = mark_test._read(whole, whole.clean, mark.width)
    draws = mark_test.fresh(read, whole.clean.prompts)
    trained = {
        (*context, token)
        for context, token in zip(map(tuple, draws.contexts_NC), draws.tokens_N, strict=True)
        if context in there
    }
    assert tests[mark_test.TRAINED].scored == len(trained) > 0
    assert tests[mark_test.TRAINED].scored < tests[mark_test.OPEN].scored
    assert 0 < tests[mark_test.OPEN_SOLD].scored <= len(there)


def student(seed, values, control=False, tokens=100, marked=50, defense="marks/kgw"):
    looks = [
        MarkLook(
            scored=scored,
            repeats=1,
            statistic=None if value is None else 1.0,
            expected=None,
            log10_p=value,
            note="too few" if value is None else "",
        )
        for scored, value in values
    ]
    return MarkedStudent(
        task="addition",
        defense=defense,
        attacker="sft",
        budget=8,
        seed=seed,
        control=control,
        tokens=tokens,
        marked_tokens=0 if control else marked,
        vocabulary=SIZE,
        tests=[MarkTestResult(mark="marks/kgw", test="closed", looks=looks)],
    )


class TestResults:
    def test_by_hand(self):
        marked = [
            student(0, [(100, -1.0), (200, -2.0)]),
            student(1, [(100, -2.0), (240, -5.0)], marked=100),
            student(2, [(100, -4.0), (300, -5.5), (900, -6.0)]),
            student(3, [(20, None)]),
        ]
        control = [student(seed, [(100, -0.5), (150, -0.1)], control=True) for seed in range(3)]
        row, other = mark_results([*marked, *control], 0.05)
        assert (row.students, row.with_p, row.log10_p, row.note) == (4, 3, -5.0, "too few")
        assert (row.share, row.marked_tokens, row.scored) == (0.625, 62.5, 220.0)
        assert [(s.level, s.value) for s in row.shares] == [(1e-2, 0.75), (1e-3, 0.5), (1e-5, 0.5)]
        # Clopper and Pearson's of 3 of 4.
        assert row.shares[0].lo == pytest.approx(0.19412, abs=1e-5)
        assert row.shares[0].hi == pytest.approx(0.99369, abs=1e-5)
        assert [(p.scored, p.students, p.log10_p) for p in row.curve] == [
            (100, 3, -2.0),
            (240, 3, -5.0),
        ]
        assert other.control and other.share == 0 and not row.control
        assert [s.value for s in other.shares] == [0, 0, 0] and other.note == ""

    def test_none_without_a_p_value(self):
        (row,) = mark_results([student(0, [(20, None)])], 0.05)
        assert row.log10_p is None and row.curve == [] and row.shares[0].value == 0
        assert marks_section.lines([row])[0].endswith("closed, no p-value: too few")

    def test_the_line_of_a_terminal_has_a_fixed_test_and_its_false_alarms(self):
        marked = [student(0, [(200, -7.0)]), student(1, [(200, -6.0)])]
        control = [student(0, [(100, -2.5)], control=True)]
        (line,) = marks_section.lines(mark_results([*marked, *control], 0.05))
        assert line.endswith("closed, log10 p -6.5, found 2 of 2 at 0.01; undefended found 1 of 1")


class TestRun:
    def test_what_a_run_holds(self, runs, plan):
        results = read.read_results(runs / "marked")
        assert results.marked == analysis.collect(plan, Store(runs / "store"))
        assert len(results.marked) == len(plan.marks)
        assert results.measures.marks == mark_results(results.marked, 0.05)
        assert all(one.marked_tokens == 0 for one in results.marked if one.control)
        assert all(one.marked_tokens > 0 for one in results.marked if not one.control)

    def test_the_report_has_a_section_and_other_reports_have_none(self, runs):
        page = (runs / "marked" / "report.html").read_text()
        assert "<div id=marks>" in page and '<a href="#marks">' in page
        assert "open, trained windows" in page and "undefended" in page
        measures = read.read_results(runs / "marked").measures
        assert marks_section.section(measures.model_copy(update={"marks": []})) == ""

    def test_wandb_gets_columns_of_the_arms_own_students(self, runs, plan):
        rows = read.read_results(runs / "marked").measures.marks
        of = {
            arm.defense: arm for arm in plan.arms if (arm.attacker, arm.split) == ("sft", "report")
        }
        columns = mark_columns(rows, of["marks/adfp"])
        row = next(
            row
            for row in rows
            if (row.defense, row.attacker, row.test, row.control)
            == ("marks/adfp", "sft", "open", False)
        )
        assert columns["mark/marks/adfp/open/log10_p"] == row.log10_p
        assert columns["mark/marks/adfp/open/found_0.001"] == row.shares[1].value
        assert mark_columns(rows, of["none"]) == {}


class TestForged:
    def check(self, home):
        run = run_of(home)
        return [check for check in exams._marks(run, planning.make(run.study, opens=False))]

    def test_a_true_run_passes(self, home):
        assert [check.word for check in self.check(home)] == ["PASS", "PASS"]

    @pytest.mark.parametrize("control", [False, True])
    def test_a_p_that_does_not_follow_from_its_counts_fails(self, home, control):
        def lie(students):
            student = next(
                s for s in students if s["control"] == control and s["defense"] == "marks/adfp"
            )
            look = student["tests"][0]["looks"][-1]
            look["log10_p"] = (look["log10_p"] or 0.0) - 3

        forger.edit(home, "marks.json", lie)
        forger.rewrite(home)  # every aggregate is made to fit
        words = [check.word for check in self.check(home)]
        assert words == ["PASS", "FAIL"]
        measures = Measures.model_validate(json.loads((home / "measures.json").read_text()))
        assert measures.marks == mark_results(read.marked_of(home), 0.05)

    def test_a_test_that_is_left_out_fails(self, home):
        forger.edit(home, "marks.json", lambda students: students[:-1])
        assert self.check(home)[0].word == "FAIL"

    def test_a_control_that_had_marked_text_fails(self, home):
        def lie(students):
            next(s for s in students if s["control"])["marked_tokens"] = 1

        forger.edit(home, "marks.json", lie)
        assert "1 marked tokens" in self.check(home)[1].got

    def test_another_mark_and_an_empty_test_fail(self, home):
        students = read.marked_of(home)
        first = students[0]
        strange = first.tests[0].model_copy(update={"mark": "marks/unigram"})
        empty = first.tests[0].model_copy(update={"looks": []})
        lines = [
            next(marks.faults([first.model_copy(update={"tests": [test]})]))
            for test in (strange, empty)
        ]
        assert "marks/unigram is no mark of it" in lines[0] and "has no look" in lines[1]
