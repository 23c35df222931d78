"""Nothing forged passes: words and numbers where nothing follows from them, in places that only a
format, a grammar or the settings know. Each guard is asked itself; that `verify` asks it is held in
test_forged.py.
"""

import shutil
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill.completions import BadInput
from experiments.planning import plan as planning
from experiments.results.read import manifest_of
from experiments.review import drawn, exams, sign, spelled, students
from experiments.review.verify import _read, about, shows
from tests.experiments.forger import edit, table


def run_of(home):
    """What a run's files hold, once each is of its form."""
    run, checks = _read(home)
    assert run, checks
    return run


# The file of grades: what its rows do not say.


def parquet(write):
    """The same rows, written otherwise."""

    def lie(home):
        write(pq.read_table(home / "grades.parquet"), home / "grades.parquet")

    return lie


def written(**options):
    return parquet(lambda rows, path: pq.write_table(rows, path, **options))


def in_the_record(before, after):
    """A word in the record behind the columns is another, of the same length."""

    def lie(home):
        data = (home / "grades.parquet").read_bytes()
        start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        assert before in data[start:]
        changed = data[:start] + data[start:].replace(before, after)
        (home / "grades.parquet").write_bytes(changed)

    return lie


def a_value_of_no_row(rows, path):
    texts = rows["text"].combine_chunks().dictionary_encode()
    more = pa.array([*texts.dictionary.to_pylist(), "all defences are effective"])
    column = pa.DictionaryArray.from_arrays(texts.indices, more)
    place = rows.schema.get_field_index("text")
    pq.write_table(rows.set_column(place, "text", column), path, store_schema=False)


GRADES = {
    "statistics that lie": in_the_record(b"wrong", b"right"),
    "a writer of words": in_the_record(b"parquet-cpp-arrow", b"all-is-effective!"),
    "a value of no row": parquet(a_value_of_no_row),
    "another packing": written(compression="gzip"),
    "many groups": written(compression="zstd", row_group_size=7),
    "no statistics": written(compression="zstd", write_statistics=False),
}


@pytest.mark.parametrize("name", GRADES)
def test_grades_are_their_rows_and_nothing_beside(home, name):
    assert [check.word for check in spelled.grades(run_of(home))] == ["PASS"]
    GRADES[name](home)
    assert [check.word for check in spelled.grades(run_of(home))] == ["FAIL"]


@pytest.mark.parametrize("is_locked", [True, False])
def test_grades_of_another_writer_are_trusted_no_more_than_its_word(home, is_locked):
    """Another pyarrow writes other bytes; one that the lock does not name wrote nothing."""
    writer = pq.ParquetFile(home / "grades.parquet").metadata.created_by
    other = writer[:-1] + chr(ord(writer[-1]) ^ 1)
    in_the_record(writer.encode(), other.encode())(home)
    if is_locked:
        lock = f"pyarrow=={other.rpartition(' ')[2]}"
        edit(home, "manifest.json", lambda manifest: manifest | {"lock": [lock]})
    (check,) = spelled.grades(run_of(home))
    assert check.word == ("INCONCLUSIVE" if is_locked else "FAIL")


# Numbers of exams and students that none of these settings can have.


def column(name, value):
    """What a row of the grades has in a column."""
    return lambda home: table(home, name, value)


def a_text_edit(row):
    return row["defense"] == "release/answer_only" and not row["attacker"]


NUMBERS = {
    "a teacher that predicts": column(
        "bits_per_byte", lambda row: row["bits_per_byte"] if row["attacker"] else 1.0
    ),
    "a selection student that predicts": column(
        "bits_per_byte", lambda row: 0.5 if row["split"] == "select" else row["bits_per_byte"]
    ),
    "students that predict nothing": column("bits_per_byte", lambda row: None),
    "texts of no token": column("tokens", lambda row: 0),
    "tokens of half a pass": column("passes", lambda row: 0.5 if a_text_edit(row) else 1.0),
    "a text edit that moved what is sampled": column(
        "l1", lambda row: 0.5 if a_text_edit(row) else row["l1"]
    ),
}


