"""Stage `teacher`: the model that is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.attackers import AttackerResources
from distill.attackers.sft import Attacker, Settings
from distill.completions import BadInput, write_bytes, write_completions
from distill.folders import load, save
from distill.recordings import read_recorded
from experiments.private import shown
from experiments.settings.components import build
from experiments.stages.means import solved
from experiments.stages.stage import canonical
from experiments.stages.training import trained

VERSION = 1


def run(settings: Any, inputs: list[Path], out: Path) -> None:
    """Train the teacher by recipe on worked solutions of its own split, or write down where it
    comes from.

    BadInput where it diverged, or is a pretrained one that cannot be loaded.
    """
    if settings.get("kind") == "recorded":
        recorded = read_recorded(
            Path(shown(settings["path"])), settings["prompt"], settings["answer"]
        )
        return write_completions(out / "recorded.parquet", list(recorded.answers.values()))
    if settings.get("kind") == "pretrained":
        load(shown(settings["path"]), allow_pickle=settings["allow_pickle"])
        return write_bytes(out / "pretrained.json", canonical(settings).encode())
    task = build("task", settings["task"])
    items = task.train_items(settings["items"], settings["seed"])
    model, report = trained(
        task, settings, Attacker(Settings()), solved(items), AttackerResources(), out
    )
    if report["diverged"]:
        raise BadInput(
            f"teacher: its training diverged after {report['steps']} steps; lower its learning "
            "rate of "
            f"{report['learning_rate']:g}"
        )
    save(model, out)
    write_bytes(out / "training.json", canonical(report | {"items": len(items)}).encode())
