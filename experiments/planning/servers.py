"""Servers of teachers are tried before anything is written, where something will be asked of
them.
"""

from __future__ import annotations

from dataclasses import replace

from distill.served.connection import Unreachable
from distill.served.probe import probe
from experiments.planning.checks import examples
from experiments.planning.plan import Plan
from experiments.stages.server import response_log, served_model
from experiments.stages.stage import Stage
from experiments.stages.teacher import ServedTeacher
from experiments.store import Store

PROBES = 2  # questions


def check_servers(plan: Plan, store: Store) -> None:
    """Try each served teacher that a stage to be made asks; the plan tells of one that is not there
    where what it said before may be enough.

    Args:
        plan: of a study; facts are added to it.
        store: of results.

    Raises:
        BadInput: a server is not there, is another model, or does not do what its settings say.
    """
    served = [stage for stage in plan.stages if isinstance(stage.spec, ServedTeacher)]
    if not served:
        return
    due = plan.due(store).stages
    for stage in served:
        if any(stage in needed.inputs for needed in due):
            _check(plan, store, stage)


def _check(plan: Plan, store: Store, stage: Stage) -> None:
    assert isinstance(stage.spec, ServedTeacher)
    folder = store.folder(stage.kind, stage.key)
    model = served_model(stage.spec, folder)
    once = replace(model, server=replace(model.server, retries=0))
    task = plan.study.blocks[0].tasks[0]
    try:
        probe(once, [item.prompt for item in examples(task)[:PROBES]])
    except Unreachable as error:
        recorded = len(response_log(folder))
        if not recorded:
            raise
        plan.tell(
            f"{error}; {recorded} answers of it are recorded, and what is not among them will fail"
        )
