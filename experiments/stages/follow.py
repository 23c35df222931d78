"""Stage `follow`: what is done to a student once it is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.completions import write_bytes
from distill.folders import save
from experiments.settings.components import build
from experiments.stages.means import means
from experiments.stages.opened import opened
from experiments.stages.stage import canonical
from experiments.stages.training import recipe_of, training

VERSION = 1


def run(settings: Any, inputs: list[Path], out: Path) -> None:
    """What the attacker does to the student once it is trained."""
    task, model = build("task", settings["task"]), opened(inputs[0])
    own, recipe = (
        means(task, settings, **training(task, settings["shape"])),
        recipe_of(settings["shape"]),
    )
    report = json.loads((inputs[0] / "training.json").read_text())
    for one in settings["follow"]:
        followed = build("attacker", one).follow(model, recipe, own, seed=settings["seed"])
        model = replace(model, network=followed.network.eval())
        report |= {
            name: report[name] + getattr(followed, name)
            for name in ("tokens", "positions", "steps")
        }
        report["diverged"] |= followed.diverged
    save(model, out)
    write_bytes(out / "training.json", canonical(report).encode())
