"""Makes one stage's result, in this process."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import cast

from distill.completions import BadInput
from experiments import provenance
from experiments.planning.costs import model_of, seconds
from experiments.stages.stage import Kind, Stage, canonical
from experiments.store import Store


def make(stage: Stage, root: Path, threads: int = 1) -> float:
    """Make one stage's result in the store, unless it is there and current; its inputs are both
    already.

    Args:
        stage: with inputs that are made.
        root: of the store.
        threads: of this process.

    Returns:
        The seconds that it took.

    Raises:
        BadInput: memory is too small for it.
    """
    import torch

    torch.set_num_threads(threads)
    store = Store(root)
    inputs = stage.needs.map(lambda needed: store.open(needed.kind, needed.key))
    kind = cast(Kind, importlib.import_module(f"experiments.stages.{stage.kind}"))
    maker = provenance.now(stage, threads)
    contents = provenance.inputs(stage, store)
    # Contents, not addresses: two ways to the same completions are one student.
    made_of = {name: contents[needed.key] for name, needed in stage.needs.named().items()}
    assumed = {"assumed_seconds": seconds(stage), "worked_with": model_of(stage)}
    alike = canonical([stage.kind, stage.settings, made_of, maker.model_dump(exclude_none=True)])
    try:
        store.make(
            stage.kind,
            stage.key,
            lambda out: (kind.run(stage.spec, inputs, out) or {}) | assumed,
            maker.model_copy(update={"inputs": contents}),
            lambda: provenance.current(stage, store, threads),
            alike,
        )
    except (MemoryError, RuntimeError) as error:
        # torch says the same with exceptions of its own
        if not (
            isinstance(error, MemoryError)
            or re.search("out of memory|can't allocate memory", str(error))
        ):
            raise
        raise BadInput(
            f"out of memory in {stage.kind}/{stage.key}; take fewer --workers or smaller "
            "batches; the same command continues"
        ) from error
    return store.done(stage.kind, stage.key).seconds
