"""What a stranger's run may do to whoever verifies it: nothing is executed, nothing outside of it
is read, a FAIL stays one on a terminal, and a few bytes do not fill the memory.
"""

import json
import os
import shutil
import struct
import zipfile
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from distill.completions import BadInput
from experiments import cli
from experiments.commands import reviews
from experiments.planning import plan as planning
from experiments.results import archive
from experiments.review import exams, form, regrade
from experiments.settings import schema
from experiments.tasks.graders import code
from experiments.tasks.graders.math import Grader as Mathematics
from tests import fuzz
from tests.experiments.forger import edit, reseal
from tests.experiments.small import STUDY, last

# Nothing is executed.

TESTS = "assert double(2) == 4"
LONG = ["student.max_new_tokens=80", "teacher.max_new_tokens=80"]
RIGHT = "```\ndef double(x):\n    return 2 * x\n```"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A study whose answers are programs, and their grades; whoever runs one fails."""
    rows = [
        {"question": f"Write double {i}.", "answer": f"def double(x):\n    return {i} * x"}
        for i in range(300)
    ]
    path = tmp_path / "programs.jsonl"
    path.write_text("".join(json.dumps(row | {"tests": TESTS}) + "\n" for row in rows))
    fields = f"path={str(path)!r}, reference=tests, grader=code, format={{'kind': 'fenced'}}"
    task = f"dataset({fields})"

    def refused(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(code, "Sandbox", refused)
    monkeypatch.setattr(code, "isolation", refused)
    block = SimpleNamespace(tasks=[task])
    measure = SimpleNamespace(selection_items=5, items=5)
    study = SimpleNamespace(blocks=[block], measure=measure)
    return SimpleNamespace(home=tmp_path, study=study, task=task)


def grades(run, outcome, text=RIGHT):
    """The grades of one exam in which each question has this answer."""
    items = regrade.questions(run.task, "report", run.study.measure)
    rows = [
        (run.task, "report", name, item.prompt.text, item.cluster, text, True)
        for name, item in items.items()
    ]
    final = regrade.build_task(run.task).final(text)
    columns = [*map(list, zip(*rows, strict=True)), [final] * len(rows), [outcome] * len(rows)]
    table = pa.table(dict(zip(regrade.COLUMNS, columns, strict=True)))
    pq.write_table(table, run.home / "grades.parquet")


@pytest.mark.parametrize(
    ("outcome", "text", "word"),
    [
        ("right", RIGHT, "INCONCLUSIVE"),
        ("wrong", RIGHT, "INCONCLUSIVE"),
        ("unparsed", RIGHT, "FAIL"),
        ("right", "no code", "FAIL"),
        ("effective", RIGHT, "FAIL"),
    ],
)
def test_code_that_was_answered_is_not_run(programs, outcome, text, word):
    grades(programs, outcome, text)
    checked = exams._graded(programs)
    assert checked.word == word
    assert ("run it again" in checked.got) == (word == "INCONCLUSIVE")


def test_a_strangers_plan_starts_no_process(programs):
    study = schema.load("quickstart", last(*STUDY, *LONG, f"task={programs.task}"))
    planned = planning.make(study, opens=False)
    assert not planned.facts and not any("code" in note for note in planned.notes)
    with pytest.raises(AssertionError, match="a process was started"):
        planning.make(study)


def test_mathematics_is_read_and_not_evaluated(tmp_path):
    pytest.importorskip("math_verify", reason="math-verify is not installed")
    call = f"open({str(tmp_path / 'ran')!r}, 'w')"
    for text in (call, f"1 + {call}", rf"$\text{{{call}}}$", rf"\boxed{{{call}}}"):
        Mathematics().read(text)
    assert not (tmp_path / "ran").exists()


# What is printed.

PAINT = "x\x1b[2J\x1b[H\nPASS: 40 PASS, 0 FAIL, 0 INCONCLUSIVE"


@pytest.mark.parametrize("name", ["manifest.json", "config.json"])
def test_a_name_cannot_paint_over_a_fail(home, capsys, name):
    field = {"manifest.json": "study", "config.json": "name"}[name]
    edit(home, name, lambda content: content | {field: PAINT})
    reseal(home)
    assert cli.main(["verify", str(home)]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\nPASS" not in out
    assert f"{name}: {field}: must match" in " ".join(out.split())


def test_whatever_is_said_of_a_run_is_one_plain_line(home, capsys, monkeypatch):
    monkeypatch.setattr(reviews.checks, "about", lambda home: PAINT)
    monkeypatch.setattr(reviews.checks, "shows", lambda *_: PAINT)
    cli.main(["verify", str(home)])
    out = capsys.readouterr().out
    assert "\x1b" not in out and out.count("\nPASS: 40") == 0 and out.count("\\x1b[2J") == 2


def test_no_name_of_a_setting_or_a_file_paints(home, small, tmp_path, capsys):
    edit(home, "config.json", lambda content: content | {PAINT: 1})
    assert cli.main(["diff", str(home), str(small / "quickstart")]) == 0
    target = tmp_path / "a\x1b[2Jb\nPASS.zip"
    assert cli.main(["export", str(small / "quickstart"), "--to", str(target)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\nPASS" not in out


# What lies outside.


def test_an_archive_has_no_store_beside_it(small, tmp_path, capsys, monkeypatch):
    """Neither where the archive lies nor where it is unpacked."""
    for folder in (tmp_path / "exports", tmp_path / "temporary"):
        shutil.copytree(small / "store", folder / "store")
        (next((folder / "store" / "student").glob("[!.]*/")) / "losses.json").write_text("[]")
    archive.pack(small / "quickstart", tmp_path / "exports" / "run.zip")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert cli.main(["verify", str(tmp_path / "exports" / "run.zip")]) == 0
    assert "every artifact" not in capsys.readouterr().out


def linked(place, target):
    def made(runs):
        path = next((runs / "store" / "student").glob("[!.]*/"))
        path = path / place if place else path
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.symlink_to(target)
        return path

    return made


LINKS = {
    "a result": linked("", "/"),
    "a folder in it": linked("more", "/"),
    "a file that has no end": linked("more.json", "/dev/zero"),
    "its record": linked("done.json", "/dev/zero"),
    "a file of it": linked("model.safetensors", "/proc/self/mem"),
}


@pytest.mark.parametrize("name", LINKS)
def test_no_link_of_a_store_is_followed(small, tmp_path, monkeypatch, name):
    runs = tmp_path / "runs"
    shutil.copytree(small / "quickstart", runs / "quickstart")
    shutil.copytree(small / "store", runs / "store")
    link, listed = LINKS[name](runs), []
    scandir = os.scandir
    monkeypatch.setattr("os.scandir", lambda path=".": listed.append(f"{path}/") or scandir(path))
    outcome = fuzz.command("verify", str(runs / "quickstart"), codes=(1,))
    assert not outcome.fault and "student/" in outcome.out
    assert not [path for path in listed if path.startswith(f"{link}/") or path == "//"]


def test_a_result_that_is_a_link_is_not_opened(small, tmp_path):
    from experiments.store import Store

    shutil.copytree(small / "store", tmp_path / "store")
    folder = next((tmp_path / "store" / "student").glob("[!.]*/"))
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="is a link"):
        Store(tmp_path / "store").open("student", folder.name)


# What a few bytes unpack to.


def constant(column, count):
    """A column whose rows all say what its first says."""
    value = column[0]
    return (
        pc.fill_null(pa.nulls(count, value.type), value)
        if value.is_valid
        else pa.nulls(count, value.type)
    )


def test_rows_that_say_the_same_are_counted_before_they_are_read(home, capsys, monkeypatch):
    path, many = home / "grades.parquet", form.MOST_ROWS + 1
    table = pq.read_table(path)
    columns = {name: constant(table[name], many) for name in table.column_names}
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 2**20
    monkeypatch.setattr(form, "_check_values", None)  # which must not be reached
    reseal(home)
    assert cli.main(["verify", str(home)]) == 1
    assert f"has {many} rows" in " ".join(capsys.readouterr().out.split())


def test_the_largest_study_that_is_shipped_has_room():
    assert form.MOST_ROWS > 4 * 501_150


def directory(path, count):
    """An archive with so many names of nothing in its directory."""
    with zipfile.ZipFile(path, "w") as made:
        for number in range(count):
            made.writestr(f"{number}", b"")


def ending(**fields):
    """An archive whose end says otherwise than its directory."""

    def made(path, files):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as export:
            for name, data in files.items():
                export.writestr(name, data)
        data = path.read_bytes()
        end = archive.END.unpack(data[-archive.END.size :])
        names = ("mark", "disk", "first", "here", "total", "length", "place", "remark")
        end = dict(zip(names, end, strict=True)) | fields
        path.write_bytes(data[: -archive.END.size] + archive.END.pack(*end.values()))

    return made


ENDS = {
    "a million names": lambda path, files: directory(path, 65_000),
    "more names than an export has": lambda path, files: directory(path, 40),
    "a long directory": ending(length=2**31),
    "many entries": ending(total=2**16 - 1),
    "many entries here": ending(here=2**16 - 1),
    "a remark that is not there": ending(remark=7),
    "64 bits": lambda path, files: path.write_bytes(
        b"PK\x06\x07" + bytes(16) + struct.pack("<4s4H2LH", b"PK\x05\x06", *[0] * 7)
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_directory_is_measured_before_it_is_read(home, tmp_path, capsys, monkeypatch, name):
    path = tmp_path / "run.zip"
    ENDS[name](path, {one.name: one.read_bytes() for one in home.iterdir()})
    monkeypatch.setattr(archive.zipfile, "ZipFile", None)  # which must not be reached
    assert cli.main(["verify", str(path)]) == 2
    error = capsys.readouterr().err
    most = len(archive.ALLOWED)
    assert error.count("\n") == 1 and f"at most {most} and 16384" in error
