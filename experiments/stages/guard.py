"""Stage `guard`: a defence whose strength is found or that learns, made ready."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from defenses import ProviderResources
from distill.completions import Interface, write_bytes
from experiments.settings.components import build, build_defense, teach_defense
from experiments.stages.guarded import given
from experiments.stages.opened import opened
from experiments.stages.stage import canonical

VERSION = 1


def run(settings: Any, inputs: list[Path], out: Path) -> None:
    """Prepare a defence: find its strength where that is matched to what it costs, and teach what
    learns.
    """
    task, model = build("task", settings["task"]), opened(inputs[0])
    has, spec, matched = given(task, settings["given"], inputs[1:]), settings["defense"], None
    if settings["match"]:
        spec, matched = _matched(task, model, spec, has, settings["match"])
    numbers: dict[str, float] = {}
    for place, learned in enumerate(teach_defense(spec, has, model)):
        save_file(
            {name: tensor.contiguous() for name, tensor in learned.items()},
            out / f"{place}.safetensors",
        )
        numbers |= {
            f"{spec[place]['name']}.{name}": float(one)
            for name, one in learned.items()
            if not one.dim()
        }
    write_bytes(
        out / "guard.json",
        canonical({"defense": spec, "matched": matched, "numbers": numbers}).encode(),
    )


def _matched(
    task: Any, model: Any, spec: list[Any], has: ProviderResources, match: Any
) -> tuple[list[Any], dict[str, Any]]:
    """The spec with its strength set so that the teacher loses the points it is matched to, and how
    that was found.
    """
    items = task.items("select", match["items"], 0)
    knob = build_defense(spec).parts[match["part"]].knob

    def set_to(share: float) -> list[Any]:
        one = spec[match["part"]]
        value = round(knob.at(share)) if isinstance(knob.strongest, int) else knob.at(share)
        changed = one | {"settings": one["settings"] | {knob.name: value}}
        return [changed if place == match["part"] else other for place, other in enumerate(spec)]

    def right(guarded: Any) -> float:
        said = [
            guarded.generate([i.prompt for i in items], seed=s, interface=Interface())
            for s in range(match["seeds"])
        ]
        graded = [
            task.grade(a.text, i.reference) == "right"
            for one in said
            for a, i in zip(one, items, strict=True)
        ]
        return sum(graded) / len(graded)

    def lost(share: float) -> float:
        asked = set_to(share)
        learned = teach_defense(asked, has, model)
        return 100 * (clean - right(build_defense(asked, has, learned)(model)))

    clean = right(model)
    share, loss, tried = strength_at(lost, match["points"])
    spec = set_to(share)
    value = spec[match["part"]]["settings"][knob.name]
    return spec, {
        "knob": knob.name,
        "value": value,
        "points": match["points"],
        "loss": loss,
        "tried": tried,
    }


def strength_at(
    lost: Callable[[float], float], points: float, halvings: int = 7
) -> tuple[float, float, list[tuple[float, float]]]:
    """The share in (0, 1] of a defence's strength at which the honest user loses `points`, by
    bisection.

    `lost` is taken to rise with strength. Returns the share tried whose loss is nearest to `points`
    (the weaker of equals), that loss, and everything that was tried; where even full strength costs
    less, that is full strength.
    """
    tried = [(1.0, lost(1.0))]
    low, high = 0.0, 1.0
    for _ in range(halvings if tried[0][1] > points else 0):
        middle = (low + high) / 2
        tried.append((middle, lost(middle)))
        low, high = (middle, high) if tried[-1][1] < points else (low, middle)
    share, loss = min(tried, key=lambda one: (abs(one[1] - points), one[0]))
    return share, loss, tried
