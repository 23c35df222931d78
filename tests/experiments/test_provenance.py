"""What made a result: a change of code names and makes again what it could have changed, and
nothing else.
"""

import ast
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distill.completions import BadInput
from experiments import cli, provenance, source_code
from experiments.launch import one
from experiments.planning import plan
from experiments.review.verify import verify
from experiments.settings import catalog, schema
from experiments.store import Record, Store, fingerprint, sealed
from tests.experiments import small
from tests.experiments.shipped import overrides

ROOT = Path(__file__).parents[2]
GSM8K = ROOT / "tests" / "data" / "gsm8k"
STUDY = small.last(*small.STUDY, "seeds=[0]", "baseline_seeds=1", "attacker=[sft,logprob_kd]")
LOSS = "distill.losses"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    runs = tmp_path_factory.mktemp("made")
    assert cli.main(["run", "quickstart", "--runs", str(runs), "--workers", "1", *STUDY]) == 0
    return runs


@pytest.fixture
def runs(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "runs"))


@pytest.fixture
def planned():
    return plan.make(schema.load("quickstart", STUDY))


@pytest.fixture
def edit(monkeypatch):
    """Make modules look as if their code had been changed."""
    real, changed = source_code.read, {}

    def read(name):
        source = real(name)
        return source._replace(digest=changed.get(name, source.digest))

    def edited(*names):
        changed.update(dict.fromkeys(names, "edited"))
        source_code.closure.cache_clear()

    monkeypatch.setattr(source_code, "read", read)
    yield edited
    monkeypatch.undo()
    source_code.closure.cache_clear()


def command(verb, runs, *more):
    return [verb, "quickstart", "--runs", str(runs), *small.last(*STUDY, *more)]


def done_files(runs):
    return sorted((runs / "store").glob("*/*/done.json"))


def strip(paths):
    """What was written before code was recorded."""
    for path in paths:
        done = json.loads(path.read_text())
        path.write_text(
            json.dumps(
                {name: done[name] for name in ("files", "seconds", "cpu_seconds", "threads")}
            )
        )


def names(stages):
    return {(stage.kind, stage.key) for stage in stages}


def after(planned, wanted):
    """The stages for which something holds of themselves or of anything that they are made of."""
    return names(s for s in planned.stages if any(wanted(needed) for needed in s.walk()))


def learns_logprobs(stage):
    return stage.kind == "student" and stage.settings["attacker"]["name"] == "logprob_kd"


class TestDigest:
    SAME = ['x = f(1, "a")', '"""Said."""\nx = f(1, "a")', "# why\nx = f(\n    1,\n    'a',\n)\n"]

    def test_comments_docstrings_and_line_breaks_change_nothing(self):
        assert len({source_code.code_digest(ast.parse(text)) for text in self.SAME}) == 1
        body = (
            "class A:\n  {0}\n  def f(self):\n    {0}\n    return 1\n"
            "  async def g(self):\n    {0}\n"
        )
        assert (
            len({source_code.code_digest(ast.parse(body.format(f'"""{word}"""'))) for word in "ab"})
            == 1
        )

    @pytest.mark.parametrize(
        "text",
        [
            'x = f(2, "a")',
            'x = f(1, "b")',
            'y = f(1, "a")',
            'x = f("a", 1)',
            'x = g(1, "a")',
            'x = f(1, *"a")',
            'x += f(1, "a")',
            'x = f(1.0, "a")',
            'x = f(True, "a")',
            'x = f(1, a="a")',
            'if 1:\n x = f(1, "a")',
        ],
    )
    def test_whatever_acts_changes_it(self, text):
        assert source_code.code_digest(ast.parse(text)) != source_code.code_digest(
            ast.parse(self.SAME[0])
        )

    @pytest.mark.parametrize(
        "name", ["distill.trainer", "distill.models", "experiments.stages.evaluation", "defenses"]
    )
    def test_real_modules_keep_theirs_without_docstrings_and_comments(self, name):
        tree = ast.parse(source_code.file_of(name).read_bytes())
        digest = source_code.code_digest(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
                node
            ):
                node.body[0].value.value = "Something else."
        again = ast.unparse(tree)
        assert source_code.code_digest(ast.parse(again)) == digest == source_code.read(name).digest
        constant = next(
            n for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is int
        )
        constant.value += 1
        assert source_code.code_digest(tree) != digest


