"""A run on people's own data and models: its author verifies it where it is, others wherever they
are, with the data or without.
"""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from distill.completions import BadInput
from distill.embedded import byte_pair_tokenizer, llama
from distill.folders import save
from distill.models import LanguageModel
from experiments import cli, private
from experiments.planning import opened, plan, questions
from experiments.results import archive
from experiments.review import form, handed, recomputed
from experiments.settings import schema
from experiments.settings.attacks import parse_attack
from experiments.settings.defenses import parse_defense
from experiments.settings.entries import build_task, resolve
from experiments.settings.schema import Study
from experiments.settings.veil import stand_ins
from experiments.tasks import Task
from experiments.tasks.graders import Grader
from tests.experiments.small import STUDY, last

SMALL = last(*STUDY, "seeds=[0]", "baseline_seeds=1", "measure.items=20")


def without(*prefixes):
    return [word for word in SMALL if not word.startswith(prefixes)]


def rows(path, some):
    path.write_text("".join(json.dumps(row) + "\n" for row in some))


def sums(folder):
    """A data set by its path in the working folder."""
    rows(
        folder / "sums.jsonl",
        [{"question": f"What is {i}+1?", "answer": i + 1} for i in range(600)],
    )
    return [*without("task"), "task=dataset(path='sums.jsonl', grader=number)"]


def recording(folder):
    """A recorded teacher and a defence that changes some of its answers; worked solutions, all."""
    study = schema.load("quickstart", SMALL)
    block, (task,) = study.blocks[0], study.blocks[0].tasks
    (prompts,) = questions.asked_prompts(study, task, block).values()
    answers = [("long and long # 1", "# 1")[i % 2] for i in range(len(prompts))]
    pairs = zip(prompts, answers, strict=True)
    rows(folder / "answers.jsonl", [{"prompt": a.text, "answer": b} for a, b in pairs])
    teacher = ["teacher=recorded", "teacher.path=answers.jsonl"]
    return [*without("teacher", "defense"), *teacher, "defense=release/truncate"]


def model(folder):
    """A model in a folder as the student, which cuts some worked solutions."""
    tokenizer = byte_pair_tokenizer(["12+34=6 # 46"], 300)
    network = llama(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_length=128, seed=3)
    save(LanguageModel(network, tokenizer), folder / "tiny")
    sizes = ["steps=1", "batch_size=4", "max_length=64", "max_new_tokens=25"]
    student = [f"student.{size}" for size in sizes]
    return [*without("student"), "student=pretrained", "student.path=tiny", *student]


WORDS = ("PASS", "FAIL", "INCONCLUSIVE")
OWN = {"sums.jsonl": sums, "answers.jsonl": recording, "tiny": model}


def forget(monkeypatch):
    """As another process, which knows no stand-in."""
    monkeypatch.setattr(private, "_held", {})
    for cached in (parse_attack, parse_defense, build_task, resolve):
        cached.cache_clear()


@pytest.fixture(scope="module", params=OWN)
def run(request, tmp_path_factory):
    """A study of one's own: the working folder, what of it the study is made of, and its words."""
    place = tmp_path_factory.mktemp("author")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        words = OWN[request.param](place)
        assert cli.main(["run", "quickstart", "--workers", "1", *words]) == 0
    return place, request.param, words


@pytest.fixture
def export(run, tmp_path, monkeypatch):
    """Its export, which somebody else has in a working folder of theirs."""
    place, _, _ = run
    monkeypatch.chdir(place)
    forget(monkeypatch)
    assert cli.main(["export", "quickstart", "--to", str(tmp_path / "run.zip")]) == 0
    monkeypatch.chdir(tmp_path)
    forget(monkeypatch)
    return tmp_path / "run.zip"


def checked(capsys, *words):
    """The exit code of verify, and the claims by their word."""
    capsys.readouterr()
    code = cli.main(["verify", *words])
    lines = capsys.readouterr().out.splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line.split(maxsplit=1)[1:]]
    claims = {name: [text for word, text in pairs if word == name] for name in WORDS}
    return code, claims


def test_its_author_verifies_it_in_place(run, monkeypatch, capsys):
    place, _, _ = run
    monkeypatch.chdir(place)
    forget(monkeypatch)
    code, claims = checked(capsys, "quickstart")
    assert code == 0 and not claims["FAIL"] and not claims["INCONCLUSIVE"], claims
    assert any(text.startswith("report.html follows from the run") for text in claims["PASS"])


def test_its_report_holds_what_others_can_know(run, monkeypatch):
    """What a recording or a tokenizer leads to is told before the study runs."""
    place, name, words = run
    monkeypatch.chdir(place)
    made = plan.make(schema.load("quickstart", words))
    telling = {"answers.jsonl": "changes 22 of 44 answers", "tiny": "max_new_tokens: 25 tokens cut"}
    word = telling.get(name, "")
    assert any(word in fact for fact in made.facts) == bool(word)
    assert not any(word in note for note in made.notes if word)


def test_its_export_is_verified_elsewhere(run, export, capsys):
    """A data set is needed to plan; what can be computed without it is. Of a recording and of a
    model nothing is.
    """
    _, name, _ = run
    with zipfile.ZipFile(export) as files:
        assert not [one for one in files.namelist() if name.encode() in files.read(one)]
    code, claims = checked(capsys, "run.zip")
    assert code == 0 and not claims["FAIL"]
    passed, left = claims["PASS"], claims["INCONCLUSIVE"]
    whole = name != "sums.jsonl"
    assert bool(left) != whole
    claim = "report.html follows" + (" from the run" if whole else ", but for its notes")
    for text in (claim, "card.md is card.json", "every aggregate follows"):
        assert any(line.startswith(text) for line in passed), (text, claims)


