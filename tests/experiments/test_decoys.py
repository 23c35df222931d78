"""Decoy tool calls through the stages: which arm sees which text, and what each exam reads."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from defenses import ProviderResources
from distill.completions import BadInput, Completion, Interface, read_completions, write_completions
from distill.tool_calls import row_of
from experiments.launch.one import make
from experiments.planning import plan
from experiments.planning.arms import IDENTITY
from experiments.planning.questions import query_seeds
from experiments.settings import schema
from experiments.settings.components import build_defense
from experiments.settings.defenses import parse_defense
from experiments.settings.entries import build_task
from experiments.stages import completions, defense, evaluation, student
from experiments.stages.defended import ProviderInputs, defend
from experiments.stages.episodes import as_run, executed, play
from experiments.stages.grades import read_grades
from experiments.stages.models import StoredModel
from experiments.stages.resources import solutions
from experiments.store import Store
from tests.experiments.small import last
from tests.experiments.test_tools import knows
from tests.experiments.test_wiring import TINY

TASK = build_task("tools")
DEFENSE = "release/decoy_calls"
ITEMS = TASK.items("report", 12, 0)
CLEANED = "clean/known_tools + sft"


def functions(text):
    """What each line of a transcript calls."""
    rows = [row_of(line, TASK.format) for line in text.split("\n")]
    return [[call.function for call in row.calls] if row else [] for row in rows]


def defended():
    return defend(TASK, knows(ITEMS), parse_defense(DEFENSE).spec, ProviderInputs())


def test_the_next_turn_follows_what_was_run_and_what_was_said_is_returned():
    prompts = [item.prompt for item in ITEMS]
    episodes = play(TASK, defended(), prompts, seed=0, interface=Interface())
    for item, episode in zip(ITEMS, episodes, strict=True):
        assert len(episode) == len(item.turns)
        for turn, answer in zip(item.turns, episode, strict=True):
            assert answer.history == turn.prompt.history  # without decoys
            (spoken,) = functions(answer.text)
            assert len(spoken) == 2 and len({*spoken} & {*TASK.tools}) == 1
        assert TASK.grade(as_run(TASK, episode).text, item.reference) == "right"
        assert as_run(TASK, episode).text == item.solution


def test_what_was_measured_is_of_all_that_was_said():
    item = next(item for item in ITEMS if len(item.turns) == 1)
    text = f"{item.solution}; gut(1)"
    answer = Completion.to(item.prompt, text, token_ids=(1, 2, 3), passes=2.0)
    run = as_run(TASK, [answer])
    assert (run.text, run.token_ids, run.passes) == (item.solution, (1, 2, 3), 2.0)
    assert executed(TASK, answer).token_ids == ()
    same = Completion.to(item.prompt, item.solution, token_ids=(1,))
    assert executed(TASK, same) is same


@pytest.mark.parametrize("text", [' # gut("a")', ' # gut("a"); pet("b")', "gut", ""])
def test_an_answer_that_calls_nothing_defined_is_a_mistake_that_is_seen(text):
    answer = Completion.to(ITEMS[0].prompt, text)
    assert executed(TASK, answer) is answer


def loaded(*words):
    sizes = [word for word in TINY if not word.startswith(("task", "teacher"))]
    return schema.load("quickstart", [*last(*sizes, f"defense={DEFENSE}", *words)])


def planned(*words):
    return plan.make(loaded(*words))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What is asked for this test of a study whose recorded teacher knows everything: answers,
    some students, and its own exams.
    """
    root = tmp_path_factory.mktemp("ran")
    file, words = root / "teacher.parquet", ["task=tools", "seeds=[0]", "baseline_seeds=1"]
    items = [*ITEMS, *TASK.items("select", 12, 0)]
    for seed in query_seeds(loaded(*words), "tools"):
        items += TASK.items("query", 8, seed)
    answers = {one.question.conversation: one for one in solutions(items)}
    write_completions(file, list(answers.values()))
    teacher = ["teacher=recorded", f"teacher.path={file}"]
    made = planned(*words, *teacher, f"attacker=[sft,{CLEANED}]")
    tops = [stage for arm in asking(made) for stage in sources(arm.exam)]
    tops += [stage for stages in made.teachers.values() for stage in stages]
    tops += [student_of(made, *cell).student for cell in CELLS]
    for stage in {stage.key: stage for top in tops for stage in top.walk()}.values():
        make(stage, root)
    return made, Store(root)


CELLS = [(DEFENSE, "sft"), (DEFENSE, CLEANED), ("none", "sft")]


def asking(made):
    return [arm for arm in made.arms if arm.attacker in ("sft", CLEANED)]


def student_of(made, defense, attacker):
    return next(
        arm
        for arm in made.arms
        if (arm.defense, arm.attacker, arm.seed, arm.split) == (defense, attacker, 0, "report")
    )


def folder(store, stage):
    return store.open(stage.kind, stage.key)


def sources(stage):
    """The completions that a student's exam comes down to."""
    return [one for one in stage.walk() if one.kind == "completions"]


def test_every_arm_of_the_defence_is_sold_decoys_and_no_other_arm_is(ran):
    made, store = ran
    assert {arm.defense for arm in asking(made)} == {"none", IDENTITY, DEFENSE}
    for arm in asking(made):
        (stage,) = sources(arm.exam)
        answers = read_completions(folder(store, stage) / "completions.parquet")
        spoken = [functions(one.text)[0] for one in answers]
        decoys = [any(name not in TASK.tools for name in names) for names in spoken]
        assert answers and all(decoys) if arm.defense == DEFENSE else not any(decoys)
        before = [turn.content for one in answers for turn in one.history[1::2]]
        assert before and all({*functions(text)[0]} < {*TASK.tools} for text in before)