@functools.cache
def shipped():
    stages = []
    for name in catalog.names("study"):
        stages += plan.make(schema.load(name, overrides(name))).stages
    return stages


class TestClosure:
    def test_nothing_that_plans_measures_or_reports_is_the_code_of_a_stage(self):
        code = {name for stage in shipped() for name in provenance.modules(stage)}
        ours = {name for name in code if name.startswith("experiments.")}
        assert {name.split(".")[1] for name in ours} == {
            "campaigns",
            "private",
            "seeds",
            "settings",
            "stages",
            "tasks",
        }

    def test_every_component_that_a_stage_names_is_among_its_code(self):
        for stage in shipped():
            code, settings = provenance.modules(stage), json.dumps(stage.settings)
            assert f"experiments.stages.{stage.kind}" in code
            for part in (
                "release/obfuscate",
                "decoding/mad",
                "clean/vote",
                "ask/select",
                "follow/grpo",
            ):
                if f'"{part}"' in settings:
                    assert any(name.endswith(part.replace("/", ".")) for name in code), (
                        stage.kind,
                        part,
                    )

    def test_losses_are_the_code_of_students_that_use_them_alone(self, planned):
        using = {(s.kind, s.key) for s in planned.stages if LOSS in provenance.modules(s)}
        assert using == names(filter(learns_logprobs, planned.stages))

    def test_imports_are_found_wherever_they_are_and_not_what_only_a_type_checker_reads(self):
        text = (
            "from typing import TYPE_CHECKING\nimport torch, distill.losses\n"
            "if TYPE_CHECKING:\n    import distill.lean\n"
            "else:\n    from distill import logprob_cache\n"
            "def f():\n    from ..models import load\n    from . import clean\n"
        )
        imports = {*source_code._imported(ast.parse(text), "distill.attackers")}
        assert imports == {
            "distill.losses",
            "distill",
            "distill.logprob_cache",
            "distill.models",
            "distill.attackers",
            "distill.attackers.clean",
        }

    def test_names_of_a_strange_manifest_reach_no_file(self):
        strange = ("..", "os", "/etc/passwd", "distill./etc/x", "distill.no")
        assert {source_code.installed(name) for name in strange} == {None}

    def test_every_kind_has_a_version(self):
        assert all(provenance._version(stage.kind) >= 1 for stage in shipped())


