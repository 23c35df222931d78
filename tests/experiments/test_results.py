"""Results as typed tables: what each field says, and what is read of a run."""

import typing

import pytest
from pydantic import BaseModel, TypeAdapter

from experiments.results import manifest, schema
from experiments.results.table import Table
from tests.experiments.test_templates import bare


def tables(base=Table):
    """Every model of a table, in the order of their files."""
    own = [one for one in base.__subclasses__() if one.__module__.startswith("experiments.results")]
    return [one for table in own for one in (table, *tables(table))]


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
    assert {schema.Measures, schema.Row, schema.Card, manifest.Manifest} <= {*tables()}
    text = TypeAdapter(schema.Measures).json_schema()
    assert "Row" in text["$defs"] and text["properties"]["schema_version"]["const"] == 1