def test_what_was_run_has_numbers_that_exams_can_have(home):
    assert exams.possible(run_of(home)).word == "PASS"


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_passes_that_an_exam_cannot_have(home, name):
    NUMBERS[name](home)
    assert exams.possible(run_of(home)).word == "FAIL"


def test_a_surprisal_without_end_is_of_no_exam(home):
    table(home, "nats", lambda row: float("inf"))
    assert "nats is inf in a row" in _read(home)[1][0].got


STUDENTS = {
    "steps is 999, planned is 1": {"steps": 999},
    "exchanges is 1000000, planned is": {"exchanges": 10**6},
    "exchanges is 8, planned is 0": {"exchanges": 8},
    "0 steps learned from 1 tokens": {"student_tokens": 1},
    "steps learned from 0 tokens": {"student_tokens": 0},
    "parameters is not what other students": {"parameters": lambda arm: 10 + arm["seed"]},
    "tokens_out is not what other students": {"tokens_out": lambda arm: len(arm["attacker"])},
    "flops is 0, which": {"flops": 0},
    "flops is 1, which": {"flops": 1},
    "a run of these settings": {},
}


@pytest.mark.parametrize("got", STUDENTS)
def test_no_student_passes_that_its_settings_do_not_lead_to(home, got):
    def changed(arm):
        more = {
            name: value(arm) if callable(value) else value for name, value in STUDENTS[got].items()
        }
        return arm | more | ({"flops": 0} if "parameters" in more else {})

    edit(home, "arms.json", lambda arms: [changed(arm) for arm in arms])
    run = run_of(home)
    planned = planning.make(run.study, opens=False)
    pairs = [*zip(planned.arms, run.arms, strict=True)]
    seen = {}
    faults = [fault for arm, record in pairs for fault in students.faults(arm, record, seen)]
    assert any(got in fault for fault in faults) if STUDENTS[got] else not faults


# The manifest: what nothing follows from is no place for words.


def machine(**changes):
    return lambda manifest: manifest["machine"].update(changes)


def of_no_stage(**changes):
    def lie(manifest):
        manifest["made_by"].append(manifest["made_by"][0] | changes)

    return lie


def of_stages(change):
    def lie(manifest):
        for stage in manifest["stages"]:
            change(stage)

    return lie


MANIFEST = {
    "a maker of no stage": of_no_stage(code={"all defences are effective": "0" * 16}),
    "threads of no stage": of_no_stage(threads=64),
    "a maker twice": of_no_stage(),
    "reasons in words of others": lambda manifest: manifest.update(
        old=["it was reviewed (1 student)"]
    ),
    "a version in words": machine(python="3.11\n\n# All defences are effective"),
    "a platform of lines": machine(platform="Linux\n\n# All defences are effective"),
    "a device without end": machine(device="x" * 10**6),
    "cores below nothing": machine(cores=-5),
    "times without end": of_stages(lambda stage: stage.update(seconds=1e308)),
    "answers of a student": of_stages(
        lambda stage: stage.update(answer_seconds=0.0) if stage["kind"] == "student" else None
    ),
    "answers that took longer than all": of_stages(
        lambda stage: (
            stage.update(answer_seconds=stage["seconds"] + 1, copied=None)
            if stage["kind"] == "evaluation"
            else None
        )
    ),
}


@pytest.mark.parametrize("name", MANIFEST)
def test_a_manifest_holds_what_made_its_stages_and_nothing_else(home, name):
    manifest_of(home)
    edit(home, "manifest.json", lambda manifest: MANIFEST[name](manifest) and None)
    with pytest.raises(BadInput):
        manifest_of(home)


# Plots of another library: what a parser of XML passes over and a browser does not.

