"""What an old study names gets a line that says what it is called now."""

import re

import pytest

from experiments import cli
from experiments.settings import catalog, entries, schema
from experiments.settings.overrides import PLURAL, SIMULATED
from experiments.settings.renamed import REMOVED, RENAMED


@pytest.fixture(scope="module")
def settings():
    return schema.schema()


def keys(part):
    """All keys of settings in a JSON schema."""
    if isinstance(part, list):
        return {key for inner in part for key in keys(inner)}
    if not isinstance(part, dict):
        return set()
    properties = part.get("properties", {})
    return {*properties, *keys([*properties.values(), *part.values()])}


def there(settings, place):
    """The names and keys that exist at a place."""
    group, _, name = place.partition(" ")
    if name:
        return keys(settings[group][name])
    if group == "study":
        study = settings["study"]
        recipe = study["$defs"]["Recipe"]["properties"]
        return {*study["properties"], *(f"teacher.{key}" for key in recipe)}
    return {*catalog.names(group)} | keys([*settings[group].values()])


@pytest.mark.parametrize(("place", "old"), [*RENAMED, *REMOVED])
def test_an_old_name_is_gone_and_what_it_became_exists(settings, place, old):
    exist = there(settings, place)
    assert exist and old not in exist
    if (place, old) in RENAMED:
        assert RENAMED[place, old] in exist
    components = {name for group in catalog.PACKAGES for name in catalog.names(group)}
    assert {*re.findall(r"\w+/\w+", REMOVED.get((place, old), ""))} <= components


def test_no_short_word_of_an_override_is_an_old_name():
    assert not {old for _, old in [*RENAMED, *REMOVED]} & {*PLURAL, *SIMULATED}


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("defense=release/modelguard_s(eps=1.0)", "no 'release/modelguard_s'; it is 'release/qu"),
        ("defense=release/truncate(marker=x)", "'marker'; the task's answer format says it now"),
        ("attacker=clean/reorder(separator=x) + sft", "'separator'; the task's answer format"),
        ("defense=release/obfuscate(by=model)", "'by'; release/rewrite is by a model now"),
        ("teacher_items=3", "'teacher_items'; it is 'teacher.items' now"),
        ("+teacher_items=3", "'teacher_items'; it is 'teacher.items' now"),
    ],
)
def test_a_study_of_before_gets_one_line(word, line, capsys):
    assert cli.main(["show", "quickstart", word]) == 2
    error = capsys.readouterr().err
    assert line in error and "did you mean" not in error and error.count("\n") == 1


def test_a_rule_of_before_gets_one_line():
    entry = "layered(rules=[{'detector': 'average', 'level': 1, 'action': 'ban'}])"
    with pytest.raises(Exception, match="unknown key 'rules.0.level'; it is 'rate' now"):
        entries.resolve("access", entry)
