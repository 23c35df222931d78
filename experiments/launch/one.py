"""Makes one stage's result, in this process."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from experiments.stage import Stage
from experiments.store import Store


def make(stage: Stage, root: Path, threads: int = 1) -> float:
    """Make one stage's result in the store; its inputs are there already. Returns the seconds that it took."""
    import torch

    torch.set_num_threads(threads)
    store = Store(root)
    inputs = [store.open(needed.kind, needed.key) for needed in stage.inputs]
    kind = importlib.import_module(f"experiments.stages.{stage.kind}")
    folder = store.make(stage.kind, stage.key, lambda out: kind.run(stage.settings, inputs, out), {"threads": threads})
    return float(json.loads((folder / "done.json").read_text())["seconds"])