def test_both_attackers_hold_the_same_answers_and_one_learns_the_true_ones(ran):
    made, store = ran
    arms = [student_of(made, *cell) for cell in CELLS]
    assert sources(arms[0].exam) == sources(arms[1].exam) != sources(arms[2].exam)
    plain, cleaning, clean = (
        (folder(store, arm.student) / "model.safetensors").read_bytes() for arm in arms
    )
    assert plain != cleaning == clean


def test_a_defended_teachers_exam_is_of_what_was_run_and_costs_the_honest_user_nothing(ran):
    made, store = ran
    exams = {key: stages for key, stages in made.teachers.items() if key[2] == "report"}
    assert {key[1] for key in exams} == {"none", DEFENSE}
    for stages in exams.values():
        for stage in stages:
            rows = read_grades(folder(store, stage))
            assert [row.text for row in rows] == [item.solution for item in ITEMS]
            assert {row.outcome for row in rows} == {"right"}


def test_a_strength_is_sought_by_what_it_costs_a_user_whose_program_drops_decoys():
    items = TASK.items("select", 6, 0)
    has = ProviderResources(format=TASK.format, tools=TASK.tools)
    match = defense.MatchSpec(part=0, points=5.0, items=6, seeds=1)
    _, matched = defense._matched(TASK, knows(items), parse_defense(DEFENSE).spec, has, match)
    assert (matched.value, matched.loss) == (1.0, 0.0)


def test_a_student_is_graded_on_all_that_it_says(tmp_path, monkeypatch):
    class Student:
        """A student that learned to call what does not exist."""

        capabilities = replace(knows(ITEMS).capabilities, surprisal=True)
        tokenizer = None

        def generate(self, prompts, *, seed, interface):
            return defended().generate(prompts, seed=seed, interface=interface)

        def surprisal(self, prompts, texts):
            return [1.0] * len(texts)

    monkeypatch.setattr(evaluation, "load_network", lambda folder: Student())
    exam = planned("task=tools").arms[0].exam.spec
    inputs = evaluation.StudentEvaluationInputs(Path("student"))
    evaluation.run(exam.model_copy(update={"items": 12}), inputs, tmp_path)
    rows = read_grades(tmp_path)
    assert {row.outcome for row in rows} == {"wrong"}
    assert all(len(names) == 2 for row in rows for names in functions(row.text))


def test_a_task_whose_answers_call_nothing_is_refused_in_one_line():
    with pytest.raises(BadInput, match="decoy_calls: its rule changes none of 20 answers to add"):
        planned("task=addition")


def test_who_rebuilds_the_defence_knows_what_is_defined(monkeypatch):
    made = planned("task=tools", "own=worked", "own.worked=4", "attacker=strongest/expand")
    arm = next(arm for arm in made.arms if arm.defense == DEFENSE and arm.attacker != "sft")
    (spec,) = [one.spec for one in arm.exam.walk() if one.kind == "student" and one.spec.defense]
    rebuilt = student._released(TASK, spec, student.StudentInputs(Path("answers")))["defense"]
    (answer,) = rebuilt([Completion.to(ITEMS[0].prompt, ITEMS[0].turns[0].solution)])
    assert len(functions(answer.text)[0]) == 2


def test_reduced_accounts_get_decoys_and_others_do_not(tmp_path, monkeypatch):
    items, answers = TASK.items("query", 2, 0), []
    monkeypatch.setattr(completions, "load_model", lambda folder: knows(items))
    monkeypatch.setattr(completions.CampaignReport, "read", lambda folder: None)
    monkeypatch.setattr(completions, "questions", lambda *campaign: [True, False])
    monkeypatch.setattr(completions, "_write", lambda m, sent, got, out: answers.extend(got))
    spec = completions.LeakedSpec(
        task=planned("task=tools").arms[0].exam.spec.task,
        budget=2,
        seed=0,
        source="leaked",
        defense=[],
        reduced=parse_defense(DEFENSE).spec,
        stands_for=[],
        per_question=1.0,
    )
    inputs = completions.LeakedInputs(Path("teacher"), campaign=Path("campaign"))
    completions.run(spec, inputs, tmp_path)
    turns = len(items[0].turns)
    counts = [len(functions(one.text)[0]) for one in answers]
    assert counts == [2] * turns + [1] * (len(answers) - turns) and len(answers) > turns


def test_a_data_set_says_what_its_questions_define(tmp_path):
    path = tmp_path / "calls.jsonl"
    rows = [
        {
            "question": f"{i}?",
            "answer": f"get_it(n={i})",
            "calls": f'[{{"get_it": {{"n": [{i}]}}}}]',
        }
        for i in range(200)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    entry = f'dataset(path="{path}", reference=calls, grader=tool_call, grading={{"tools": %s}})'
    task = build_task(entry % '["get_it", "put_that"]')
    assert tuple(task.tools) == ("get_it", "put_that")
    (item,) = task.items("report", 1, 0)
    resources = ProviderResources(format=task.format, tools=task.tools)
    model = build_defense(parse_defense(DEFENSE).spec, resources)(StoredModel(solutions([item])))
    (answer,) = model.generate((), seed=0, interface=Interface())
    assert task.grade(answer.text, item.reference) == "wrong"
    assert executed(task, answer).text == item.solution
    with pytest.raises(BadInput, match="calls get_it, which tools does not name .there are: put"):
        build_task(entry % '["put"]')
