"""What the words of the command line do beside running: names of runs, plans, lists."""

import functools
from contextlib import nullcontext

import pytest

from distill.completions import BadInput
from experiments import api, cli
from experiments.claims import claim
from experiments.launch import local
from experiments.planning import plan
from experiments.settings import catalog, schema
from experiments.store import Store
from tests.experiments.small import last


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


@pytest.fixture
def store(tmp_path):
    """A store beside which the folder `mine` is there."""
    (tmp_path / "mine").mkdir()
    return Store(tmp_path / "store")


@functools.cache
def named(*overrides):
    return plan.make(schema.load_named("first", last("name=mine", *overrides)))


def test_two_files_of_one_name_do_not_share_a_folder(store, tmp_path):
    """The file may be edited, and another may have its name once it or the folder is gone."""
    first, other, edited = tmp_path / "mine.yaml", tmp_path / "other.yaml", named("student.steps=9")
    first.touch()
    claim(named(), store, first)
    claim(edited, store, first)
    claim(named("name=another"), store, other)
    with pytest.raises(BadInput, match="other.yaml: the name 'mine' is that of .*mine.yaml, whose"):
        claim(named(), store, other)
    claim(edited, store, other)
    with pytest.raises(BadInput, match="mine.yaml: the name 'mine' is that of .*other.yaml, whose"):
        other.touch()
        claim(named(), store, first)
    other.unlink()
    claim(named(), store, first)
    (tmp_path / "mine").rmdir()
    claim(edited, store, other)


def test_a_name_with_other_overrides_is_another_studys(store, tmp_path):
    file = tmp_path / "first.yaml"
    file.touch()
    words = ["name=mine", "student.steps=9"]
    claim(named(*words[1:]), store, file, words)
    claim(named(*words[1:]), store, file, [*reversed(words), "tracking=offline"])
    with pytest.raises(BadInput, match="first.yaml with other overrides, whose results are in"):
        claim(named("student.steps=8"), store, file, ["name=mine", "student.steps=8"])
    claim(named("student.steps=8"), store, file, words)  # the file was edited


def test_a_study_of_no_file_shares_with_its_own_settings_alone(store, tmp_path):
    file = tmp_path / "first.yaml"
    file.touch()
    claim(named(), store)
    claim(named("tracking=offline"), store)
    for place, where in ((None, "run"), (file, str(file))):
        with pytest.raises(BadInput, match=f"{where}: the name 'mine' is that of other settings"):
            claim(named("student.steps=9"), store, place)
    claim(named(), store, file)
    claim(named(), store)
    with pytest.raises(BadInput, match="run: the name 'mine' is that of .*first.yaml, whose"):
        claim(named("student.steps=9"), store)
    claim(named("student.steps=9"), store, file)  # the file was edited


def test_a_script_and_the_command_line_ask_whose_a_folder_is(tmp_path, monkeypatch):
    """Before anything is run or written."""
    runs = tmp_path / "runs"
    store = Store(runs / "store")
    (runs / "mine").mkdir(parents=True)
    claim(named("student.steps=9"), store)
    monkeypatch.setattr(local, "run", None)
    with pytest.raises(BadInput, match="is that of other settings"):
        api.run(named().study, runs, workers=1)
    words = ["run", "first", "name=mine", "--workers", "1", "--runs", str(runs)]
    assert cli.main(words) == 2
    assert not [*(runs / "mine").iterdir()] and not store.root.joinpath("teacher").exists()


@pytest.mark.parametrize(
    ("word", "is_other"),
    [("measure.theta=0.4", True), ("seeds=[0]", True), ("student.name=x", False)],
)
def test_other_settings_are_those_that_results_follow_from(store, word, is_other):
    claim(named(), store)
    with pytest.raises(BadInput) if is_other else nullcontext():
        claim(named(word), store)


@pytest.mark.parametrize("note", [b"", b"\xff", b"a\0b", b"x" * 9000])
def test_a_damaged_note_of_a_study_is_written_anew(store, tmp_path, note):
    file = tmp_path / "mine.yaml"
    claim(named(), store, file)
    path = store.root / ".studies" / "mine"
    whole = path.read_bytes()
    path.write_bytes(note)
    claim(named(), store, file)
    assert path.read_bytes() == whole


def test_a_note_of_a_file_alone_is_of_that_file(store, tmp_path):
    """As they were written before."""
    file, other = tmp_path / "mine.yaml", tmp_path / "other.yaml"
    file.touch()
    claim(named(), store)
    (store.root / ".studies" / "mine").write_bytes(bytes(file))
    with pytest.raises(BadInput, match="is that of .*mine.yaml, whose"):
        claim(named(), store, other)
    claim(named(), store, file)


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
