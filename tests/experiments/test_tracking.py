"""wandb is a sink: offline works without a key, online falls back, and trouble never
stops a run.
"""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import live, tracking, wandb_runs
from experiments.planning import plan
from experiments.results.read import measures_of
from experiments.settings import schema
from experiments.store import Store
from experiments.tracking import Part, Run, Tracking, replay
from experiments.wandb_runs import comparison
from tests.experiments.small import STUDY

ROOT = Path(__file__).parents[2]
RUN = Run(
    id="distill-abc",
    name="none/sft",
    group="g",
    job="distill",
    tags=("defended",),
    config={"seed": 1}
    | comparison(
        task="t",
        defense="release/top_k",
        attacker="sft",
        student="tiny",
        budget=8,
        strength=5,
        adaptive=False,
    ),
    curves={"distill/loss": [(20, 1.5), (40, 0.5)]},
    summary={"result/student_acc": 0.5},
    tables={"samples": (["a", "b"], [["x", "y"]])},
    files=(),
)


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def inspected(folder, *options):
    """What wandb's own reader finds in the one offline run below a folder."""
    (path,) = folder.rglob("*.wandb")
    words = [
        str(Path(sys.executable).with_name("wandb")),
        "leet",
        "inspect",
        "--json",
        *options,
        str(path),
    ]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.enable_socket
def test_an_offline_run_holds_config_curve_and_summary_and_is_sent_once(tmp_path):
    seen = []
    assert replay([RUN], Tracking(mode="offline"), tmp_path, seen.append) == 1 and not seen
    data = json.loads(inspected(tmp_path, "--summary"))
    assert (data["run_id"], data["name"], data["tags"], data["state"]) == (
        RUN.id,
        RUN.name,
        ["defended"],
        "finished",
    )
    assert data["config"] == RUN.config
    assert data["summary"]["result/student_acc"] == 0.5 and data["summary"]["samples"]["nrows"] == 1
    records = [json.loads(line) for line in inspected(tmp_path).splitlines()]
    (run,) = [record["run"] for record in records if record["type"] == "run"]
    assert (run["run_group"], run["job_type"]) == ("g", "distill")
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [(r["distill/step"], r["distill/loss"]) for r in rows if "distill/loss" in r] == [
        (20, 1.5),
        (40, 0.5),
    ]
    assert replay([RUN], Tracking(mode="offline"), tmp_path, seen.append) == 0


@pytest.mark.enable_socket
def test_an_offline_run_holds_the_report_and_what_it_was_made_from(tmp_path):
    page = tmp_path / "report.html"
    page.write_text("<h1>a report</h1>")
    parts = (
        Part("teacher", "1a", {"model.safetensors": "0" * 64}),
        Part("student", "2b", {"model.safetensors": "1" * 64}, made=True),
    )
    seen = []
    run = replace(RUN, lineage=parts, page=page)
    assert replay([run], Tracking(mode="offline"), tmp_path, seen.append) == 1 and not seen
    assert [path.read_text() for path in tmp_path.rglob("media/html/*.html")] == [page.read_text()]
    records = [json.loads(line) for line in inspected(tmp_path).splitlines()]
    artifacts = [r["request"]["log_artifact"]["artifact"] for r in records if is_artifact(r)]
    artifacts += [record["artifact"] for record in records if record["type"] == "artifact"]
    assert {(a["name"], a["type"]) for a in artifacts} >= {
        ("teacher-1a", "teacher"),
        ("student-2b", "student"),
    }
    page.write_text("<h1>another</h1>")
    assert replay([run], Tracking(mode="offline"), tmp_path, seen.append) == 1


def is_artifact(record):
    return record["type"] == "request" and "log_artifact" in record["request"]


