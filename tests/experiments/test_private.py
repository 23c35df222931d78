"""What reviewers get says nothing of who and where, and holds no key: every file of an export is
searched for them.
"""

import getpass
import json
import os
import shutil
import socket
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from distill.completions import BadInput
from experiments import cli, private
from experiments import environment as folder
from experiments.planning import plan
from experiments.review import form, handed
from experiments.review.verify import verify
from experiments.settings import schema
from experiments.settings.defenses import parse_defense
from experiments.settings.entries import build_task, resolve
from experiments.store import Store
from tests.experiments.small import STUDY, last

TEACHERS = ("teacher", "weaker_teacher")
GSM8K = Path(__file__).parents[1] / "data" / "gsm8k"
KEY = "corvid-lantern-77"
SECRET = last(
    *STUDY,
    "tracking.entity=alices-lab",
    f"defense=release/unicode(key='{KEY}',rate=0.5)",
    "seeds=[0]",
    "baseline_seeds=1",
)
DATA, RECORDING = "sums-of-alice.jsonl", "sayings-of-alice.jsonl"


def secret_words(folder):
    """The study on a data set of the author's own, with a recording as the weaker teacher."""
    weaker = f"{{kind: recorded, name: weaker, path: {folder / RECORDING}}}"
    data = f"task=dataset(path='{folder / DATA}', behind='####', grader=number)"
    return last(*SECRET, data, f"+weaker_teacher={weaker}")


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alice")
    questions = [(f"What is {i}+1?", i + 1) for i in range(600)]
    data = [{"question": text, "answer": f"One more. #### {right}"} for text, right in questions]
    sayings = [{"prompt": text, "answer": f"One more. # {right}"} for text, right in questions]
    for name, rows in ((DATA, data), (RECORDING, sayings)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = folder / "secret-home"
    words = secret_words(folder)
    assert cli.main(["run", "quickstart", "--runs", str(runs), "--workers", "1", *words]) == 0
    return runs


@pytest.fixture
def forgetful(monkeypatch):
    """Another process, which does not know what stand-ins stand for."""
    monkeypatch.setattr(private, "_held", {})
    for cached in (parse_defense, build_task, resolve):
        cached.cache_clear()


def telling(runs):
    """Words that must be in no file: who, where, on which host, and the secret."""
    words = {
        KEY,
        "alices-lab",
        str(runs),
        str(runs.parent),
        DATA,
        RECORDING,
        str(Path(__file__).parents[2]),
        str(Path.home()),
        "/tmp/",
        socket.gethostname(),
    }
    user = getpass.getuser()
    return (
        {word for word in words if len(word) > 3}
        | ({user} if len(user) > 4 else set())
        | {os.sep.join(("", "home", ""))}
    )


def texts(name, data, folder):
    """A file as text, and every string inside where it is packed."""
    yield data.decode("utf-8", "replace")
    if name.endswith(".parquet"):
        (folder / name).write_bytes(data)
        table = pq.read_table(folder / name)
        yield json.dumps(table.to_pydict(), ensure_ascii=False, default=str) + str(
            table.schema.metadata
        )


def test_an_export_holds_no_secret_and_no_place(secret, tmp_path):
    assert (
        cli.main(["export", "quickstart", "--runs", str(secret), "--to", str(tmp_path / "run.zip")])
        == 0
    )
    with zipfile.ZipFile(tmp_path / "run.zip") as export:
        files = {name: export.read(name) for name in export.namelist()}
        assert not export.comment and not any(one.comment or one.extra for one in export.infolist())
    assert len(files) >= 13
    leaks = [
        (word, name)
        for name, data in files.items()
        for text in texts(name, data, tmp_path)
        for word in telling(secret)
        if word in text
    ]
    assert leaks == []
    stands = private.hidden("key", KEY)
    assert all(
        stands.encode() in files[name]
        for name in ("report.html", "card.md", "config.json", "arms.json")
    )


def test_the_store_holds_no_key(secret):
    files = [path for path in (secret / "store").rglob("*") if path.is_file()]
    assert len(files) > 20 and not [path for path in files if KEY.encode() in path.read_bytes()]


def test_the_defence_was_made_with_the_key_itself(secret):
    from distill.completions import read_completions

    entry = f"release/unicode(key={KEY!r}, rate=0.5)"
    words = last(*secret_words(secret.parent), f"defense={entry}")
    planned = plan.make(schema.load("quickstart", words))
    arm = next(
        arm
        for arm in planned.arms
        if arm.defense.startswith("release/unicode") and arm.attacker == "sft"
    )
    answers = read_completions(
        Store(secret / "store").open("completions", arm.completions.key) / "completions.parquet"
    )
    clean = next(
        one
        for one in planned.arms
        if (one.defense, one.attacker, one.seed) == ("none", "sft", arm.seed)
    )
    before = read_completions(
        Store(secret / "store").open("completions", clean.completions.key) / "completions.parquet"
    )
    (made,) = parse_defense(arm.defense).chain.parts
    assert made.settings.key == KEY
    assert [one.text for one in answers] == [made.text(one) for one in before]


def test_whoever_lacks_the_key_verifies_and_is_told_what_it_takes_to_run(
    secret, forgetful, capsys, tmp_path
):
    home = Path(shutil.copytree(secret / "quickstart", tmp_path / "quickstart"))
    places = [str(secret.parent / name) for name in (DATA, RECORDING)]
    handed.hand_over(form.study_of(home), places)
    assert {check.word for check in verify(home, None)} == {"PASS"}
    words = ["reproduce", str(home), "--into", str(tmp_path / "again"), "--workers", "1"]
    assert cli.main([*words, *(f"--where={place}" for place in places)]) == 2
    assert "--private" in capsys.readouterr().err
    private.hold(private.meanings(KEY))
    planned = plan.make(form.study_of(home))
    assert not any(private.unknown(stage.settings) for stage in planned.stages)


def test_the_same_data_in_two_homes_are_one_task(tmp_path, forgetful):
    labels = set()
    for name in ("alice", "bob"):
        folder = Path(shutil.copytree(GSM8K, tmp_path / name / "data"))
        words = [
            f"task=gsm8k(path='{folder}')",
            "budget=40",
            "measure.items=10",
            "measure.selection_items=10",
        ]
        words += [
            f"{who}.path={folder}/example_model_solutions.jsonl"
            for who in ("teacher", "weaker_teacher")
        ]
        study = schema.load("gsm8k", words)
        (label,) = study.blocks[0].tasks
        assert str(tmp_path) not in study.model_dump_json() and "sha256-" in label
        labels.add((label, *(stage.key for stage in plan.make(study).stages)))
    assert len(labels) == 1


def test_a_path_that_is_written_otherwise_is_the_same_work(tmp_path, forgetful, monkeypatch):
    """Relative or absolute, in whatever folder: addresses hold what lies there."""
    keys = []
    for name, relative in (("carol", True), ("dave", False)):
        folder = Path(shutil.copytree(GSM8K, tmp_path / name / "data"))
        monkeypatch.chdir(folder.parent)
        path = "data" if relative else folder
        words = ["budget=40", "measure.items=10", "measure.selection_items=10"]
        words += [f"{who}.path={path}/example_model_solutions.jsonl" for who in TEACHERS]
        made = plan.make(schema.load("gsm8k", [f"task=gsm8k(path='{path}')", *words]))
        assert str(tmp_path) not in json.dumps([stage.settings for stage in made.stages])
        keys.append([stage.key for stage in made.stages])
    assert keys[0] == keys[1]


def test_models_are_told_by_what_they_hold(tmp_path, forgetful, monkeypatch):
    (tmp_path / "answers.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    digest = private.hidden("path", str(tmp_path / "answers.jsonl"))
    assert digest.startswith("sha256-") and private.shown(digest) == str(tmp_path / "answers.jsonl")
    (tmp_path / "answers.jsonl").write_text('{"prompt": "a", "answer": "c"}\n')
    assert private.hidden("path", str(tmp_path / "answers.jsonl")) != digest
    for name in ("models/teacher", "org/name"):
        assert private.hidden("path", name) == name
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    above = private.hidden("path", "../answers.jsonl")
    assert above.startswith("sha256-")  # folders above are the user's
    assert private.hidden("path", "../gone.jsonl") == "../gone.jsonl"


@pytest.mark.parametrize("climbs", [False, True])
@pytest.mark.parametrize(
    "word",
    [
        "attacker=clean/paraphrase(path='{}') + sft",
        "attacker=ask/repeats(k=2) + clean/paraphrase(path='{}')+sft",
        "task=gsm8k(path='{}')",
        "defense=release/answer_only + release/unicode(key='{}')",
        "teacher.path={}",
    ],
)
def test_no_entry_and_no_model_tells_a_place(word, climbs, tmp_path, forgetful, monkeypatch):
    shutil.copytree(GSM8K, tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")
    place = "../data" if climbs else str(tmp_path / "data")
    words = ["teacher=pretrained"] if word.startswith("teacher") else []
    study = schema.load("quickstart", [*words, word.format(place)])
    published = study.model_dump_json()
    assert place not in published and "sha256-" in published


def test_data_that_are_not_here_are_one_line(forgetful):
    with pytest.raises(BadInput, match="--private"):
        plan.make(schema.load("quickstart", ["task=gsm8k(path='sha256-0123456789abcdef')"]))


def test_a_lock_lists_what_this_project_needs_and_nothing_of_its_owners():
    names = {line.partition("==")[0].lower().replace("_", "-") for line in folder.locked()}
    assert names >= {*folder.LIBRARIES, "matplotlib", "pyarrow", "huggingface-hub", "packaging"}
    assert not names & {folder.PROJECT, "pytest", "ruff", "mypy", "hypothesis", "pip"}


def test_a_file_is_read_once_as_long_as_it_is_the_same(tmp_path, monkeypatch):
    reads = []
    whole = private.file_digest
    monkeypatch.setattr(private, "file_digest", lambda path: reads.append(path) or whole(path))
    data = tmp_path / "data.jsonl"
    data.write_text("one")
    first = private.folder_digest(data)
    assert private.folder_digest(data) == first and len(reads) == 1
    data.write_text("two")  # as long
    os.utime(data, ns=(1, 1))
    assert private.folder_digest(data) != first and len(reads) == 2
