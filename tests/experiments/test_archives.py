"""Archives are hostile: each is one line or a FAIL, and nothing is run, loaded, fetched or written
elsewhere.
"""

import json
import os
import resource
import shutil
import stat
import subprocess
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import cli
from experiments.results import archive
from experiments.settings.models import Pretrained
from tests.experiments.forger import edit, load, reseal


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """The files of an honest export, by name."""
    path = tmp_path_factory.mktemp("whole") / "run.zip"
    archive.pack(small / "quickstart", path)
    with zipfile.ZipFile(path) as export:
        return {name: export.read(name) for name in export.namelist()}


def packed(path, files, how=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", how) as made:
        for name, data in files.items() if isinstance(files, dict) else files:
            made.writestr(name, data)
    return path


def named(name, mode=0, data=b"x"):
    """An archive with one file more, of a name and a mode."""
    info = zipfile.ZipInfo("renamed below")
    info.filename, info.external_attr = name, mode << 16
    return lambda path, files: packed(path, [*files.items(), (info, data)])


def patched(old, new, every=False):
    """An archive whose bytes are changed after it was made."""

    def made(path, files):
        data = packed(path, files).read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, -1 if every else 1))

    return made


def marked(offset, value):
    """A field of every header is changed: of local ones at `offset`, of central ones two bytes
    behind.
    """

    def made(path, files):
        data = bytearray(packed(path, files).read_bytes())
        for mark, more in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
            at = data.find(mark)
            while at >= 0:
                data[at + offset + more : at + offset + more + 2] = value.to_bytes(2, "little")
                at = data.find(mark, at + 4)
        path.write_bytes(data)

    return made


def cut(size):
    return lambda path, files: path.write_bytes(packed(path, files).read_bytes()[:size])


def without(name):
    return lambda path, files: packed(
        path, {one: data for one, data in files.items() if one != name}
    )


def holding(name, data):
    return lambda path, files: packed(path, files | {name: data})


