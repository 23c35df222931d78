"""What the words of the command line do beside running: names of runs, plans, lists."""

import pytest

from distill.completions import BadInput
from experiments.commands import studies
from experiments.settings import catalog, schema
from experiments.store import Store


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
    study_name = schema.load_named("quickstart", overrides).name
    assert study_name.startswith(name) and len(study_name) == len(name) + 8 * name.endswith("-")
    assert study_name == schema.load_named("quickstart", [*reversed(overrides)]).name


def test_other_overrides_are_another_folder_and_a_long_name_stays_a_name(tmp_path):
    first, second = (schema.load_named("quickstart", [f"seeds=[{i}]"]).name for i in (0, 1))
    assert first != second
    path = tmp_path / "long.yaml"
    path.write_text(f"defaults:\n  - /study/quickstart\n  - _self_\nname: {'a' * 100}\n")
    study = schema.load_named(str(path), ["seeds=[0]"])
    assert len(study.name) == 100 and type(study).model_validate(study.model_dump())


def test_two_files_of_one_name_do_not_share_a_folder(tmp_path):
    """The file may be edited, and another may have its name once it is gone."""
    first, other = tmp_path / "mine.yaml", tmp_path / "other.yaml"
    first.touch()
    store = Store(tmp_path / "store")
    studies._claim("name", store, first)
    studies._claim("name", store, first)
    studies._claim("another", store, other)
    with pytest.raises(BadInput, match="other.yaml: its name 'name' is that of .*mine.yaml, whose"):
        studies._claim("name", store, other)
    first.rename(other)
    studies._claim("name", store, other)


@pytest.mark.parametrize("note", [b"", b"\xff", b"a\0b", b"x" * 9000])
def test_a_damaged_note_of_a_studys_file_is_written_anew(tmp_path, note):
    store, study = Store(tmp_path / "store"), tmp_path / "mine.yaml"
    studies._claim("name", store, study)
    path = store.root / ".studies" / "name"
    path.write_bytes(note)
    studies._claim("name", store, study)
    assert path.read_bytes() == bytes(study)


RECORDED = ["teacher=recorded", "teacher.path=a.jsonl"]


def test_what_a_study_sets_of_its_teacher_is_none_of_another_kinds(tmp_path):
    path = tmp_path / "warm.yaml"
    shipped = (catalog.config_folder() / "study" / "first.yaml").read_text()
    path.write_text(
        shipped.replace("/teacher: quick", "/teacher: pretrained")
        + "teacher: {path: model, temperature: 0.5}\n"
    )
    assert schema.load(str(path), []).teacher.temperature == 0.5
    assert schema.load(str(path), RECORDED).teacher.path == "a.jsonl"
    with pytest.raises(BadInput, match="unknown key 'teacher.recorded.temperature'"):
        schema.load(str(path), [*RECORDED, "teacher.temperature=1"])
    path.write_text(path.read_text().replace("temperature", "temprature"))
    with pytest.raises(BadInput, match="unknown key 'teacher.recorded.temprature'"):
        schema.load(str(path), RECORDED)
