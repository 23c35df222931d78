"""What people do to a command: kill it, interrupt it, name things oddly, and print to terminals
that know little.
"""

import importlib
import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest

from distill.completions import BadInput
from experiments import cli
from experiments.commands import about
from experiments.launch import local, one
from experiments.results.plain import Plain, printable
from experiments.settings import schema
from experiments.stages.stage import Stage, TaskSpec
from experiments.stages.teacher import RecipeTeacher
from experiments.stages.training import Shape
from experiments.store import Store
from experiments.tasks import addition

ROOT = Path(__file__).parents[2]
ENDLESS = [
    "teacher.steps=10000000",
    "seeds=[0]",
    "selection_seeds=[900]",
    "measure.items=20",
    "teacher.items=20",
    "budget=8",
    "task=addition",
    "defense=release/answer_only",
    "attacker=sft",
]
ENV = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}


class Endless:
    """A plan of one teacher that is trained for ever."""

    arms = ()
    study = SimpleNamespace(name="endless", tracking=schema.load("quickstart", []).tracking)
    stage = Stage(
        RecipeTeacher(
            kind="recipe",
            task=TaskSpec(name="addition", settings=addition.Settings().model_dump()),
            items=20,
            seed=0,
            shape=Shape(hidden_size=16, num_layers=1, steps=10**7, vocabulary=0, max_new_tokens=8),
        )
    )

    def due(self, *_):
        return SimpleNamespace(why=[], stages=[self.stage])


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Whatever started the tests: a shell that runs them in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def meanwhile(root, what, when):
    """Run the plan, and do something to the command or its worker once the worker is there, or at
    its work.
    """
    seen, over = [], threading.Event()

    def watch():
        while not (workers := multiprocessing.active_children()) or (
            when == "training" and not Store(root).begun(Endless.stage.kind, Endless.stage.key)
        ):
            if over.wait(0.05):
                return
        seen.extend(workers)
        what(workers[0].pid)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        local.run(Endless(), root, 1, Plain(stderr=True))
    finally:
        over.set()
        thread.join()
        assert seen and not [one for one in seen if one.is_alive()], "a worker is left"


def test_a_killed_worker_is_one_line_that_names_the_stage(tmp_path):
    line = (
        f"a worker was killed (out of memory?) in teacher/{Endless.stage.key}; take fewer "
        "--workers; the same "
        "command continues"
    )
    with pytest.raises(BadInput, match=re.escape(line)):
        meanwhile(tmp_path, lambda worker: os.kill(worker, signal.SIGKILL), "training")


@pytest.mark.parametrize("when", ["workers import", "training"])
def test_ctrl_c_ends_the_workers_without_a_word_of_theirs(when, tmp_path, capfd):
    def group(worker):
        """As a terminal sends it: to all."""
        os.kill(worker, signal.SIGINT)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        meanwhile(tmp_path, group, when)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("when", ["workers import", "training"])
def test_sigterm_ends_the_workers_in_silence_with_its_own_code(when, tmp_path, capfd):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        meanwhile(tmp_path, lambda _: os.kill(os.getpid(), signal.SIGTERM), when)
    assert ended.value.code == 128 + signal.SIGTERM and capfd.readouterr().err == ""
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def waits(key, cost, *inputs):
    return SimpleNamespace(key=key, cost=cost, inputs=inputs)


def drained(monkeypatch, stages, end):
    """The keys in the order of their beginning, where each stage ends at once."""
    begun, finished = [], []

    def submit(stage):
        begun.append(stage.key)
        end(future := Future())
        return future

    monkeypatch.setattr(local, "seconds", lambda stage: stage.cost)
    local._drain(stages, submit, SimpleNamespace(finish=finished.append), lambda: None)
    assert len(finished) == len(stages)
    return begun


def test_stages_begin_as_soon_as_they_can_and_the_longest_first(monkeypatch):
    first, long, alone = waits("first", 2), waits("long", 45), waits("alone", 1)
    both = waits("both", 6, first, long, long)
    after, elsewhere = waits("after", 1, both), waits("elsewhere", 1, waits("made before", 1))
    stages = [first, long, alone, both, after, elsewhere]
    order = drained(monkeypatch, stages, lambda future: future.set_result(1.0))
    assert order == ["long", "first", "alone", "elsewhere", "both", "after"]


def test_a_stage_that_fails_ends_the_rest(monkeypatch):
    with pytest.raises(BadInput, match="no"):
        drained(monkeypatch, [waits("one", 1)], lambda future: future.set_exception(BadInput("no")))


def test_a_worker_that_cannot_begin_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_failed", ["MemoryError: "])
    with pytest.raises(BadInput, match=r"a worker cannot begin \(MemoryError: \)"):
        local._make(None, tmp_path, 1)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate"),
        RuntimeError("other"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you "
            "tried"
        ),
    ],
)
def test_too_little_memory_is_one_line_that_names_the_stage(error, tmp_path, monkeypatch):
    def fails(*_):
        raise error

    monkeypatch.setattr(importlib.import_module("experiments.stages.teacher"), "run", fails)
    wanted = RuntimeError if str(error) == "other" else BadInput
    with pytest.raises(
        wanted, match="other|^out of memory in teacher/[0-9a-f]{16}; take fewer --workers"
    ):
        one.make(Endless.stage, tmp_path)


