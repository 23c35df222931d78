"""Problems of reasoning-gym: drawn as the library draws them, graded as its scorers do."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distill.completions import BadInput
from experiments.contracts import tasks, title

library = pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
from experiments.tasks import reasoning_gym  # noqa: E402
from experiments.tasks.reasoning_gym import REFUSED, Settings, Task  # noqa: E402

ROOT = Path(__file__).parents[2]


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
