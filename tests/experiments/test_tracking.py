"""wandb is a sink: offline works without a key, online falls back, and trouble never stops a run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import tracking
from experiments.tracking import Run, Tracking, comparison, replay

RUN = Run(
    id="distill-abc", name="none/sft", group="g", job="distill", tags=("defended",), config={"seed": 1} | comparison(
        task="t", defense="release/top_k", attacker="sft", student="tiny", budget=8, strength=5, adaptive=False),
    curves={"distill/loss": [(20, 1.5), (40, 0.5)]}, summary={"result/student_acc": 0.5},
    tables={"samples": (["a", "b"], [["x", "y"]])}, files=(),
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def inspected(folder, *options):
    """What wandb's own reader finds in the one offline run below a folder."""
    (path,) = folder.rglob("*.wandb")
    words = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", *options, str(path)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.enable_socket
def test_an_offline_run_holds_config_curve_and_summary_and_is_sent_once(tmp_path):
    said = []
    assert replay([RUN], Tracking(mode="offline"), tmp_path, said.append) == 1 and not said
    found = json.loads(inspected(tmp_path, "--summary"))
    assert (found["run_id"], found["name"], found["tags"], found["state"]) == (
        RUN.id,
        RUN.name,
        ["defended"],
        "finished",
    )
    assert found["config"] == RUN.config
    assert found["summary"]["result/student_acc"] == 0.5 and found["summary"]["samples"]["nrows"] == 1
    records = [json.loads(line) for line in inspected(tmp_path).splitlines()]
    (run,) = [record["run"] for record in records if record["type"] == "run"]
    assert (run["run_group"], run["job_type"]) == ("g", "distill")
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [(r["distill/step"], r["distill/loss"]) for r in rows if "distill/loss" in r] == [(20, 1.5), (40, 0.5)]
    assert replay([RUN], Tracking(mode="offline"), tmp_path, said.append) == 0


@pytest.mark.enable_socket
@pytest.mark.parametrize("key", [None, "0" * 40])
def test_online_without_a_key_or_a_server_is_kept_offline_with_one_line(key, tmp_path, monkeypatch):
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    said = []
    assert replay([RUN], Tracking(mode="online", timeout=2), tmp_path, said.append) == 1
    assert len(said) == 1 and ("no API key" if key is None else "127.0.0.1:9 cannot be reached") in said[0]
    assert "wandb sync" in said[0] and list(tmp_path.rglob("*.wandb"))


def test_whatever_wandb_raises_is_one_line(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("wandb\nfell over")

    monkeypatch.setattr(tracking, "_send", broken)
    said = []
    assert replay([RUN], Tracking(mode="offline"), tmp_path, said.append) == 0
    assert said[0].startswith("wandb: wandb fell over; results are kept")


def test_off_touches_nothing(tmp_path):
    assert replay([RUN], Tracking(mode="off"), tmp_path, print) == 0 and not list(tmp_path.iterdir())


def test_a_cell_is_all_but_the_seed():
    columns = RUN.config
    assert "seed" not in columns["cmp.cell"] and all(value is not None for value in columns.values())