@pytest.mark.parametrize("online", [True, False])
def test_online_a_run_uses_what_it_was_made_from(online, monkeypatch):
    import wandb

    class Sink:
        def __init__(self):
            self.calls = []

        def log_artifact(self, artifact):
            self.calls.append(("log", artifact))

        def use_artifact(self, artifact):
            self.calls.append(("use", artifact))

    monkeypatch.setattr(wandb, "Artifact", lambda name, kind, metadata: name)
    sink, parts = Sink(), (Part("teacher", "1", {}), Part("student", "2", {}, made=True))
    run = replace(RUN, lineage=parts)
    tracking._log_artifacts(sink, run, Tracking(mode="online"), online)
    word = "use" if online else "log"
    assert sink.calls == [(word, "teacher-1"), ("log", "student-2")]
    tracking._log_artifacts(sink, run, Tracking(mode="online", artifacts="none"), online)
    assert len(sink.calls) == 2


@pytest.mark.enable_socket
@pytest.mark.parametrize("key", [None, "0" * 40])
def test_online_without_a_key_or_a_server_is_kept_offline_with_one_line(key, tmp_path, monkeypatch):
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    seen = []
    assert replay([RUN], Tracking(mode="online", timeout=2), tmp_path, seen.append) == 1
    assert (
        len(seen) == 1
        and ("no API key" if key is None else "127.0.0.1:9 cannot be reached") in seen[0]
    )
    assert "wandb sync" in seen[0] and list(tmp_path.rglob("*.wandb"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://h:notaport", "cannot be reached"),
        ("http://[", "cannot be reached"),
        ("", "cannot be reached"),
        ("http://127.0.0.1:99999", "cannot be reached"),
        ("nonsense", "cannot be reached"),
    ],
)
def test_an_address_that_is_none_is_one_line_and_the_runs_are_kept(
    address, message, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", address)
    sent, seen = [], []
    monkeypatch.setattr(
        tracking, "_send", lambda run, settings, folder, online: sent.append((run.id, online))
    )
    assert replay([RUN], Tracking(mode="online", timeout=1), tmp_path, seen.append) == 1
    assert (
        sent == [(RUN.id, False)]
        and len(seen) == 1
        and message in seen[0]
        and os.environ["WANDB_BASE_URL"] == address
    )


@pytest.fixture
def sink(monkeypatch, tmp_path):
    """In wandb's place: a folder a run, as it writes offline; a run of a name in `fails` is left
    half-way.
    """

    class Sink:
        fails: tuple[str, ...] = ()
        ids: list[str] = []

        def send(self, run, settings, folder, online):
            place = folder / "wandb" / "wandb" / f"offline-run-2026{len(self.ids):04}-{run.id}"
            self.ids = [*self.ids, run.id]
            if not online:
                place.mkdir(parents=True)
                (place / f"run-{run.id}.wandb").touch()
            if run.name in self.fails:
                raise RuntimeError("wandb\nfell over")

        def sync(self):
            for path in tmp_path.rglob("*.wandb"):
                path.with_suffix(".wandb.synced").touch()

    made = Sink()
    monkeypatch.setattr(tracking, "_send", made.send)
    monkeypatch.setattr(tracking, "reachable", lambda *_: True)
    return made


def replayed(folder, *runs, mode="offline"):
    """How many runs were sent, what was said, and the ids that now have offline files."""
    seen = []
    count = replay(runs, Tracking(mode=mode), folder, seen.append)
    return count, seen, sorted(path.stem.removeprefix("run-") for path in folder.rglob("*.wandb"))


def test_one_bad_run_stops_no_other_and_is_one_line(tmp_path, sink):
    runs = [replace(RUN, id=f"distill-{i}", name=f"arm {i}") for i in range(4)]
    sink.fails = ("arm 1", "arm 2")
    count, (line,), _ = replayed(tmp_path, *runs)
    assert count == 2 and line.startswith(
        "wandb: arm 1: wandb fell over (and 1 more); results are kept, later: wandb"
    )
    sink.fails = ()
    assert replayed(tmp_path, *runs) == (2, [], [f"distill-{i}" for i in range(4)])


def test_a_run_that_was_left_half_way_takes_its_own_place(tmp_path, sink):
    sink.fails = (RUN.name,)
    for _ in range(3):
        assert replayed(tmp_path, RUN)[::2] == (0, [RUN.id])
    sink.fails = ()
    assert replayed(tmp_path, RUN) == (1, [], [RUN.id]) and replayed(tmp_path, RUN) == (
        0,
        [],
        [RUN.id],
    )


def test_a_run_that_changed_takes_its_place_until_it_was_synced_and_then_another_id(tmp_path, sink):
    changed = [replace(RUN, summary={"result/student_acc": share / 10}) for share in range(4)]
    assert replayed(tmp_path, changed[0]) == replayed(tmp_path, changed[1]) == (1, [], [RUN.id])
    sink.sync()
    assert replayed(tmp_path, changed[2]) == (1, [], [RUN.id, f"{RUN.id}-2"])
    sink.sync()
    assert replayed(tmp_path, changed[3]) == (1, [], [RUN.id, f"{RUN.id}-2", f"{RUN.id}-3"])
    assert replayed(tmp_path, changed[3])[0] == 0


def test_online_no_id_is_used_twice_and_offline_files_give_way(tmp_path, sink):
    assert replayed(tmp_path, RUN) == (1, [], [RUN.id])
    assert replayed(tmp_path, RUN, mode="online") == (1, [], []) and sink.ids == [RUN.id] * 2
    sink.fails = (RUN.name,)
    changed = replace(RUN, summary={})
    replayed(tmp_path, changed, mode="online")
    sink.fails = ()
    replayed(tmp_path, changed, mode="online")
    assert sink.ids[2:] == [f"{RUN.id}-2", f"{RUN.id}-3"]


@pytest.mark.parametrize(
    "text", ["[", "7", '{"a": 1}', '{"a": [1]}', "[[]]", '["x"]', "\x00", "[" * 100_000]
)
def test_a_damaged_list_of_what_was_sent_is_one_line(text, tmp_path, sink):
    (tmp_path / "tracking.json").write_text(text)
    count, lines, _ = replayed(tmp_path, RUN)
    assert count == 1 and len(lines) == 1 and "is damaged; every run is sent again" in lines[0]


def test_a_list_of_before_attempts_is_understood(tmp_path, sink):
    content = tracking._digest(tracking.anonymous(RUN))
    (tmp_path / "tracking.json").write_text(json.dumps([f"offline/{RUN.id}/{content}"]))
    assert replayed(tmp_path, RUN)[0] == 0


@pytest.mark.enable_socket
@pytest.mark.parametrize("identity", [False, True])
def test_this_machine_and_where_things_lie_are_sent_only_if_asked(identity, tmp_path):
    home = "/home/somebody/data"
    run = replace(
        RUN,
        name=f"x(path='{home}')",
        config=RUN.config | {"teacher": {"path": home, "n": [f"t({home})"]}},
    )
    replay([run], Tracking(mode="offline", identity=identity), tmp_path, print)
    sent = inspected(tmp_path)
    assert (home in sent) is identity and (f'"{socket.gethostname()}"' in sent) is identity


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), 9)"])
def test_temporary_files_go_with_their_process_or_at_the_next_replay(end, tmp_path, sink):
    code = f"""if True:
        import os, tempfile
        from pathlib import Path
        from experiments import tracking
        with tracking.environment(Path({str(tmp_path / "wandb")!r})):
            Path(tempfile.mkdtemp(), "left").touch()
        {end}"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=end == "pass")
    assert bool([*tmp_path.rglob("left")]) is (end != "pass")
    replayed(tmp_path, RUN)
    assert not [*tmp_path.rglob("left")]


@pytest.mark.parametrize(
    ("text", "shortened"),
    [
        ("gsm8k(path='/home/a/data')", "gsm8k(path='…/data')"),
        ("release/top_k(k=5)", "release/top_k(k=5)"),
        ("../shared/data/gsm8k", "../shared/data/gsm8k"),
        ("~/x/y", "…/y"),
        ("C:\\a\\b\\c.json", "…/c.json"),
        ("https://huggingface.co/a/b", "https://huggingface.co/a/b"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("/a", "/a"),
        (["/a/b", {"x": "/c/d/e"}], ["…/b", {"x": "…/e"}]),
        (7, 7),
        ("1/2", "1/2"),
    ],
)
def test_of_an_absolute_path_the_last_name_is_left(text, shortened):
    assert tracking._shortened(text) == shortened


def test_off_touches_nothing(tmp_path):
    assert replay([RUN], Tracking(mode="off"), tmp_path, print) == 0 and not list(
        tmp_path.iterdir()
    )


def test_a_cell_is_all_but_the_seed():
    columns = RUN.config
    assert "seed" not in columns["cmp.cell"] and all(
        value is not None for value in columns.values()
    )


def test_a_run_has_its_own_values_and_its_cells_and_leads_back_to_the_teacher(small):
    planned = plan.make(schema.load("quickstart", STUDY))
    home, store = small / "quickstart", Store(small / "store")
    measures = measures_of(home)
    *students, compare = wandb_runs.runs(planned, store, measures, home)
    assert compare.page == home / "report.html" and compare.config.keys() >= RUN.config.keys() - {
        "seed"
    }
    words = [value for name, value in compare.summary.items() if name.startswith("verdict/")]
    assert words == [row.verdict for row in measures.rows if row.verdict]
    for row in measures.rows:
        cell = (row.task, row.defense, row.attacker, row.budget)
        runs = [run for run in students if cell_of(run) == cell]
        accuracies = [run.summary["result/student_acc"] for run in runs]
        assert len(accuracies) == row.seeds
        assert sum(accuracies) / row.seeds == pytest.approx(row.defended)
        for run in runs:
            summary = run.summary
            assert summary["cell/transfer_lo"] == row.transfer_lo
            assert summary["cell/verdict"] == row.verdict
            assert summary["result/uplift"] == pytest.approx(
                summary["result/student_acc"] - row.floor
            )
            assert [part.kind for part in run.lineage if part.made] == [run.lineage[-1].kind]
            assert run.lineage[-1].key in {arm.student.key for arm in planned.arms}


def cell_of(run):
    names = ("cmp.task", "cmp.defense", "cmp.attacker", "cmp.query_budget")
    return tuple(run.config[name] for name in names)


@pytest.mark.enable_socket
def test_losses_are_live_while_a_training_is_under_way(tmp_path, monkeypatch):
    """A line that is half written waits for its end; what was sent is not sent again."""
    monkeypatch.setattr(live, "AFTER", 0)
    monkeypatch.setattr(live, "EVERY", 0)
    seen, path = [], tmp_path / ".key.losses"
    watched = live.Live("study", Tracking(mode="offline"), tmp_path, seen.append)
    files = [("student trace none sft 8 seed 0", path), ("teacher trace", tmp_path / "none")]
    watched.look(files)
    assert not list(tmp_path.rglob("*.wandb")), "nothing is trained yet"
    path.write_text("20 1.5\n40 1.2")
    watched.look(files)
    path.write_text("20 1.5\n40 1.25\n")
    watched.look(files)
    watched.look(files)
    watched.close()
    records = [json.loads(line) for line in inspected(tmp_path).splitlines()]
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    name = files[0][0]
    assert [(row[f"{name}/step"], row[f"{name}/loss"]) for row in rows] == [(20, 1.5), (40, 1.25)]
    (run,) = [record["run"] for record in records if record["type"] == "run"]
    assert (run["display_name"], run["job_type"], seen) == ("live/study", "live", [])


def test_trouble_with_live_losses_is_one_line_and_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "AFTER", 0)
    monkeypatch.setattr(live, "EVERY", 0)
    seen, path = [], tmp_path / ".key.losses"
    path.write_text("20 x\n")
    watched = live.Live("study", Tracking(mode="offline"), tmp_path, seen.append)
    watched.look([("a", path)])
    watched.look([("a", path)])
    watched.close()
    (line,) = seen
    assert line.startswith("wandb: live losses are not sent (could not convert")
    off = live.Live("study", Tracking(mode="off"), tmp_path, seen.append)
    off.look([("a", path)])
    assert len(seen) == 1
