"""Stage `student`: what an attacker makes of the answers that it holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill import logprob_cache
from distill.attackers import AttackerResources
from distill.completions import Completion, Interface, Prompt, read_completions, write_bytes
from distill.folders import save
from experiments.settings.components import build, build_defense
from experiments.stages.guarded import guarded
from experiments.stages.means import means
from experiments.stages.opened import opened
from experiments.stages.stage import canonical
from experiments.stages.training import fresh, trained, training

VERSION = 1


def run(settings: Any, inputs: list[Path], out: Path) -> None:
    """The attacker cleans the answers it holds and trains its student on them."""
    said = read_completions(inputs[0] / "answers.parquet")
    task, attacker = build("task", settings["task"]), build("attacker", settings["attacker"])
    found = json.loads((inputs[-1] / "choice.json").read_text()) if settings.get("searched") else {}
    settings = settings | {"shape": settings["shape"] | found}
    # A campaign that got nothing has an untrained student.
    steps = 0 if settings.get("leaked") and not said else _steps(settings)
    settings["shape"] |= {"steps": steps}
    if (inputs[0] / "signals").is_dir():
        vocabulary = fresh(task, settings["shape"], 0).vocabulary
        said = logprob_cache.read(inputs[0] / "signals", tokenizer=vocabulary).attach(said)
    own = AttackerResources()
    if "own" in settings:
        own = means(
            task,
            settings,
            **training(task, settings["shape"]),
            **_released(task, settings, inputs[1:]),
        )
    for one in settings.get("clean", []):
        said = build("attacker", one).clean(said, own, seed=settings["seed"])
    model, report = trained(task, settings, attacker, said, own, out)
    unread = sum(task.final(answer.text) is None for answer in said) / max(len(said), 1)
    save(model, out)
    write_bytes(out / "training.json", canonical(report | {"no_final": unread}).encode())


def _steps(settings: Any) -> int:
    """The recipe's steps, and those by which the longest attack of the study trains longer.

    `times` as many in all where a plateau is looked for, `followed` of which are taken after this
    stage.
    """
    times, more = settings.get("times", 1), settings.get("more", 0)
    return int(
        times * (settings["shape"]["steps"] + more) + (times - 1) * settings.get("followed", 0)
    )


def _released(task: Any, settings: Any, folders: list[Path]) -> dict[str, Any]:
    """The provider as an attacker can go on asking it, and its defence as the attacker can rebuild
    it.
    """
    if "released" not in settings:
        return {}
    released = settings["released"]
    if "teacher" in released["given"]:
        held = dict(zip(released["given"], folders, strict=False))
        given = [name for name in held if name != "teacher"]
        told = {"defense": released["defense"], "given": given}
        return {
            "teacher": guarded(task, opened(held["teacher"]), told, [held[name] for name in given])
        }
    rebuilt = build_defense([_with_own_key(one) for one in released["defense"]])
    return {
        "defense": lambda said: rebuilt(_Said(said)).generate(
            (), seed=settings["seed"], interface=Interface("full")
        )
    }


@dataclass(frozen=True)
class _Said:
    """Answers that are there already, as a model whose answers can be edited."""

    said: Sequence[Completion]

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        return list(self.said)


def _with_own_key(part: Any) -> Any:
    """A defence's settings with the provider's secret replaced by the attacker's guess of one."""
    secret = {"key": "the attacker's own"} if "key" in part["settings"] else {}
    return part | {"settings": part["settings"] | secret}