class TestDue:
    def test_nothing_is_due_after_a_run(self, made, planned):
        assert planned.due(Store(made / "store"), 1) == ([], [], [])

    def test_after_an_edit_what_runs_the_module_is_due_with_what_follows_and_nothing_else(
        self, made, planned, edit
    ):
        store = Store(made / "store")
        edit(LOSS)
        due = planned.due(store, 1)
        assert names(due.stages) == names(due.old) == after(planned, learns_logprobs) != set()
        assert {stage.kind for stage in due.stages} == {"student", "evaluation"}
        assert due.why[0].startswith(f"made by other code: {LOSS} changed (") and len(due.why) == 2
        assert planned.due(store, 1, keep_old=True).stages == []

    def test_everything_after_a_teacher_is_due_with_it(self, made, planned, edit):
        edit("experiments.stages.teacher")
        assert names(planned.due(Store(made / "store"), 1).stages) == after(
            planned, lambda s: s.kind == "teacher"
        )

    @pytest.mark.parametrize(
        "change, reason",
        [
            ({"version": 0}, "made by version 0 of its kind, which is "),
            ({"libraries": {"torch": "1.0"}}, "torch 1.0 -> "),
            ({"threads": 4}, "made with 4 thread(s), not 1"),
            ({"code": {}}, "made by other code: "),
            ({"code": None}, "written before code was recorded"),
            ({"inputs": {}}, "was made again"),
        ],
    )
    def test_each_reason_has_its_words(self, runs, planned, change, reason):
        exam = planned.arms[0].exam
        path = runs / "store" / "evaluation" / exam.key / "done.json"
        path.write_bytes(altered(path, change))
        state = provenance.states(planned.stages, Store(runs / "store"), 1)[exam.key]
        assert state.word == "old" and reason in "; ".join([*state.why, *state.above])
        assert names(planned.due(Store(runs / "store"), 1).stages) == {("evaluation", exam.key)}

    def test_another_number_of_threads_makes_everything_again_and_a_report_takes_any(
        self, made, planned
    ):
        store = Store(made / "store")
        assert (
            len(planned.due(store, 2).old) == len(planned.stages) and planned.due(store).old == []
        )

    def test_what_is_made_of_something_that_is_gone_is_due(self, runs, planned):
        student = planned.arms[0].student
        shutil.rmtree(runs / "store" / "student" / student.key)
        due = planned.due(Store(runs / "store"), 1)
        assert names(due.stages) == after(planned, lambda s: s.key == student.key)

    def test_a_damaged_result_is_one_line(self, runs, planned, capsys):
        path = done_files(runs)[0]
        path.write_text("{")
        for verb in ("plan", "report"):
            assert cli.main(command(verb, runs)) == 2
            printed = capsys.readouterr().err
            assert (
                "not a finished result" in printed
                and "delete it to make it again" in printed
                and printed.count("\n") == 1
            )


def make(stages, runs):
    for stage in stages:
        one.make(stage, runs / "store")


