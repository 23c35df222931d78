"""Results as typed tables: what each field says, and what is read of a run."""

import json
import typing

import numpy as np
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from distill.completions import BadInput, digest
from experiments import cli
from experiments.analysis import query_curves
from experiments.results import archive, manifest
from experiments.results.read import AGAIN, read_results
from experiments.results.schema.arms import ARM_RECORDS
from experiments.results.schema.card import Card
from experiments.results.schema.marks import MARKED_STUDENTS
from experiments.results.schema.measures import SCHEMA_VERSION, Measures
from experiments.results.schema.outcomes import OUTCOMES
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
    assert (
        "Row" in text["$defs"] and text["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    )


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
                f"schema 0 is of an older version, 4 is read; {AGAIN}",
            ),
            (
                "measures.json",
                {"schema_version": 1},
                f"1 is of an older version, 4 is read; {AGAIN}",
            ),
            (
                "measures.json",
                {"schema_version": 5},
                f"5 is of a newer version, 4 is read; {AGAIN}",
            ),
            ("manifest.json", {"schema": 3}, f"3 is of an older version, 5 is read; {AGAIN}"),
            ("measures.json", {"rows": 1}, "rows: must be a list"),
            ("measures.json", {"ledger": None}, f"ledger: is missing; {AGAIN}"),
            ("manifest.json", {"plugins": None}, f"plugins: is missing; {AGAIN}"),
            ("card.json", {"curves": None}, f"curves: is missing; {AGAIN}"),
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

    @pytest.mark.parametrize("name", ["manifest.json", "measures.json"])
    def test_a_version_is_read_before_any_form(self, home, name):
        """Another version's files are of another form as well, which is not what is wrong."""
        field = "schema" if name == "manifest.json" else "schema_version"
        for file in ("manifest.json", "measures.json", "card.json", "arms.json"):
            raw = {"schema": manifest.MANIFEST_SCHEMA, "schema_version": SCHEMA_VERSION}
            (home / file).write_text(json.dumps(raw | ({field: 99} if file == name else {})))
        with pytest.raises(BadInput, match=f"{name}: schema 99 is of a newer version"):
            read_results(home)

    def test_what_is_no_run_is_one_line(self, tmp_path):
        with pytest.raises(BadInput, match="no manifest.json there"):
            read_results(tmp_path)


FORMS = {  # by what is exported: the version that it is of, and its digest
    "tables": (4, "e776fc3c7a6b6065"),
    "manifest": (5, "e38d643126aee846"),
}


def without_words(part):
    """A JSON schema without what is said of its fields."""
    if isinstance(part, list):
        return [without_words(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    plain = {key: without_words(value) for key, value in part.items()}
    return {key: plain[key] for key in plain if not isinstance(plain[key], str) or key not in WORDS}


WORDS = ("title", "description")


@pytest.mark.parametrize("what", FORMS)
def test_a_changed_form_has_a_new_version(what):
    """So that what an older version wrote is told from what is damaged."""
    forms = {
        "tables": [
            TypeAdapter(Measures),
            TypeAdapter(Card),
            ARM_RECORDS,
            OUTCOMES,
            MARKED_STUDENTS,
        ],
        "manifest": [TypeAdapter(manifest.Manifest)],
    }
    place = {
        "tables": ("SCHEMA_VERSION of results/schema/measures.py", SCHEMA_VERSION),
        "manifest": ("MANIFEST_SCHEMA of results/manifest.py", manifest.MANIFEST_SCHEMA),
    }
    name, version = place[what]
    text = json.dumps(without_words([form.json_schema() for form in forms[what]]), sort_keys=True)
    assert (version, digest(text)[:16]) == FORMS[what], (
        f"the files' form has changed: raise {name} by one, say so in CHANGELOG.md, and write "
        f"the new version and digest into FORMS of {__file__}"
    )


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
