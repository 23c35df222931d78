"""Problems of reasoning-gym: drawn as the library draws them, graded as its scorers do."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from distill.completions import BadInput
from experiments.contracts import tasks, title

library = pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
from experiments.tasks import reasoning_gym  # noqa: E402
from experiments.tasks.reasoning_gym import (  # noqa: E402
    EVALUATES,
    REFUSED,
    Generators,
    Settings,
    Task,
)

ROOT = Path(__file__).parents[2]
DATASETS = library.factory.DATASETS


# Two claims are of tasks whose reference is the answer; here it is JSON of the question.
CLAIMS = [
    claim
    for claim in tasks.CLAIMS
    if claim
    not in (
        tasks.the_final_answer_of_a_solution_is_its_reference,
        tasks.another_reference_is_not_right,
    )
]


@pytest.fixture(scope="module")
def task():
    return Task(Settings(generators=["gcd", "lcm"], seed=45, size=400))


@pytest.mark.parametrize("claim", CLAIMS, ids=title)
def test_it_keeps_the_contract_of_a_task(claim, task):
    claim(task)


def test_questions_are_the_librarys_one_of_each_in_turn(task):
    for which, name in enumerate(("gcd", "lcm")):
        made = library.create_dataset(name, seed=45, size=400)
        for number in (0, 1, 399):
            draft = task.draft(2 * number + which)
            assert (draft.text, draft.answer) == (made[number]["question"], made[number]["answer"])


def test_seeds_that_draw_the_same_question_put_it_into_one_split(task):
    beside = Task(Settings(generators=["gcd", "lcm"], seed=46, size=400))

    def splits(task):
        drafts = [task.draft(index) for index in range(0, 200)]
        return {draft.text: task.split(0, draft.canonical) for draft in drafts}

    first, second = splits(task), splits(beside)
    both = first.keys() & second.keys()
    assert len(both) > 150 and all(first[text] == second[text] for text in both)


@pytest.mark.parametrize(
    ("written", "credit", "outcome"),
    [("{}", 1, "right"), ("x = {}", 0.1, "wrong")],
)
def test_partial_credit_is_no_right_answer(written, credit, outcome):
    made = Task(Settings(generators=["chain_sum"], seed=45, size=400))
    draft, entry = made.draft(3), made.generators.entry(0, 3)
    answer = written.format(draft.answer)
    assert credit <= made.generators.made[0].score_answer(answer, entry) <= 1
    assert made.grade(f"<answer>{answer}</answer>", draft.reference) == outcome
    assert made.grade(answer, draft.reference) == "unparsed"


def test_a_scorer_that_fails_on_an_answer_calls_it_wrong():
    made = Task(Settings(generators=["prime_factorization"], seed=45, size=20))
    draft = made.draft(0)
    assert made.grade("<answer>zzz</answer>", draft.reference) == "wrong"
    assert made.grade(made.solution(draft), draft.reference) == "right"


# Answers are a stranger's words: no scorer may evaluate them.

CODE = {"eval", "exec", "compile", "__import__", "parse_expr", "sympify"}
PICKLES = {"pickle", "marshal", "dill", "shelve"}
OF_THEIR_OWN = {
    "basic_arithmetic": {"eval(exp.replace('/', '//'))"},
    "bitwise_arithmetic": {"eval(problem_str)", "eval(problem)"},
    "gsm_symbolic": {"eval(fraction)", "eval(rng.choice(fractions))"},
    "number_sorting": {"eval(entry['answer'])"},
    # To draw questions with; its functions evaluate the texts that they are handed.
    "advanced_geometry": {"sympy"},
    "polynomial_equations": {"sympy"},
    "simple_equations": {"sympy"},
}
"""What a generator evaluates of what it drew itself, with a scorer that hands it no answer."""


@cache
def source(module):
    return ast.parse(Path(importlib.util.find_spec(module).origin).read_text())


@cache
def is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@cache
def imported(module):
    """The library's modules that one of them names."""
    is_package = importlib.util.find_spec(module).submodule_search_locations
    package = module if is_package else module.rpartition(".")[0]
    there = set()
    for node in ast.walk(source(module)):
        if isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            whole = importlib.util.resolve_name(name, package)
            inner = {f"{whole}.{part.name}" for part in node.names}
            there |= {whole} | ({each for each in inner if is_module(each)})
        elif isinstance(node, ast.Import):
            there |= {part.name for part in node.names}
    return {name for name in there if name.startswith("reasoning_gym.")}


@cache
def evaluated(module):
    """What a module evaluates as code, and `sympy`, most of whose functions do."""
    calls = set()
    for node in ast.walk(source(module)):
        match node:
            case ast.Call(func=ast.Name(id=word)) if word in CODE:
                calls.add(ast.unparse(node))
            case ast.Call(func=ast.Attribute(value=ast.Name(id=of), attr=word)):
                if of in PICKLES or word in CODE - {"compile"}:
                    calls.add(ast.unparse(node))
            case ast.Import(names=names) if any(n.name.split(".")[0] == "sympy" for n in names):
                calls.add("sympy")
            case ast.ImportFrom(module=str(name)) if name.split(".")[0] == "sympy":
                calls.add("sympy")
    return calls


