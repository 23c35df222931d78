"""A stage: a function of its settings and the results of its inputs, with a content address."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distill.completions import digest


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same value gives the same text."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def key(stage: str, settings: Any, inputs: list[str]) -> str:
    """The content address of a stage's result (first 16 hexadecimal digits of its SHA-256)."""
    return digest(canonical([stage, settings, inputs]))[:16]


@dataclass(frozen=True)
class Stage:
    """What is to be made: `experiments/stages/<kind>.py` says how."""

    kind: str
    settings: Any
    inputs: tuple[Stage, ...] = ()

    @functools.cached_property
    def key(self) -> str:
        return key(self.kind, self.settings, [stage.key for stage in self.inputs])

    def walk(self) -> Iterator[Stage]:
        """This stage and all that it needs, inputs first."""
        for stage in self.inputs:
            yield from stage.walk()
        yield self
