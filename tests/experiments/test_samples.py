"""pass@k: against all subsets, and from the students that sample to the row that says so."""

import itertools
import json
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from distill.completions import Completion
from experiments import cli
from experiments.measure.samples import pass_at, sizes
from experiments.review.verify import verify
from experiments.settings.components import build
from experiments.settings.entries import resolve
from experiments.stages.evaluation import EvaluationSpec, sampled_right
from experiments.stages.stage import TaskSpec
from tests.experiments import small
from tests.experiments.forger import table

N = 6


@pytest.mark.parametrize("k", range(1, N + 1))
def test_it_is_the_share_of_all_subsets_that_hold_a_right_answer(k):
    for right in range(N + 1):
        answers = [place < right for place in range(N)]
        shares = [any(subset) for subset in itertools.combinations(answers, k)]
        assert pass_at(np.array([right]), N, k) == pytest.approx([np.mean(shares)])


@pytest.mark.parametrize("k", range(1, N + 1))
def test_it_has_no_bias(k):
    counts = np.arange(N + 1)
    for p in (0.0, 0.03, 0.5, 1.0):
        mean = stats.binom.pmf(counts, N, p) @ pass_at(counts, N, k)
        assert mean == pytest.approx(1 - (1 - p) ** k)


@pytest.mark.parametrize(("right", "k"), [([1], 0), ([1], N + 1), ([N + 1], 1), ([-1], 1)])
def test_what_cannot_be_counted_is_an_error(right, k):
    with pytest.raises(ValueError, match="must be from"):
        pass_at(np.array(right), N, k)


def test_sizes_are_powers_of_two_and_all():
    assert [sizes(samples) for samples in (0, 1, 2, 6, 8)] == [
        [],
        [1],
        [1, 2],
        [1, 2, 4, 6],
        [1, 2, 4, 8],
    ]


@dataclass(frozen=True)
class Student:
    """Right on item i in the attempts below i, at the temperature of the exam alone."""

    solutions: dict[str, tuple[int, str]]
    temperature: float = 0.0

    def generate(self, prompts, *, seed, interface):
        assert self.temperature == 0.7 and seed == 5
        answers = []
        for prompt in prompts:
            place, solution = self.solutions[prompt.id]
            answers.append(Completion.to(prompt, solution if prompt.attempt < place else "# no"))
        return answers


def test_each_sample_is_another_attempt_at_the_temperature_and_is_graded():
    spec = TaskSpec(**resolve("task", "addition").spec.model_dump())
    task = build("task", spec)
    items = task.items("report", 4, 0)
    student = Student({item.prompt.id: (i, item.solution) for i, item in enumerate(items)})
    exam = EvaluationSpec(task=spec, split="report", items=4, seed=5, samples=3, temperature=0.7)
    assert sampled_right(task, student, items, exam) == [0, 1, 2, 3]


def test_a_study_reports_it_of_its_students_report_exams_alone(tmp_path):
    small.run(tmp_path, "measure.samples=3", "measure.sample_temperature=0.5")
    home = tmp_path / "quickstart"
    grades = pq.read_table(home / "grades.parquet").to_pylist()
    sampled = {
        (row["attacker"] != "", row["split"]) for row in grades if row["sampled_right"] is not None
    }
    assert sampled == {(True, "report")}
    rows = json.loads((home / "results.json").read_text())
    assert rows and all([one["k"] for one in row["pass_at"]] == [1, 2, 3] for row in rows)
    for page in ("card.md", "report.html"):
        assert "pass@3" in (home / page).read_text()
    assert cli.main(["verify", str(home)]) == 0
    table(home, "sampled_right", lambda row: 4 if row["split"] == "report" else None)
    words = {check.claim: check.word for check in verify(home, None)}
    assert words["numbers are those that exams can have"] == "FAIL"
