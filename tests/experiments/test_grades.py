"""A file of grades that was cut, doubled or shuffled, and items that belong together."""

import inspect
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import measures as simulated
from distill.completions import BadInput
from experiments.analysis import frontier, query_curves, rows, summary
from experiments.analysis.comparisons import ArmTable
from experiments.measure import flags
from experiments.results import grades_file
from experiments.settings import schema


@pytest.fixture(scope="module")
def made():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated, "SEEDS", 2)
        patch.setattr(simulated, "ITEMS", 60)
        return simulated.simulated(np.random.default_rng(1))


@pytest.fixture(scope="module")
def table(made):
    return pq.read_table(pa.BufferReader(made[0]))


def written(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def row_of(table, **who):
    """The place of the fifth row of the exam that these name."""
    mask = np.ones(len(table), bool)
    for name, value in who.items():
        mask &= np.array(table[name].to_pylist()) == value
    return int(np.flatnonzero(mask)[4])


ARM = {
    "attacker": "sft",
    "defense": "release/truncate",
    "budget": 500,
    "seed": 1,
    "split": "report",
}


@pytest.mark.parametrize(
    ("who", "words"),
    [
        (
            ARM,
            "sft against release/truncate, budget 500, seed 1 (trace, report) lacks 1 of 60 items",
        ),
        (
            {"attacker": "", "seed": 0},
            "the teacher behind none, seed 0 (trace, report) lacks 1 of 60 items",
        ),
    ],
)
def test_a_missing_row_is_one_line(table, who, words):
    place = row_of(table, **who)
    cut = pa.concat_tables([table[:place], table[place + 1 :]])
    with pytest.raises(BadInput) as caught:
        grades_file.read(written(cut))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_doubled_row_is_one_line(table):
    place = row_of(table, **ARM)
    with pytest.raises(BadInput, match=r"seed 1 \(trace, report\) has 1 of its items twice"):
        grades_file.read(written(pa.concat_tables([table, table[place : place + 1]])))


def test_the_order_of_rows_changes_nothing(table):
    before, order = (
        grades_file.read(written(table)),
        np.random.default_rng(2).permutation(len(table)),
    )
    after = grades_file.read(written(table.take(order)))
    assert set(before) == set(after)
    for key, exams in before.items():
        items = [
            {item: right for item, right in zip(one.items, one.right_N, strict=True)}
            for one in exams.exams
        ]
        again = [
            {item: right for item, right in zip(one.items, one.right_N, strict=True)}
            for one in after[key].exams
        ]
        assert items == again and exams.seeds == after[key].seeds
    orders = {
        exam.items
        for key, exams in after.items()
        if key[::4] == ("trace", "report")
        for exam in exams.exams
    }
    assert len(orders) == 1, "items stand in one order in all exams, as they are paired by it"


class TestClusters:
    def test_texts_and_names_are_joined(self):
        """Items 0 and 1 have a text in common, 1 and 2 a name; 3 and 4 a name; 5 is alone."""
        labels = flags.clusters(["a b", "A  b", "c", "d", "e", "f"], ["", "x", "x", "y", "y", ""])
        assert labels[0] == labels[1] == labels[2] and labels[3] == labels[4]
        assert len({labels[0], labels[3], labels[5]}) == 3
        assert len(set(flags.clusters(["a", "b"], ["", ""]))) == 2, "no name is no cluster"
        assert len(set(flags.clusters(["a", "a", "b"]))) == 2

    def test_a_column_of_the_grades_widens_every_interval(self, made, table):
        items = table["item"].to_pylist()
        names = {item: f"passage {i // 5}" for i, item in enumerate(dict.fromkeys(items))}
        declared = table.append_column("cluster", pa.array([names[item] for item in items]))
        study = schema.load("quickstart", ["seeds=[0,1]", "measure.items=60", "measure.draws=100"])
        plain, clustered = (grades_file.read(written(one)) for one in (table, declared))
        key = next(key for key in clustered if key.attacker == "sft" and key.split == "report")
        assert (
            clustered[key].exams[0].clusters[:6] == ("passage 0",) * 5 + ("passage 1",)
            and plain[key].exams[0].clusters == ()
        )
        assert ArmTable(study, plain, made[1]).clusters("trace") is None
        labels = ArmTable(study, clustered, made[1]).clusters("trace")
        assert labels is not None and len(set(labels)) == 12
        seen: dict[str, list[Any]] = {}

        def spy(function):
            def spied(*args, **named):
                bound = inspect.signature(function).bind(*args, **named).arguments
                seen.setdefault(function.__name__, []).append(bound.get("clusters"))
                return function(*args, **named)

            return spied

        with pytest.MonkeyPatch.context() as patch:
            for module, names_ in (
                (query_curves.curves, ["needs", "area_between"]),
                (frontier.frontier, ["volume"]),
                (rows.fidelity, ["panel"]),
                (flags, ["helps", "sabotage"]),
            ):
                for name in names_:
                    patch.setattr(module, name, spy(getattr(module, name)))
            summary.measure(study, clustered, made[1])
        assert len(seen) == 6
        for name, passed in seen.items():
            assert all(one is not None and len(set(one)) == 12 for one in passed), name