def test_whoever_has_the_data_says_where(run, export, capsys, monkeypatch):
    place, name, _ = run
    moved = Path(shutil.copytree(place, "all"), name).rename(f"moved-{name}")
    (sought,) = stand_ins_of(export)
    for words in (f"--where={moved}", f"--where={sought.owner}={moved}", f"--private={moved}"):
        forget(monkeypatch)
        code, claims = checked(capsys, "run.zip", words)
        assert code == 0 and not claims["FAIL"] and not claims["INCONCLUSIVE"], claims
    other = (place / "runs" / "quickstart" / "config.json") if moved.is_file() else place / "runs"
    for words in (f"{other}", f"{sought.digest}={other}", f"{sought}=nowhere"):
        assert cli.main(["verify", "run.zip", "--where", words]) == 2
        err = capsys.readouterr().err
        assert sought.digest in err and err.count("\n") == 1
    forget(monkeypatch)
    assert cli.main(["reproduce", "run.zip", "--into", "again"]) == 2
    err = capsys.readouterr().err
    assert f"--where {sought.digest}=PATH" in err and err.count("\n") == 1


def stand_ins_of(export):
    with archive.open_run(export) as home:
        return {*stand_ins(form.study_of(home))}


def test_the_notes_of_a_store_are_of_that_store_alone(tmp_path, monkeypatch):
    """Copied with a stranger's run they lead nowhere, nor where what lies there is another."""
    (tmp_path / "data").write_text("1")
    stand_in, store = private.hidden("path", str(tmp_path / "data")), tmp_path / "store"
    private.note_places(store, [stand_in])
    shutil.copytree(store, tmp_path / "copy")
    followed = []
    for folder, content in (("store", "1"), ("copy", "1"), ("store", "2"), ("gone", "1")):
        (tmp_path / "data").write_text(content)
        monkeypatch.setattr(private, "_held", {})
        private.recall_places(tmp_path / folder, [stand_in, "sha256-../../data"])
        followed.append(private.shown(stand_in) != stand_in)
    assert followed == [True, False, False, False]


@pytest.mark.parametrize(
    ("notes", "word"),
    [
        (b"", "PASS"),
        (b"<ul><li>a &lt; b</li><li>c</li></ul>", "PASS"),
        (b"<ul><li><b>c</b></li></ul>", "FAIL"),
        (b"<p>PASS</p>", "FAIL"),
        (b"<ul></ul>", "FAIL"),
    ],
)
def test_notes_that_nobody_knows_are_words(notes, word):
    expected = b"<h1>a</h1>" + recomputed.ANY_NOTES + b"<p>b</p>"
    check = recomputed._page("report.html", expected, b"<h1>a</h1>" + notes + b"<p>b</p>")
    assert check.word == word and recomputed._page("x", expected, notes).word == "FAIL"


def test_a_key_is_handed_over_as_well(monkeypatch):
    study = schema.load("quickstart", ["defense=release/unicode(key='a=b')"])
    (key,) = {*stand_ins(study)}
    assert (key.owner, key.setting) == ("release/unicode", "key")
    forget(monkeypatch)
    with pytest.raises(BadInput, match=f"no key of this study; sought is {key.digest} ") as error:
        handed.hand_over(study, ["a=c"])
    assert "a=c" not in str(error.value)
    handed.hand_over(study, ["a=b"])
    assert private.shown(key.digest) == "a=b"


def test_a_server_is_told_by_its_model(monkeypatch):
    teacher = ["teacher=served", "teacher.model=owner/model", "teacher.url=http://127.0.0.1:1/v1"]
    study = schema.load("quickstart", [*without("teacher"), *teacher])
    forget(monkeypatch)
    handed.hand_over(study, ["owner/model=http://127.0.0.1:2/v1"])
    assert "127.0.0.1:2" in private.shown(study.teacher.url)
    with pytest.raises(BadInput, match=r"sought is sha256-.* \(teacher.url\)"):
        handed.hand_over(study, ["owner/another=http://127.0.0.1:2/v1"])


def test_a_note_is_the_same_without_the_key():
    """A key decides what a defence changes, and others lack it."""
    rare = "defense=release/unicode(key='lantern', rate=0.02)"
    made = plan.make(schema.load("quickstart", [rare, "task=addition"]))
    assert any("release/unicode changes" in fact for fact in made.facts)
    assert plan.make(made.study, opens=False).notes == made.notes


def test_what_depends_on_the_machine_is_no_note(monkeypatch):
    monkeypatch.setattr(Grader, "note", lambda self: "of this machine")
    monkeypatch.setattr(Task, "facts", ("of this package",))
    made = plan.make(schema.load("quickstart", SMALL))
    assert made.facts == ["of this package", "of this machine"]
    assert not any("of this" in note for note in made.notes)


def test_a_name_on_the_hub_is_published_at_its_commit(monkeypatch):
    commit = "0123456789" * 4
    monkeypatch.setattr(opened, "_commit", lambda name, revision: commit)
    teacher = ["teacher=pretrained", "teacher.path=owner/name"]
    made = plan.make(schema.load("quickstart", [*without("teacher"), *teacher]))
    assert made.study.teacher.revision == commit
    again = plan.make(Study.model_validate_json(made.study.model_dump_json()), opens=False)
    assert [stage.key for stage in again.stages] == [stage.key for stage in made.stages]
