"""Makes one stage's result, in this process."""

from __future__ import annotations

import importlib
from pathlib import Path

from experiments import provenance
from experiments.stage import Stage, canonical
from experiments.store import Store


def make(stage: Stage, root: Path, threads: int = 1) -> float:
    """Make one stage's result in the store, unless it is there and current; its inputs are both already.

    Returns the seconds that it took.
    """
    import torch

    torch.set_num_threads(threads)
    store = Store(root)
    inputs = [store.open(needed.kind, needed.key) for needed in stage.inputs]
    kind = importlib.import_module(f"experiments.stages.{stage.kind}")
    maker, held = provenance.now(stage, threads), provenance.inputs(stage, store)
    # Contents, not addresses: two ways to the same answers are one student.
    alike = canonical([stage.kind, stage.settings, [held[needed.key] for needed in stage.inputs], maker])
    store.make(
        stage.kind, stage.key, lambda out: kind.run(stage.settings, inputs, out), maker | {"inputs": held},
        lambda: provenance.current(stage, store, threads), alike,
    )  # fmt: skip
    return float(store.done(stage.kind, stage.key)["seconds"])