def evaluates(name):
    """What a generator evaluates, with all modules that its own leads to."""
    todo, seen = [DATASETS[name][0].__module__], set()
    while todo:
        if (module := todo.pop()) not in seen:
            seen.add(module)
            todo += imported(module)
    return set().union(*map(evaluated, seen)) - OF_THEIR_OWN.get(name, set())


def test_what_may_evaluate_an_answer_is_refused():
    found_in = {name: calls for name in DATASETS if (calls := evaluates(name))}
    assert not {name: calls for name, calls in found_in.items() if name not in REFUSED}
    assert {name for name, why in REFUSED.items() if why == EVALUATES} <= found_in.keys()


def test_no_answer_does_anything(tmp_path):
    """Of one generator of each folder whose scorers read most."""
    names = ["number_sorting", "polynomial_equations", "arc_1d", "jugs", "complex_arithmetic"]
    made = Generators(Settings(generators=[*names, "coin_flip", "quantum_lock", "survo"]))
    call = f"open({str(tmp_path / 'ran')!r}, 'w')"
    for which in range(len(made.names)):
        for text in (call, f"[{call}]", f"({call}, 1)", f"1 + {call}", f"{{{call}: 1}}"):
            assert not made.right(which, 0, text)
    assert not (tmp_path / "ran").exists()


def test_no_scorer_is_asked_of_a_number_that_fills_the_memory(monkeypatch):
    made, scored = Generators(Settings(generators=["coin_flip"])), []
    monkeypatch.setattr(made.made[0], "score_answer", lambda answer, _: scored.append(answer))
    for answer in ("1e4000000000", "-2.5E+9999", "1/3", "1e-4"):
        made.right(0, 0, answer)
    assert scored == ["1/3", "1e-4"]


def test_a_number_in_base_16_is_none_of_those():
    made = Generators(Settings(generators=["base_conversion"]))
    answers = [made.entry(0, index)["answer"] for index in range(5)]
    assert all(made.right(0, index, answer) for index, answer in enumerate(answers))
    made.made[0].score_answer = lambda answer, _: float(answer == "5e1234")
    assert made.right(0, 0, "5e1234")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_an_exam_is_refused_by_name(name):
    with pytest.raises(BadInput, match=f"{name} is refused: {re.escape(REFUSED[name])}"):
        Task(Settings(generators=[name]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generators": ["gdc"]}, r"no generator 'gdc' \(there are: ab, acre"),
        ({"generators": ["gcd", "gcd"]}, "a generator is named twice"),
        ({"generators": ["gcd"], "config": {"depth": 3}}, "gcd: TypeError: .*depth"),
        ({"generators": ["gcd"], "config": {"min_numbers": 9}}, "gcd: AssertionError"),
        (
            {"generators": ["count_primes"], "config": {"max_n": 10**6}},
            r"count_primes: config.max_n: must be from -100000 to 100000 \(got 1e\+06\)",
        ),
        (
            {"generators": ["tower_of_hanoi"], "config": {"max_disks": 8}},
            r"tower_of_hanoi: config.max_disks: must be from -7 to 7 \(got 8\)",
        ),
        (
            {"generators": ["gcd"], "config": {"min_value": 10_001}},
            r"gcd: config.min_value: must be from -10000 to 10000",
        ),
        ({"generators": ["gcd"], "config": {"size": 9}}, r"setting of the task: .*size=9\)"),
        ({"generators": ["gcd"], "config": {"max_numbers": [[9]]}}, "must be a number, true"),
        (
            {"generators": ["spell_backward"], "config": {"data_file": "/etc/passwd"}},
            "data_file: must be one character, or letters",
        ),
        (
            {"generators": ["calendar_arithmetic"], "config": {"year": 12_345}},
            "calendar_arithmetic: question .*: ValueError: year 12345 is out of range",
        ),
    ],
)
def test_a_setting_that_the_library_has_not_is_one_line(settings, message):
    with pytest.raises(BadInput, match=message) as caught:
        Task(Settings(**settings))
    assert "\n" not in str(caught.value)


DRAWN = """
import json
from experiments.tasks.reasoning_gym import Settings, Task
task = Task(Settings(generators=["leg_counting", "knights_knaves"], seed=45, size=9))
print(json.dumps([task.draft(index) for index in range(18)]))
"""


def test_another_process_draws_the_same_questions():
    drawn = [
        subprocess.run(
            [sys.executable, "-c", DRAWN],
            env={"PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    ]
    assert drawn[0] == drawn[1] and len(json.loads(drawn[0])) == 18


def test_the_version_is_that_of_the_package(task):
    from importlib import metadata

    assert (task.facts == ()) == (metadata.version("reasoning-gym") == reasoning_gym.TRIED)


def test_what_is_refused_was_found_with_the_version_that_is_pinned():
    pinned = (ROOT / "constraints.txt").read_text()
    assert f"reasoning-gym=={reasoning_gym.TRIED}\n" in pinned.replace("_", "-")