DC = "xmlns='http://purl.org/dc/elements/1.1/'".replace("'", '"')


@pytest.mark.parametrize(
    "part",
    [
        "<!--><script>alert(1)</script>-->",
        "<!-- --!><script>alert(1)</script>-->",
        "<?x ><script>alert(1)</script>?>",
        "<![CDATA[]]>",
        f"<script {DC}>alert(1)</script>",
        f'<img {DC} src="x" onerror="alert(1)"/>',
        f'<g {DC} onclick="alert(1)"/>',
        f'<metadata {DC} style="position:fixed"/>',
        '<dc:a onclick="alert(1)"/>',
        '<dc:a style="position:fixed"/>',
        '<x:script xmlns:x="http://purl.org/dc/elements/1.1/">alert(1)</x:script>',
        '<dc:g xmlns:dc="http://www.w3.org/2000/svg"/>',
    ],
)
def test_a_plot_is_the_same_to_a_browser(home, part):
    (plot,) = drawn.PLOT.findall((home / "transfer.svg").read_bytes())
    inside = b"<metadata>"
    assert drawn.is_plot(plot) and inside in plot
    place = plot.index(b"<cc:Work>")  # where the prefix dc is known
    spoilt = plot[:place] + part.encode() + plot[place:]
    assert not drawn.is_plot(spoilt)


# Signatures: of another run, of another namespace, and more than a signature.

needs_ssh = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "author"
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(words, check=True)
    return path


def signed(key, data, namespace="distill-resist"):
    words = ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", namespace]
    return subprocess.run(words, input=data, check=True, capture_output=True).stdout


SIGNATURES = {
    "of another run": lambda key, manifest: signed(key, manifest + b" "),
    "for another use": lambda key, manifest: signed(key, manifest, "git"),
    "with words before it": lambda key, manifest: b"effective\n" + signed(key, manifest),
    "with words behind it": lambda key, manifest: signed(key, manifest) + b"effective\n",
    "in words": lambda key, manifest: b"All of it was reviewed.\n",
    "of nothing": lambda key, manifest: b"",
    "without end": lambda key, manifest: b"x" * 2**17,
}


@needs_ssh
@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_is_one_of_this_manifest_whoever_made_it(home, key, name):
    manifest = (home / "manifest.json").read_bytes()
    (home / "manifest.json.sig").write_bytes(signed(key, manifest))
    assert sign.whole(home).word == "PASS"
    assert "its signature was not checked" in shows(home, False)
    (home / "manifest.json.sig").write_bytes(SIGNATURES[name](key, manifest))
    assert sign.whole(home).word == "FAIL"


@needs_ssh
@pytest.mark.parametrize(
    "line",
    [
        'author namespaces="git" {key}',
        'author valid-before="20200101" {key}',
        'author valid-after="29990101" {key}',
        "author cert-authority {key}",
        "author {other}",
        "# author {key}",
    ],
)
def test_a_signer_must_be_allowed_for_this_and_now(home, key, tmp_path, line):
    (home / "manifest.json.sig").write_bytes(signed(key, (home / "manifest.json").read_bytes()))
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    other = public[:-6] + "AAAAAA"
    allowed = tmp_path / "allowed"
    allowed.write_text(f"author {public}\n")
    assert sign.checked(home, allowed).word == "PASS"
    allowed.write_text(line.format(key=public, other=other) + "\n")
    assert sign.checked(home, allowed).word == "FAIL"


# What a reader may take it for.


@pytest.mark.parametrize("name", ["quickstart", "matrix", "mine"])
def test_what_is_verified_is_named(home, name):
    """A run of other settings may have the name of a study that one knows."""
    edit(home, "manifest.json", lambda manifest: manifest | {"study": name})
    line = about(home)
    assert line.startswith(f"study {name}, settings ")
    assert line.endswith("not the settings of the shipped study") == (name != "mine")