@pytest.mark.parametrize(
    "words", [["list"], ["list", "defenses"], ["list", "defenses", "--markdown"], ["doctor"]]
)
def test_a_terminal_that_knows_ascii_alone_is_enough(words):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.cli", *words],
        cwd=ROOT,
        capture_output=True,
        env=ENV | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0 and not done.stderr and done.stdout.isascii()


@pytest.mark.parametrize(
    ("shell", "code", "error"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("2> /dev/full", 0, ""),
        ("| true", 0, ""),
        ("| head -c 1", 0, ""),
        ("> /dev/full", 2, "distill-resist: runs or standard output: No space left on device\n"),
    ],
)
def test_output_that_goes_nowhere_is_no_traceback(shell, code, error):
    words = f"{sys.executable} -m experiments.cli list studies {shell}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", words], cwd=ROOT, capture_output=True, text=True, env=ENV
    )
    assert (done.returncode, done.stderr) == (code, error)


NOTING = """
import os, sys
from experiments import cli
from experiments.commands import about
about.list_group = lambda **_: print("a note", file=sys.stderr) or {does}
sys.exit(cli.main({words}))
"""


@pytest.mark.parametrize(
    ("words", "does", "shell", "code", "error"),
    [
        (["list"], "0", "2> /dev/full", 2, ""),
        (["list"], "1", "2> /dev/full", 1, ""),
        (["list"], "0", "2>&1 | true", 0, ""),
        (["list"], "0", "2>&-", 0, ""),
        (["list", "--nonsense"], "0", "2> /dev/full", 2, ""),
        (["--help"], "0", "> /dev/full", 2, "distill-resist: standard output: No space left"),
        # No file that the work opens is standard output.
        (["list"], "os.open('/', 0) < 3", "<&- >&- 2>&-", 0, ""),
    ],
)
def test_notes_that_cannot_be_written_stop_no_work(words, does, shell, code, error):
    """As with the tools of a system, it is told by the exit code where none stands already."""
    command = [sys.executable, "-c", NOTING.format(does=does, words=words)]
    line = f"{shlex.join(command)} {shell}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=ROOT, capture_output=True, text=True, env=ENV
    )
    assert done.returncode == code and done.stderr.startswith(error)
    assert done.stderr.count("\n") == bool(error)


def test_what_is_not_utf_8_is_one_line(capfd):
    for words in (
        ["report", "quickstart", "--runs", "caf\udce9"],
        ["plan", "\udcff.yaml"],
        ["list", "\udc80"],
    ):
        assert cli.main(words) == 2
        assert re.fullmatch(
            r"distill-resist: .*\\udc\w\w.*: is not UTF-8; names and paths must be\n",
            capfd.readouterr().err,
        )


@pytest.mark.parametrize("name", ["x[/b]", "[old] :smile:", "ü -", "a\nb\x1b[31m"])
def test_a_folder_of_any_name_is_named_as_it_is(name, tmp_path, capsys):
    runs = tmp_path / name
    assert cli.main(["report", "quickstart", "--runs", str(runs), "--partial", *ENDLESS]) == 2
    error = capsys.readouterr().err
    assert printable(str(runs)) in error and error.count("\n") == 1 and "is not there yet" in error


def test_a_console_prints_no_markup_no_emoji_and_no_codes(capsys):
    from rich.table import Table

    odd = "[b]x[/nope] [link=http://a]:smile: \x1b[31mred\x07 a\u202eb"
    table = Table("arm", title=odd)
    table.add_row(odd)
    console = Plain(width=120)
    console.print(odd)
    console.print(table)
    shown = capsys.readouterr().out
    assert (
        shown.count("[b]x[/nope] [link=http://a]:smile: \\x1b[31mred\\x07 a\\u202eb") == 3
        and "\x1b" not in shown
    )


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, MemoryError, BrokenPipeError, OSError(28, "No space left")]
)
def test_what_happens_in_a_verb_has_its_code_and_its_line(error, monkeypatch, capsys):
    def verb(**_):
        raise error

    monkeypatch.setattr(about, "list_group", verb)
    code, line = {
        KeyboardInterrupt: (130, "interrupted; the same command continues"),
        MemoryError: (2, "out of memory; nothing done is lost, and the same command continues"),
        BrokenPipeError: (0, None),
    }.get(error, (2, "runs or standard output: No space left"))
    assert cli.main(["list"]) == code
    assert capsys.readouterr().err == ("" if line is None else f"distill-resist: {line}\n")


def test_a_mistake_that_holds_a_line_break_is_one_line(capsys):
    assert cli.main(["plan", "quickstart", "question='a\nb'", "teacher.kind='a\nb'"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.endswith("\n")


def test_a_study_that_is_a_number_is_named(tmp_path, capsys):
    path = tmp_path / "five.yaml"
    path.write_text("5\n")
    assert cli.main(["plan", str(path)]) == 2
    error = capsys.readouterr().err
    assert "five" in error and error.count("\n") == 1


def test_workers_begin_where_temporary_files_have_long_names(monkeypatch, tmp_path):
    """A socket's address is short: in a folder of a long name each worker imports for itself."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 30)))
    assert local._context().get_start_method() == "spawn"
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    assert local._context().get_start_method() == "forkserver"
