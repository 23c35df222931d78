"""What the words of the command line do beside running: names of runs, plans, lists."""

import pytest

from experiments.settings import schema


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "quickstart"),
        (["tracking=offline", "tracking.project=mine"], "quickstart"),
        (["seeds=[0]", "name=mine"], "mine"),
        (["seeds=[0]"], "quickstart-"),
        (["attacker=sft"], "quickstart-"),
    ],
)
def test_a_study_with_overrides_has_a_folder_of_its_own(overrides, name):
    given = schema.load_named("quickstart", overrides).name
    assert given.startswith(name) and len(given) == len(name) + 8 * name.endswith("-")
    assert given == schema.load_named("quickstart", [*reversed(overrides)]).name


def test_other_overrides_are_another_folder_and_a_long_name_stays_a_name(tmp_path):
    first, second = (schema.load_named("quickstart", [f"seeds=[{i}]"]).name for i in (0, 1))
    assert first != second
    path = tmp_path / "long.yaml"
    path.write_text(f"defaults:\n  - /study/quickstart\n  - _self_\nname: {'a' * 100}\n")
    study = schema.load_named(str(path), ["seeds=[0]"])
    assert len(study.name) == 100 and type(study).model_validate(study.model_dump())
