"""An entry of a defence taken apart: its parts, and the strength that is found by its cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from defenses import DefensePipeline
from distill.completions import BadInput
from experiments.settings.catalog import cached
from experiments.settings.components import Component, ComponentSpec
from experiments.settings.entries import Strict, checked, resolve_parsed
from experiments.settings.grammar import parse_entry, split


class Match(Strict):
    """Which part of a defence is set to what strength: the one at which the honest user loses that
    many points.
    """

    part: int
    points: Annotated[float, Field(strict=True, gt=0, le=100)]


@dataclass(frozen=True)
class DefenseSpec:
    """A defence entry taken apart: its parts with checked settings, as they were listed."""

    parts: tuple[Component, ...]
    chain: DefensePipeline
    match: Match | None

    @property
    def spec(self) -> list[ComponentSpec]:
        """What stages are told."""
        return [part.spec for part in self.parts]


@cached
def parse_defense(entry: str) -> DefenseSpec:
    """A defence, or several joined by `+`.

    Args:
        entry: as `decoding/perturbed(eps=0.5) + release/truncate`.

    Raises:
        BadInput: they cannot act in that order, or cannot be matched to a cost.
    """
    parts, instances, match = [], [], None
    for place, text in enumerate(split(entry, "+")):
        parsed = parse_entry(text)
        matched = "match_utility" in parsed.changes
        points = parsed.changes.pop("match_utility", None)
        part = resolve_parsed("defense", parsed, text)
        instance = part.build()
        if matched and match:
            raise BadInput(
                f"defense {entry}: match_utility: one part can be matched, the others keep their "
                "settings"
            )
        if matched:
            match = checked(
                Match, {"part": place, "points": points}, f"defense {text}: match_utility"
            )
            # What it needs and where it acts is asked of it as it will be, and its own strength may
            # be none.
            instance = _at_full_strength(text, part, instance)
        parts.append(part)
        instances.append(instance)
    whole = DefensePipeline(tuple(part.name for part in parts), tuple(instances))
    return DefenseSpec(tuple(parts), whole, match)


def _at_full_strength(entry: str, part: Component, instance: Any) -> Any:
    """A defence whose strength can be found by its cost, set to its strongest;
    BadInput for others.
    """
    why = (
        "has no one setting that is its strength"
        if instance.traits.strength is None
        else "changes no text"
        if instance.traits.acts_on == "logprobs"
        else "keeps the final answers as they are"
        if instance.traits.keeps_answer
        else ""
    )
    if why:
        raise BadInput(
            f"defense {entry}: match_utility: {part.name} {why}, so it cannot be set by its cost"
        )
    strength = instance.traits.strength
    settings = part.spec.settings | {strength.name: strength.strongest}
    return type(instance)(type(instance.settings)(**settings))