class TestMadeAgain:
    def test_equal_bytes_spare_what_follows(self, runs, planned, edit):
        store = Store(runs / "store")
        before = fingerprint(store, planned.stages)
        edit("distill.attackers.logprob_kd")
        due = planned.due(store, 1)
        exams = {
            stage.key: store.done("evaluation", stage.key)
            for stage in due.stages
            if stage.kind == "evaluation"
        }
        make(due.stages, runs)
        assert fingerprint(store, planned.stages) == before and planned.due(store, 1).stages == []
        assert exams and all(store.done("evaluation", key) == done for key, done in exams.items())
        student = next(stage for stage in due.stages if stage.kind == "student")
        assert store.done("student", student.key).code["distill.attackers.logprob_kd"] == "edited"

    def test_other_bytes_make_again_what_follows(self, runs, planned, edit, monkeypatch):
        from experiments.stages import student

        store, real = Store(runs / "store"), student.run

        def other(settings, inputs, out):
            real(settings, inputs, out)
            (out / "more.txt").write_text("other")

        edit("distill.attackers.logprob_kd")
        monkeypatch.setattr(student, "run", other)
        due = planned.due(store, 1)
        make(due.stages, runs)
        assert planned.due(store, 1).stages == []
        for stage in due.stages:
            assert store.done(stage.kind, stage.key).inputs == provenance.inputs(stage, store)

    def test_what_a_killed_run_had_not_made_again_is_still_there_and_the_next_run_goes_on(
        self, runs, planned, edit, monkeypatch
    ):
        from experiments.stages import student

        store, real, calls = Store(runs / "store"), student.run, []
        before = fingerprint(store, planned.stages)

        def killed(settings, inputs, out):
            calls.append(out)
            if len(calls) == 2:
                (out / "model.safetensors").write_text("half")
                raise KeyboardInterrupt
            real(settings, inputs, out)

        edit("experiments.stages.student")
        first = [stage for stage in planned.due(store, 1).stages if stage.kind == "student"]
        monkeypatch.setattr(student, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            make(first, runs)
        for stage in planned.stages:
            store.open(stage.kind, stage.key)  # all are there and whole
        left = planned.due(store, 1)
        assert names(first) - names(left.stages) == names(first[:1])
        make(left.stages, runs)
        assert planned.due(store, 1).stages == [] and fingerprint(store, planned.stages) == before


class TestOldStores:
    def test_a_store_of_before_is_named_and_refused(self, runs, planned, capsys):
        strip(done_files(runs))
        assert cli.main(command("plan", runs)) == 0
        printed = capsys.readouterr().out
        n = len(planned.stages)
        assert (
            f"{n} stages, {n} to do" in printed
            and "old: written before code was recorded (" in printed
        )
        assert cli.main(command("report", runs)) == 2
        printed = capsys.readouterr().err
        assert (
            printed.count("\n") == 1
            and f"{n} of {n} results are old" in printed
            and "--keep-old" in printed
        )
        assert cli.main(command("report", runs, "--partial")) == 2

    def test_what_is_kept_marks_every_table(self, runs, planned, capsys):
        old = [path for path in done_files(runs) if path.parts[-3] == "evaluation"]
        strip(old)
        assert cli.main(command("plan", runs, "--keep-old")) == 0
        assert (
            f"evaluation: {len(old)}, 0 to do, {len(old)} old ones kept" in capsys.readouterr().out
        )
        assert cli.main(command("run", runs, "--keep-old")) == 0
        output, home = capsys.readouterr(), runs / "quickstart"
        why = f"written before code was recorded ({len(old)} evaluation)"
        assert (
            "OLD RESULTS" in output.out
            and why in output.out
            and "old results are kept" in " ".join(output.err.split())
        )
        assert cli.main(command("report", runs, "--keep-old", "--markdown")) == 0
        assert f"**OLD RESULTS (--keep-old): {why}**" in capsys.readouterr().out
        for name in ("report.html", "card.md"):
            assert f"OLD RESULTS (--keep-old): {why}" in (home / name).read_text()
        written = {
            name: json.loads((home / f"{name}.json").read_text())
            for name in ("measures", "card", "manifest")
        }
        assert (
            written["measures"]["old"]
            == written["card"]["identity"]["old"]
            == written["manifest"]["old"]
            == [why]
        )
        assert all(row["old"] for row in json.loads((home / "results.json").read_text()))
        failed = [c for c in verify(home, Store(runs / "store")) if c.word == "FAIL"]
        assert [check.claim for check in failed] == ["one code made every result"]
        assert (
            f"{len(old)} of {len(planned.stages)} results were written before code was recorded"
            in failed[0].got
        )

    def test_without_old_results_nothing_is_marked(self, made):
        home = made / "quickstart"
        assert json.loads((home / "measures.json").read_text())["old"] == []
        assert not any(
            "OLD RESULTS" in (home / name).read_text() for name in ("report.html", "card.md")
        )

    def test_half_a_store_of_before_is_made_again_to_the_same_bytes(self, runs, planned):
        store = Store(runs / "store")
        before = fingerprint(store, planned.stages)
        strip(done_files(runs)[::2])
        due = planned.due(store, 1)
        assert 0 < len(due.old) < len(planned.stages) + 1 and due.why[0].startswith(
            "written before code"
        )
        make(due.stages, runs)
        assert fingerprint(store, planned.stages) == before and planned.due(store, 1).stages == []


def altered(path, change):
    """A done.json that says something else and is sealed all the same."""
    done = json.loads(path.read_text()) | change
    del done["sha256"]
    return sealed(Record.model_validate(done))


def claims(runs, store=True):
    checks = verify(runs / "quickstart", Store(runs / "store") if store else None)
    return {check.claim: check for check in checks if check.word != "PASS"}


class TestVerify:
    @pytest.mark.parametrize("what", ["code", "libraries", "threads", "version", "nothing"])
    def test_a_mixture_fails(self, runs, what):
        path = runs / "quickstart" / "manifest.json"
        manifest = json.loads(path.read_text())
        last = next(stage for stage in manifest["stages"] if stage["kind"] == "evaluation")
        maker = dict(manifest["made_by"][last["made_by"]])
        maker |= {
            "code": {"code": maker["code"] | {"distill.models": "f" * 16}},
            "libraries": {"libraries": maker["libraries"] | {"torch": "1.0"}},
            "threads": {"threads": 9},
            "version": {"version": 0},
            "nothing": {},
        }[what]
        manifest["made_by"].append({} if what == "nothing" else maker)
        last["made_by"] = len(manifest["made_by"]) - 1
        path.write_text(json.dumps(manifest))
        got = claims(runs, store=False)["one code made every result"]
        reasons = {
            "code": "distill.models is ",
            "libraries": "torch is ",
            "threads": "threads is ",
            "version": "version of evaluation is ",
            "nothing": "before code was recorded",
        }
        assert got.word == "FAIL" and reasons[what] in got.got
        assert claims(runs)["the store names the same code and inputs"].word == "FAIL"

    def test_a_result_of_other_inputs_fails(self, runs):
        path = runs / "quickstart" / "manifest.json"
        manifest = json.loads(path.read_text())
        stage = next(stage for stage in manifest["stages"] if stage["inputs"])
        stage["inputs"] = dict.fromkeys(stage["inputs"], "0" * 16)
        path.write_text(json.dumps(manifest))
        got = claims(runs, store=False)["one code made every result"]
        assert got.word == "FAIL" and f"{stage['kind']}/{stage['key']} made of inputs" in got.got

    @pytest.mark.parametrize(
        "broken", [{"made_by": 7}, {"made_by": [7]}, {"made_by": [{"code": {}}]}]
    )
    def test_a_broken_record_fails_in_a_line(self, runs, broken):
        path = runs / "quickstart" / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | broken))
        assert claims(runs)["manifest.json is a manifest"].word == "FAIL"

    def test_a_run_wholly_of_other_code_is_said_and_does_not_fail(self, runs, edit, capsys):
        edit(LOSS, "distill.models")
        got = claims(runs)
        assert {check.word for check in got.values()} == {"INCONCLUSIVE"}
        assert got["that code is installed here"].got == f"{LOSS}, distill.models changed"
        assert cli.main(["verify", "quickstart", "--runs", str(runs)]) == 0

    def test_results_of_before_code_was_recorded_are_said_and_do_not_fail(self, runs):
        path = runs / "quickstart" / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["made_by"] = [{}]
        manifest["stages"] = [stage | {"made_by": 0} for stage in manifest["stages"]]
        path.write_text(json.dumps(manifest, indent=1))
        got = claims(runs, store=False)
        assert {name: check.word for name, check in got.items()} == {
            "one code made every result": "INCONCLUSIVE"
        }

    def test_a_store_that_was_made_again_since_fails(self, runs, planned):
        path = runs / "store" / "evaluation" / planned.arms[0].exam.key / "done.json"
        code = json.loads(path.read_text())["code"]
        path.write_bytes(altered(path, {"code": code | {"distill.models": "0" * 16}}))
        assert {*claims(runs)} == {"the store names the same code and inputs"}


