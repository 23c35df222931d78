"""All claims on a plugin, held on what is small and made here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from distill.completions import Interface
from experiments.contracts import (
    Result,
    attackers,
    configs,
    defenses,
    detectors,
    hold,
    tasks,
    worlds,
)
from experiments.contracts.defenses import Case, Variant
from experiments.settings.catalog import Plugin
from experiments.settings.components import load_module
from experiments.settings.entries import build_task, resolve


def check(plugin: Plugin) -> Iterator[Result]:
    """The result of every claim on a plugin.

    Raises:
        BadInput: its file cannot be imported, or its config's settings are not what it allows.
    """
    load_module(plugin.group, plugin.name)
    name = f"{plugin.group}/{plugin.name}"
    results = [
        one for claim in configs.CLAIMS for one in hold(claim, name, plugin.group, plugin.name)
    ]
    yield from results
    if any(one.reason for one in results):
        return  # with another config than its file's nothing else means anything
    resolve(plugin.group, plugin.name)
    yield from CHECKS[plugin.group](plugin.name)


def _check_defense(name: str) -> Iterator[Result]:
    for claim in defenses.ITSELF:
        yield from hold(claim, name, name)
    for world, case in _cases():
        for variant in (Variant(name), *defenses.choices(name)):
            for rule in defenses.CLAIMS:
                yield from hold(rule, f"{variant} on {world}", variant, case)


def _cases() -> Iterator[tuple[str, Case]]:
    """Tiny teachers, with what is sold of their answers, by what they are called."""
    characters, greedy = worlds.character_world(), worlds.character_world(temperature=0.0)
    sold: Sequence[tuple[str, worlds.World, Interface]] = (
        ("a model of characters", characters, Interface()),
        ("a model of characters", characters, Interface("top_k", 4)),
        ("a model of characters", characters, Interface("full")),
        ("a greedy model of characters", greedy, Interface("top_k", 4)),
        ("a chat model", worlds.chat_world(), Interface("top_k", 20)),
    )
    for name, world, interface in sold:
        yield f"{name} that releases {interface.kind}", Case(world, interface)


def _check_attacker(name: str) -> Iterator[Result]:
    for claim in attackers.CLAIMS:
        yield from hold(claim, name, name)


def _check_task(name: str) -> Iterator[Result]:
    task = build_task(name)
    for claim in tasks.CLAIMS:
        yield from hold(claim, name, task)


def _check_detector(name: str) -> Iterator[Result]:
    for claim in detectors.CLAIMS:
        yield from hold(claim, name, name)


CHECKS = {
    "defense": _check_defense,
    "attacker": _check_attacker,
    "task": _check_task,
    "detector": _check_detector,
}
