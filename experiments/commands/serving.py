"""The command that offers a defended teacher to callers: serve."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from defenses.access import gateway
from distill.completions import BadInput
from experiments.launch import one
from experiments.planning import plan as planning
from experiments.planning import preflight, servers
from experiments.planning.arms import IDENTITY, learning
from experiments.planning.graph import interface_of
from experiments.planning.plan import Plan
from experiments.planning.scope import Release, Scope, release
from experiments.results.plain import Plain
from experiments.serving.offer import Offer
from experiments.settings import schema as settings
from experiments.settings.campaigns import OPEN
from experiments.settings.entries import build_task, resolve
from experiments.settings.overrides import check_once
from experiments.stages.defended import ProviderInputs, defend
from experiments.stages.models import load_model
from experiments.stages.stage import Stage
from experiments.store import Store, writable

INTERFACES = ("text", "top_k", "full")


def serve(
    *,
    study: str,
    defense: str,
    overrides: list[str],
    env: bool,
    runs: Path,
    task: str | None,
    interface: str | None,
    access: str,
    host: str,
    port: int,
    threads: int,
) -> None:
    """Offer a study's teacher behind one of its defences until Ctrl-C."""
    from experiments.serving.admission import Admission
    from experiments.serving.app import Server, app

    check_once(overrides)
    planned = planning.make(settings.load_named(study, overrides, env))
    task = _task(planned, task)
    interface = interface or _widest(planned, task, defense)
    limits, address = _limits(access), _address(host)
    preflight.check(planned.study)
    store = Store(writable(runs / "store"))
    servers.check_servers(planned, store)
    offer = _offer(planned, store, task, defense, interface, threads)
    server = Server(app(offer, Admission(limits) if limits else None), address, port)
    Plain().print(f"{offer.name!r} at {server.url}; Ctrl-C ends it", soft_wrap=True)
    server.run()


def _task(planned: Plan, task: str | None) -> str:
    tasks = list(dict.fromkeys(arm.task for arm in planned.arms))
    if task is None and len(tasks) == 1:
        return tasks[0]
    if task is None or task not in tasks:
        raise BadInput(f"--task: must be one of the study's, got {task} ({', '.join(tasks)})")
    return task


def _widest(planned: Plan, task: str, defense: str) -> str:
    """The most that any attacker of the study is released by this defence; BadInput if the study
    has no such defence.
    """
    arms = [arm for arm in planned.arms if arm.task == task and arm.defense != IDENTITY]
    attackers = {arm.attacker for arm in arms if arm.defense == defense}
    if not attackers:
        there = ", ".join(dict.fromkeys(arm.defense for arm in arms))
        raise BadInput(f"serve {defense}: the study has no such defence (there are: {there})")
    kinds = ["text", *(learning(attacker).needs_interface for attacker in attackers)]
    return max(kinds, key=INTERFACES.index)


def _limits(access: str) -> gateway.Settings | None:
    """The limits of an access of configs/access; none of the open one."""
    if access == OPEN:
        return None
    limits: gateway.Settings = resolve("access", access).settings.limits  # type: ignore[attr-defined]
    return limits


def _address(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise BadInput(f"--host: must be an address such as 127.0.0.1, got {host!r}") from None


def _offer(
    planned: Plan, store: Store, task: str, defense: str, interface: str, threads: int
) -> Offer:
    """The defended teacher; what of it is not in the store yet is made."""
    scope, console = Scope(planned.study, task), Plain(stderr=True)
    released = release(scope, defense, interface)
    for stage in _needed(scope.teacher, released):
        if not store.has(stage.kind, stage.key):
            console.print(f"making {stage.kind} {stage.key}")
        one.make(stage, store.root, threads)
    opened = released.provider.map(lambda needed: store.open(needed.kind, needed.key))
    inputs = cast(ProviderInputs[Path], opened)
    teacher = load_model(store.open(scope.teacher.kind, scope.teacher.key))
    return Offer(
        name=f"{planned.study.name} {task} {defense}",
        model=defend(build_task(task), teacher, released.defense, inputs),
        interface=interface_of(interface),
        prefill=planned.study.provider.prefill,
        temperature=planned.study.teacher.temperature,
    )


def _needed(teacher: Stage, released: Release) -> Iterator[Stage]:
    """What a defended teacher is made of, inputs first; the same stage may come again."""
    yield from teacher.walk()
    for stage in released.provider.named().values():
        yield from stage.walk()
