"""Results as typed tables: what each field says, and what is read of a run."""

import json
import typing

import numpy as np
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from distill.completions import BadInput
from experiments import cli
from experiments.analysis import query_curves
from experiments.results import archive, manifest
from experiments.results.read import read_results
from experiments.results.schema.card import Card
from experiments.results.schema.measures import Measures
from experiments.results.schema.rows import Row
from experiments.results.table import Table, as_json
from tests.experiments.test_templates import bare


def tables(base=Table):
    """Every model of a table, in the order of their files."""
    children = [
        child
        for child in base.__subclasses__()
        if child.__module__.startswith("experiments.results")
    ]
    return [one for child in children for one in (child, *tables(child))]


def of_tables(kind):
    """Whether a field holds other tables, whose own words say what they are."""
    kind = bare(kind)
    if typing.get_origin(kind) in (list, dict):
        return of_tables(typing.get_args(kind)[-1])
    return isinstance(kind, type) and issubclass(kind, BaseModel)


@pytest.mark.parametrize("table", dict.fromkeys(tables()), ids=lambda table: table.__name__)
def test_every_field_says_what_it_is(table):
    assert table.__doc__
    for name, field in table.model_fields.items():
        assert field.description or of_tables(field.annotation), name


def test_there_are_tables_and_a_schema_of_each_file():
    assert {Measures, Row, Card, manifest.Manifest} <= {*tables()}
    text = TypeAdapter(Measures).json_schema()
    assert "Row" in text["$defs"] and text["properties"]["schema_version"]["const"] == 1


class TestReading:
    """What `read_results` gives of a folder and of an export, and what it says of an old run."""

    def test_a_folder_and_its_export_are_the_same(self, home, tmp_path):
        read = read_results(home)
        archive.pack(home, tmp_path / "run.zip")
        assert read_results(tmp_path / "run.zip") == read
        assert read.measures.rows[0].task == "addition" and read.card.arms
        assert as_json(read.measures) == (home / "measures.json").read_bytes()
        assert as_json(read.card) == (home / "card.json").read_bytes()
        assert as_json(read.arms) == (home / "arms.json").read_bytes()
        assert as_json(read.manifest) == (home / "manifest.json").read_bytes()

    @pytest.mark.parametrize(
        ("name", "change", "fault"),
        [
            (
                "measures.json",
                {"schema_version": None},
                "schema 0 is of an older version, 1 is read",
            ),
            ("measures.json", {"schema_version": 2}, "schema 2 is of a newer version, 1 is read"),
            (
                "manifest.json",
                {"schema": 3},
                f"is of an older version, {manifest.MANIFEST_SCHEMA} is read",
            ),
            ("measures.json", {"rows": 1}, "rows: must be a list"),
            ("card.json", {"verdict": "effective"}, "verdict: is no known key"),
        ],
    )
    def test_what_is_of_another_form_is_one_line(self, home, name, change, fault):
        raw = json.loads((home / name).read_text()) | change
        raw = {key: value for key, value in raw.items() if value is not None or key not in change}
        (home / name).write_text(json.dumps(raw))
        with pytest.raises(BadInput) as error:
            read_results(home)
        assert str(error.value).startswith(f"{home}: {name}: ") and fault in str(error.value)
        assert "\n" not in str(error.value)

    def test_what_is_no_run_is_one_line(self, tmp_path):
        with pytest.raises(BadInput, match="no manifest.json there"):
            read_results(tmp_path)


@pytest.mark.parametrize("of", cli.SCHEMAS)
def test_the_schema_of_every_file_is_printed(of, capsys):
    assert cli.main(["schema", of]) in (0, None)
    assert json.loads(capsys.readouterr().out)


def test_a_table_is_not_changed_once_it_is_made():
    class Point(Table):
        x: int
        """A number."""

    with pytest.raises(ValidationError, match="frozen"):
        Point(x=1).x = 2


@pytest.mark.parametrize(
    "budgets, seeds, items, is_below",
    [(6, 5, 500, False), (5, 5, 500, True), (6, 4, 500, True), (6, 5, 499, True)],
)
def test_a_multiplier_is_a_claim_from_six_budgets_five_seeds_and_500_items(
    budgets, seeds, items, is_below
):
    assert query_curves._is_below_minimum(np.zeros((budgets, seeds, items))) is is_below
