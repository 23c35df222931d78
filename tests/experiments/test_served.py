"""A study whose teacher is behind a server: as if the teacher itself were there, once, and then
without a server.
"""

import os
import shutil
import signal
import threading

import pytest

from distill.completions import Interface, Prompt, read_completions
from experiments import cli, private
from experiments.commands import serving as command
from experiments.planning import plan as planning
from experiments.serving.app import app
from experiments.settings import schema as settings
from experiments.stages.grades import read_grades
from experiments.stages.server import place_of
from experiments.store import Store
from tests.distill.served.local_servers import Counting, serving
from tests.experiments.small import STUDY, apart, last

pytestmark = pytest.mark.enable_socket
NAME = "quickstart addition none"
WORDS = [
    *(word for word in STUDY if not word.startswith("teacher.")),
    "teacher=served",
    f"teacher.model='{NAME}'",
    "teacher.temperature=0",
]


def words(url, *more):
    return last(*WORDS, f"teacher.url={url}", *more)


@pytest.fixture(scope="module")
def offered(small):
    """The small run's teacher, as `serve` offers it."""
    planned = planning.make(settings.load("quickstart", STUDY))
    store = Store(small / "store")
    return command._offer(planned, store, "addition", "none", "full", 1)


def texts(runs, overrides):
    """What the teacher said in its exams and to attackers, by stage."""
    planned, store = planning.make(settings.load("quickstart", overrides)), Store(runs / "store")
    by_stage = {}
    for place, exams in planned.teachers.items():
        folders = [store.open(exam.kind, exam.key) for exam in exams]
        by_stage[place] = [[row.text for row in read_grades(folder)] for folder in folders]
    for arm in planned.arms:
        made = arm.completions
        folder = store.open(made.kind, made.key)
        answers = read_completions(folder / "completions.parquet")
        by_stage[arm.defense, arm.attacker, arm.seed, arm.split] = [one.text for one in answers]
    return by_stage


def test_a_study_of_a_served_teacher_is_that_of_the_teacher_itself(
    small, offered, tmp_path, capsys
):
    counting = Counting(app(offered))
    with serving(counting) as url:
        run = ["run", "quickstart", "--runs", str(tmp_path), "--workers", "1"]
        limit = len(counting.requests) + 12
        counting.change = lambda *_: (500, {}, b"") if len(counting.requests) > limit else None
        stopped = words(url, "teacher.retries=0", "teacher.concurrency=1")
        assert cli.main([*run, *stopped]) == 2
        assert "no answer after 1 tries" in capsys.readouterr().err
        counting.change = None
        assert cli.main([*run, *words(url)]) == 0
        bodies = [body for path, body, _ in counting.requests if path != "/v1/models"]
    assert texts(tmp_path, words(url)) == texts(small, STUDY)
    # Probes are not written down, and the question that was refused is asked again.
    recorded = {path.name for path in responses(tmp_path)}
    assert len(recorded) <= len(set(bodies)) <= len(recorded) + 4
    before = {path: path.read_bytes() for path in tmp_path.glob("store/completions/*/*.parquet")}
    for kind in ("completions", "evaluation"):
        shutil.rmtree(tmp_path / "store" / kind)
    elsewhere = words("http://127.0.0.1:9/v1", "teacher.retries=0")  # nobody listens there
    assert cli.main([*run, *elsewhere]) == 0
    assert "answers of it are recorded" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.slow
def test_a_run_that_is_killed_in_mid_request_asks_only_what_is_missing(offered, tmp_path, capsys):
    """And the bytes are those of a run that nothing happened to."""
    counting, reached, over = Counting(app(offered)), threading.Event(), threading.Event()

    def waits(path, request, *_):
        if len(counting.requests) > 12:
            reached.set()
            over.wait(60)

    more = ("seeds=[0]", "baseline_seeds=1", "teacher.concurrency=1")
    with serving(counting) as url:
        counting.change = waits
        run = ["run", "quickstart", "--workers", "1", *words(url, *more)]
        process = apart([*run, "--runs", str(tmp_path / "a")], tmp_path)
        try:
            assert reached.wait(300), (tmp_path / "err").read_text()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            counting.change = None
            over.set()
        log = {path: path.read_bytes() for path in responses(tmp_path / "a")}
        first, counting.requests = [body for _, body, _ in counting.requests], []
        assert cli.main([*run, "--runs", str(tmp_path / "a")]) == 0, capsys.readouterr().err
        second = [body for _, body, _ in counting.requests]
        assert cli.main([*run, "--runs", str(tmp_path / "b")]) == 0
    assert len(log) > 3 and log == {path: path.read_bytes() for path in log}
    probes = set(first[:5])  # which are written down nowhere
    assert not (set(first[:-1]) - probes) & set(second) and first[-1] in second
    ours, others = (sorted(responses(tmp_path / name)) for name in "ab")
    assert [path.name for path in ours] == [path.name for path in others]
    assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in others]


def responses(runs):
    """What the teachers of a runs folder said, a file each."""
    return [*runs.glob("store/teacher/.*.responses/??/*.gz")]


def test_where_a_server_is_stands_in_no_file(tmp_path, offered):
    with serving(app(offered)) as url:
        run = ["run", "quickstart", "--runs", str(tmp_path), "--workers", "1"]
        assert cli.main([*run, *words(url, "seeds=[0]", "baseline_seeds=1")]) == 0
    port = url.rsplit(":", 1)[1].split("/")[0]
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".yaml", ".html", ".md"):
            assert f":{port}" not in path.read_text(), path


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("teacher.model=other",), "has no model 'other' (there are: quickstart addition none)"),
        (("teacher.url=http://api.example.com/v1",), "api.example.com is not this machine"),
        (("teacher.url=http://127.0.0.1:9/v1", "teacher.retries=0"), "no answer after 1 tries"),
        (("teacher.logprobs=5",), "tokenizer must be named for logprobs"),
        (("teacher.prompts=ids",), "tokenizer must be named for prompts=ids"),
        (("teacher.scoring=echo", "teacher.tokenizer=x"), "logprobs must be above 0"),
        (("attacker=logprob_kd",), "is served and has none"),
        (("defense=decoding/perturbed",), "is served and can only be edited"),
        (("teacher.key_variable=NO_SUCH_VARIABLE",), "NO_SUCH_VARIABLE: must hold"),
    ],
)
def test_a_served_teacher_that_cannot_be_is_one_line(tmp_path, offered, capsys, more, line):
    with serving(app(offered)) as url:
        assert cli.main(["plan", "quickstart", "--runs", str(tmp_path), *words(url, *more)]) == 2
    printed = capsys.readouterr().err
    assert line in printed and printed.count("\n") == 1


def test_what_an_interface_does_not_release_is_refused(offered):
    """`serve` behind `text` has no logprobs to give; `full` has them all."""
    prompt = Prompt("p", "410+426=")
    whole = offered.model.generate([prompt], seed=0, interface=Interface("full"))[0]
    assert whole.logprobs.ids_TK.shape[1] == len(offered.model.tokenizer)


def test_whoever_has_the_export_says_where_the_model_is():
    """`--where NAME=URL`, or NAME@REVISION=URL."""
    private.hold(private.meanings("owner/model:7b=http://127.0.0.1:1/v1"))
    private.hold(private.meanings("owner/model:7b@two=http://127.0.0.1:2/v1"))
    for revision, port in (("", 1), ("two", 2)):
        place = place_of(private.server("owner/model:7b", revision))
        assert place.url == f"http://127.0.0.1:{port}/v1"
    assert place_of(private.server("owner/model:7b", "three")).url == ""