def flipped(path, files):
    data = bytearray(packed(path, files).read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def twice(path, files):
    packed(path, [*files.items(), ("card.md", b"another")])


def among(place, more):
    """Bytes among those of a whole archive, whose directory still leads to its files."""

    def made(path, files):
        data = packed(path, files).read_bytes()
        if place == "first":
            return path.write_bytes(more + data)
        with zipfile.ZipFile(path) as opened:
            at = opened.start_dir
        end = len(data) - 22  # of the directory; what follows says where that begins
        moved = (at + len(more)).to_bytes(4, "little")
        path.write_bytes(data[:at] + more + data[at : end + 16] + moved + data[end + 20 :])

    return made


def remarked(**changes):
    """An archive of which one file, or the whole, says more than its name."""

    def made(path, files):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                entry = zipfile.ZipInfo(name)
                for field, value in changes.items():
                    setattr(archive if field == "whole" else entry, field, value)
                archive.writestr(entry, data)
            archive.comment = changes.get("whole", b"")

    return made


def in_front(offset, value):
    """A field of the first file's own header says otherwise than the directory; some programs go by
    the one, some by the other.
    """

    def made(path, files):
        data = bytearray(packed(path, files).read_bytes())
        data[offset : offset + 2] = value.to_bytes(2, "little")
        path.write_bytes(data)

    return made


def behind_an_end(path, files):
    """Bytes behind the end of a file's packed contents, which count as packed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            with archive.open(name, "w") as member:
                packing = member._compressor
                more = b"effective" * (name == "card.md")
                member._compressor = SimpleNamespace(
                    compress=packing.compress,
                    flush=lambda packing=packing, more=more: packing.flush() + more,
                )
                member.write(data)


HIDDEN = b"PK\x03\x04" + bytes(22) + b"\x08\0\0\0card.txt"
REFUSED = {
    "a page before it": among("first", b"<h1>All defences are effective</h1>"),
    "a file that its directory leaves out": among("behind", HIDDEN),
    "a name beside the name": remarked(extra=b"up\x0b\0\x01\0\0\0\0x.html"),
    "another packing in front": in_front(8, 0),
    "another time in front": in_front(10, 1),
    "another size in front": in_front(22, 1),
    "words behind an end": behind_an_end,
    "a remark on a file": remarked(comment=b"effective"),
    "a remark on all": remarked(whole=b"effective"),
    "empty": lambda path, files: path.write_bytes(b""),
    "text": lambda path, files: path.write_text("hello"),
    "a tar": lambda path, files: path.write_bytes(b"\0" * 257 + b"ustar" + b"\0" * 250),
    "a header": cut(20),
    "cut in half": cut(5000),
    "cut at its end": cut(-30),
    "cut by a byte": cut(-1),
    "flipped": flipped,
    "up": named("../outside"),
    "up twice": named("../../outside"),
    "absolute": named("/tmp/outside"),
    "below": named("a/b"),
    "the parent": named(".."),
    "itself": named("."),
    "no name": named(""),
    "a folder": named("wandb/"),
    "backslashes": named("..\\outside"),
    "a drive": named("C:card.md"),
    "a hidden one": named(".bashrc"),
    "a stranger": named("appendix.html"),
    "code": named("setup.py"),
    "capitals": named("CARD.MD"),
    "markup": named("[b]card.md[/b]"),
    "a line break": named("card\n.md"),
    "twice": twice,
    "a link": named("campaigns.svg", stat.S_IFLNK | 0o777, b"/etc/passwd"),
    "a device": named("campaigns.svg", stat.S_IFCHR),
    "a pipe": named("campaigns.svg", stat.S_IFIFO),
    "encrypted": marked(6, 1),
    "unknown packing": marked(8, 99),
    "a later version": marked(4, 99),
    "bzip2": lambda path, files: packed(path, files, zipfile.ZIP_BZIP2),
    "lzma": lambda path, files: packed(path, files, zipfile.ZIP_LZMA),
    "a bomb": holding("report.html", bytes(200 * 2**20)),
    "no manifest": without("manifest.json"),
    "no grades": without("grades.parquet"),
    "no card": without("card.md"),
}


@pytest.fixture
def nothing_else(monkeypatch):
    """No model, tokenizer, hub, code or process while a stranger's run is opened."""
    import transformers

    def refused(*_, **__):
        raise AssertionError("a stranger's run made something load")

    for name in ("AutoModelForCausalLM", "AutoTokenizer", "AutoConfig"):
        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", refused)
    monkeypatch.setattr(subprocess, "Popen", refused)


def called(capsys, *words):
    began = time.process_time()
    code = cli.main([*words])
    out = capsys.readouterr()
    assert time.process_time() - began < 20 and "Traceback" not in out.err + out.out
    return code, out


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_archive_is_one_line(whole, tmp_path, capsys, monkeypatch, nothing_else, name):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    path = tmp_path / "run.zip"
    REFUSED[name](path, whole)
    for words in (["verify", str(path)], ["diff", str(path), str(path)]):
        code, out = called(capsys, *words)
        assert code == 2 and out.err.count("\n") == 1 and not out.out, out
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["run.zip", "temporary"], (
        "nothing is left behind"
    )


def test_a_size_that_lies_is_cut_off(whole, tmp_path, capsys):
    """The header says that the report is small; what it unpacks to is not read beyond that."""
    path = packed(tmp_path / "run.zip", whole | {"report.html": bytes(2**20)})
    path.write_bytes(
        path.read_bytes().replace((2**20).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    )
    code, out = called(capsys, "verify", str(path))
    assert code == 2 and "not a whole archive" in out.err


# Archives that are whole, and hostile in what they say.


def model_at(path):
    def named(home):
        fields = {
            "kind": "pretrained",
            "name": "x",
            "path": path,
            "temperature": 0.0,
            "top_p": 1.0,
            "batch_size": 4,
        }
        pretrained = Pretrained.model_validate(fields | {"max_new_tokens": 8})
        edit(
            home,
            "config.json",
            lambda study: study | {"teacher": pretrained.model_dump(mode="json")},
        )
        reseal(home)

    return named


def study(**changes):
    def changed(home):
        edit(home, "config.json", lambda held: held | changes)
        reseal(home)

    return changed


def task(entry):
    def changed(home):
        edit(home, "config.json", lambda held: held["blocks"][0].update(tasks=[entry]))
        reseal(home)

    return changed


def text(name, data):
    return lambda home: (home / name).write_bytes(data)


def stage(**changes):
    return lambda home: edit(home, "manifest.json", lambda held: held["stages"][0].update(changes))


def repeated(home):
    """A small file of grades, in which one long text stands so often that all of it
    is gigabytes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    grades = pq.read_table(home / "grades.parquet").take([0] * 40_000)
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 40_000, pa.int32()), ["x" * 2**16])
    grades = grades.set_column(grades.schema.get_field_index("text"), "text", long)
    pq.write_table(grades, home / "grades.parquet", store_schema=False)
    assert (home / "grades.parquet").stat().st_size < 2**20


DEEP = b"[" * 100_000
BOMB = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n".encode()
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
FAILING = {
    "manifest of nothing": text("manifest.json", b"{}"),
    "manifest of a list": text("manifest.json", b"[]"),
    "manifest of no text": text("manifest.json", b"\xff\xfe"),
    "deep manifest": text("manifest.json", DEEP),
    "deep arms": text("arms.json", DEEP),
    "deep card": text("card.json", b'{"a":' * 50_000),
    "no number": text("measures.json", b'{"rows": [NaN]}'),
    "a long number": text("measures.json", b"9" * 5000),
    "yaml bomb": text("analysis.yaml", BOMB),
    "yaml tag": text("analysis.yaml", b"!!python/object:os.system {}"),
    "deep yaml": text("analysis.yaml", DEEP),
    "no parquet": text("grades.parquet", b"PAR1"),
    "text without end": repeated,
    "any file": lambda home: edit(
        home, "manifest.json", lambda held: held["files"].update({"/etc/passwd": "0" * 64})
    ),
    "a path as key": stage(key="../../../../etc"),
    "a path as kind": stage(kind="../../etc"),
    "a path as file": stage(files={"../../../etc/passwd": "0" * 64}),
    "everything hashed": model_at("/"),
    "a folder hashed": model_at("/usr/share"),
    "a hub name": model_at("gpt2"),
    "a user's folder": model_at("~"),
    "a device": model_at("/dev/zero"),
    "data of its own": task("gsm8k(path='/etc')"),
    "clusters of its own": task("gsm8k(clusters='/etc/passwd')"),
    "code as a task": task("os.system"),
    "a long entry": task("addition(" + "(" * 5000),
    "no study": study(name=["x"]),
    "many budgets": study(seeds=[[[]]]),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_hostile_run_in_a_whole_archive_fails(home, tmp_path, capsys, nothing_else, name):
    FAILING[name](home)
    path = packed(tmp_path / "run.zip", {one.name: one.read_bytes() for one in home.iterdir()})
    code, out = called(capsys, "verify", str(path))
    assert code == 1 and "FAIL" in out.out and not out.err
    assert "root:" not in out.out and "a2a1b518" not in out.out


def test_nothing_of_the_environment_is_put_in(home, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SECRET", "hidden-in-here")
    study(question="${oc.env:SECRET}")(home)
    code, out = called(capsys, "verify", str(home))
    assert code == 1 and "hidden-in-here" not in out.out


def test_the_code_of_a_model_folder_is_not_run(home, tmp_path, capsys, nothing_else):
    folder, trace = tmp_path / "model", tmp_path / "ran"
    folder.mkdir()
    (folder / "code.py").write_text(f"open({str(trace)!r}, 'w')")
    auto = {
        "auto_map": {
            "AutoTokenizer": ["code.Tokenizer", None],
            "AutoModelForCausalLM": "code.Model",
        }
    }
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text(json.dumps(auto))
    model_at(str(folder))(home)
    code, _ = called(capsys, "verify", str(home))
    assert code == 1 and not trace.exists()


def test_large_archives_are_streamed(home, tmp_path, capsys):
    """Memory does not grow with what is unpacked: a piece at a time."""
    import tracemalloc

    (home / "report.html").write_bytes(os.urandom(2**20) * 40)
    path = packed(
        tmp_path / "run.zip",
        {one.name: one.read_bytes() for one in home.iterdir()},
        zipfile.ZIP_STORED,
    )
    tracemalloc.start()
    with archive.open_run(path) as folder:
        assert (folder / "report.html").stat().st_size == 40 * 2**20
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 2**20


def test_a_run_that_does_not_verify_is_not_exported(home, tmp_path, capsys):
    (home / "card.md").write_text("effective")
    code, out = called(capsys, "export", str(home), "--to", str(tmp_path / "run.zip"))
    assert (
        code == 2
        and out.err.count("\n") == 1
        and "card.md" in out.err
        and not (tmp_path / "run.zip").exists()
    )


@pytest.fixture
def keys(tmp_path):
    """Two SSH keys, and a file of allowed signers that names the first."""
    for name in ("author", "stranger"):
        words = [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "somebody@somewhere",
            "-f",
            str(tmp_path / name),
        ]
        subprocess.run(words, check=True)
    allowed = tmp_path / "allowed"
    kind, key = (tmp_path / "author.pub").read_text().split()[:2]
    allowed.write_text(f"author {kind} {key}\n")
    return tmp_path / "author", tmp_path / "stranger", allowed


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")
def test_a_signed_export_says_who_vouches_for_it(home, keys, tmp_path, capsys):
    author, stranger, allowed = keys
    first, second, plain = (tmp_path / f"{name}.zip" for name in ("first", "second", "plain"))
    assert cli.main(["export", str(home), "--to", str(first), "--sign", str(author)]) == 0
    assert cli.main(["export", str(home), "--to", str(second), "--sign", str(stranger)]) == 0
    assert cli.main(["export", str(home), "--to", str(plain)]) == 0
    capsys.readouterr()
    trusted = ["--allowed-signers", str(allowed)]
    code, out = called(capsys, "verify", str(first), *trusted)
    assert code == 0 and "signed by an allowed signer" in out.out and "who made" not in out.out
    code, out = called(capsys, "verify", str(first))
    assert code == 0 and "its signature was not checked" in out.out
    for other in (second, plain):
        assert called(capsys, "verify", str(other), *trusted)[0] == 1
    files = {one.name: one.read_bytes() for one in home.iterdir()}
    with zipfile.ZipFile(first) as export:
        files["manifest.json.sig"] = export.read("manifest.json.sig")
    edit(home, "manifest.json", lambda held: held["machine"].update(device="a better one"))
    files["manifest.json"] = (home / "manifest.json").read_bytes()
    assert load(home, "manifest.json")["machine"]["device"] == "a better one"
    assert called(capsys, "verify", str(packed(tmp_path / "forged.zip", files)), *trusted)[0] == 1
    assert cli.main(["export", str(home), "--to", str(first), "--sign", str(Path("nothing"))]) == 2


def test_where_an_archive_cannot_be_unpacked_it_is_not_blamed(small, tmp_path, capsys):
    files = {path.name: path.read_bytes() for path in (small / "quickstart").iterdir()}
    packed(tmp_path / "x.zip", files)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        assert cli.main(["verify", str(tmp_path / "x.zip")]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    error = capsys.readouterr().err
    assert "cannot be unpacked there (File too large); TMPDIR" in error and error.count("\n") == 1
