"""What defences do to a teacher's own answers, without any student."""

import re

import numpy as np
import pytest

from experiments import cli
from experiments.analysis.released import released_texts
from experiments.planning import plan
from experiments.results.grades import Exam, Exams, Key
from experiments.settings import schema
from tests.experiments.shipped import overrides

KEY = Key("trace", "none", "", 0, "report")


def exams_of(texts, answers, right):
    """One exam of a teacher."""
    exam = Exam(
        items=tuple(map(str, range(len(texts)))),
        right_N=np.array(right, float),
        final_N=np.array(answers),
        bits_N=None,
        nats_N=None,
        l1=0.0,
        kl=0.0,
        flips=0.0,
        passes=1.0,
        tokens=None,
        bytes=float(np.mean([len(text) for text in texts])),
        unfinished=0.0,
        texts=tuple(texts),
        prompts=tuple(map(str, range(len(texts)))),
        digest="",
    )
    return Exams((0,), (exam,))


@pytest.mark.parametrize(
    ("texts", "answers", "right", "expected"),
    [
        (["a # 1", "b # 2", "c"], [1, 2, -1], [1, 0, 0], (0.0, 1.0, 1 / 3, 1 / 3, 11 / 3)),
        (["# 1", "# 2", "c"], [1, 2, -1], [1, 0, 0], (2 / 3, 1.0, 1 / 3, 1 / 3, 7 / 3)),
        (["a # 7", "b # 2", "c"], [7, 2, -1], [0, 0, 0], (1 / 3, 0.5, 0.0, 1 / 3, 11 / 3)),
        (["", "b # 2", "c # 3"], [-1, 2, 3], [0, 0, 1], (2 / 3, 0.5, 1 / 3, 1 / 3, 10 / 3)),
    ],
)
def test_shares_worked_out_by_hand(texts, answers, right, expected):
    """What had no final answer has none that could be kept."""
    clean = exams_of(["a # 1", "b # 2", "c"], [1, 2, -1], [1, 0, 0])
    other = KEY._replace(defense="other")
    students = {KEY._replace(attacker="sft", budget=8): clean}
    rows = released_texts({KEY: clean, other: exams_of(texts, answers, right)} | students, 0.05)
    assert [row.defense for row in rows] == ["none", "other"]
    row = rows[1]
    shares = (row.changed, row.final_kept, row.right, row.unparsed, row.bytes)
    assert shares == pytest.approx(expected)
    assert row.detectability is None  # three questions are too few


def test_the_command_trains_no_student(tmp_path, capsys):
    words = ["recorded", *overrides("recorded"), "--runs", str(tmp_path), "--workers", "1"]
    sizes = ["defense=[none,release/answer_only,release/poison(p=1.0)]", "measure.items=40"]
    assert cli.main(["teachers", *words, *sizes]) == 0
    assert {one.name for one in (tmp_path / "store").iterdir()} <= {
        "teacher",
        "evaluation",
        ".studies",
    }
    rows = {
        cells[0]: cells[1:5]
        for line in capsys.readouterr().out.splitlines()
        if (cells := [cell.strip() for cell in re.split("[│|]", line)[1:-1]])
    }
    assert rows["none"] == ["0.00", "1.00", "1.00", "0.00"]
    assert rows["release/answer_only"] == ["1.00", "1.00", "1.00", "0.00"]
    assert rows["release/poison(p=1.0)"] == ["1.00", "0.00", "0.00", "0.00"]


@pytest.mark.parametrize("name", ["recorded", "real_gpu"])
def test_studies_of_recorded_answers_are_planned(name):
    made = plan.make(schema.load_named(name, overrides(name)))
    texts = [one for one in made.study.blocks[0].defenses if one != "none"]
    assert {arm.defense for arm in made.arms} >= {*texts}
    assert len(made.teachers) == 1 + len(texts)