def test_an_edit_of_the_sources_is_seen_by_the_next_command(made, tmp_path):
    """The sources as they are, then another docstring of the report and a comment, then another
    loss.
    """
    for package in ("distill", "defenses", "experiments", "configs"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )

    def todo():
        words = [sys.executable, "-m", "experiments.cli", *command("plan", made)]
        done = subprocess.run(words, cwd=tmp_path, env=os.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def edited(name, before, after):
        text = (tmp_path / name).read_text()
        assert before in text
        (tmp_path / name).write_text(text.replace(before, after, 1))

    edited("experiments/report/html.py", '"""The HTML report', '"""A page: the HTML report')
    edited("experiments/report/plots.py", "MOST_NAMED = 12", "MOST_NAMED = 13")
    edited("distill/losses.py", "from __future__", "# A comment.\nfrom __future__")
    assert " stages, 0 to do" in todo() and "old:" not in todo()
    with (tmp_path / "distill" / "losses.py").open("a") as file:
        file.write("\nEPSILON = 1e-3\n")
    output = todo()
    assert f"old: made by other code: {LOSS} changed (" in output
    assert "teacher: 1, 0 to do\n" in output


def test_a_component_without_a_file_is_one_line():
    with pytest.raises(BadInput, match="no such module"):
        source_code.read("defenses.release.nothing")
