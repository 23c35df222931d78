"""What docs/plateau.md says of twice the steps: which students are compared, and when it holds."""

import numpy as np
import pytest

from experiments.measure.scores import Arm
from experiments.planning import checks
from experiments.planning import plan as planning
from tests.experiments import plateau
from tests.experiments.small import SHAPES, last

TINY = [word for word in last(*SHAPES) if "steps" not in word]
TOY = [*TINY, "student.steps=1", "teacher.steps=2", "measure.items=12", "budget=8"]


def change(once, twice):
    arms = (Arm(np.array(rows, float), tuple(range(len(rows)))) for rows in (once, twice))
    return plateau.Change(*arms)


def right(*shares, items=100):
    """A row a seed, the first so many of its items right."""
    return [[n < round(share * items) for n in range(items)] for share in shares]


def test_what_moves_within_the_error_of_an_arm_holds():
    assert change(right(0.9, 0.92), right(0.91, 0.92)).holds
    assert not change(right(0.5, 0.52), right(0.9, 0.92)).holds
    assert not change(right(0.9, 0.92), right(0.5, 0.52)).holds


def test_a_change_is_over_the_seeds_that_trained_for_both():
    both = change(right(0.9, 0.8, 0.1), right(0.91, 0.81))
    assert float(both.difference.value) == pytest.approx(0.01)


def test_one_seed_that_fails_is_seen():
    fifth = right(0.9, 0.9, 0.9, 0.9, 0.6)
    assert change(fifth, fifth).failing == 1 and not change(fifth, fifth).holds
    assert change(right(0.9, 0.85), right(0.9, 0.85)).failing == 0


@pytest.mark.parametrize("task, attacker", plateau.CELLS)
def test_both_lengths_are_one_recipe_from_the_same_seeds(task, attacker):
    defended = plateau.students(task, attacker, 3, 2)
    for row, defense in zip(defended, plateau.CELLS[task, attacker], strict=True):
        assert len(row.twice) == 2
        for once, twice in zip(row.once, row.twice, strict=False):
            short, long = once.inputs[0].spec, twice.inputs[0].spec
            assert long.shape.steps == 2 * short.shape.steps == 2 * row.steps
            assert long.model_copy(update={"shape": short.shape}) == short
            assert once.spec == twice.spec and once.spec.split == "report"
            assert once.inputs[0].inputs == twice.inputs[0].inputs
        assert {exam.inputs[0].spec.seed for exam in row.once} == {20, 21, 22}
        assert ("undefended" in row.name) == (defense == "none")


def test_teachers_differ_in_their_seed_and_their_steps():
    row = plateau.teachers("quick", "addition", 2)
    recipes = [exam.needs.teacher.spec for exam in (*row.once, *row.twice)]
    assert [(one.seed, one.shape.steps) for one in recipes] == [
        (20, 250),
        (21, 250),
        (20, 500),
        (21, 500),
    ]


def test_the_page_is_written_at_toy_size(tmp_path, capsys):
    page = tmp_path / "plateau.md"
    where = ["--runs", str(tmp_path), "--write", str(page), "--workers", "1"]
    size = ["--seeds", "3", "--doubled", "2", "--teachers", "2", "--tasks", "addition"]
    plateau.main([*size, *where, *TOY])
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")][1:]
    assert [row.split("|")[2].strip() for row in rows] == ["3, 2"] * 3 + ["2, 2"]
    assert page.read_text() in capsys.readouterr().out


def test_a_proxy_is_trained_as_a_student():
    """What the page says of students holds of proxies too."""
    made = plateau.study("trace")
    proxy = made.provider.proxy.model_dump(exclude={"kind", "name", "items"})
    assert proxy == made.student.model_dump(include={*proxy})


@pytest.mark.parametrize("task", dict.fromkeys(task for task, _ in plateau.CELLS))
def test_plan_says_when_students_train_for_fewer_steps_than_the_page(task):
    base = plateau.study(task, *plateau.SETTINGS.get(task, ()))
    steps = base.student.steps
    assert not list(checks.check_steps(base, task))
    fewer = plateau.study(task, *plateau.SETTINGS.get(task, ()), f"student.steps={steps - 1}")
    (note,) = [note for note in planning.make(fewer).notes if "plateau" in note]
    assert f"{steps - 1} steps" in note and str(steps) in note.partition("takes")[2]
