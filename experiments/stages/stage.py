"""A stage: a function of its spec and the results of its inputs, with a content address."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from distill.completions import digest
from experiments.settings.components import ComponentSpec

T = TypeVar("T")


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: the same value gives the same text.

    Args:
        value: of anything that JSON holds.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def key(stage: str, settings: object, inputs: Mapping[str, str]) -> str:
    """The content address of a stage's result (first 16 hexadecimal digits of its SHA-256).

    Args:
        stage: its kind.
        settings: of anything that JSON holds.
        inputs: the addresses of what it is made of, by name.
    """
    return digest(canonical([stage, settings, inputs]))[:16]


class Sparse(BaseModel):
    """Frozen values that are written without what is at its default: a new option with a default
    leaves old addresses as they were.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            name: value
            for name, value in dump(self).items()
            if getattr(self, name) != fields[name].default
        }


class TaskSpec(Sparse, ComponentSpec):
    """A task; `data` is the SHA-256 of files that its questions come from."""

    settings: dict[str, Any]
    data: str = ""


class Spec(Sparse):
    """What a stage is told. `STAGE` is its kind: `experiments/stages/<kind>.py` holds its spec and
    `run(spec, inputs, out)`.
    """

    STAGE: ClassVar[str]


@dataclass(frozen=True)
class Inputs(Generic[T]):
    """What a stage is made of, by name: stages where it is planned, their folders where it is made.

    A field is one input, None, other inputs, or a tuple of any of these.
    """

    def named(self) -> dict[str, T]:
        """Every input by its name, in the order of the fields; dots go down into other inputs."""
        return dict(
            leaf for one in fields(self) for leaf in _leaves(one.name, getattr(self, one.name))
        )

    def map(self, change: Callable[[T], Any]) -> Self:
        """The same inputs, each changed.

        Args:
            change: what is put in the place of an input.
        """
        changed = {one.name: _mapped(getattr(self, one.name), change) for one in fields(self)}
        return replace(self, **changed)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Inputs):
        for inner, leaf in value.named().items():
            yield f"{name}.{inner}", leaf
    elif isinstance(value, tuple):
        for place, inner in enumerate(value):
            yield from _leaves(f"{name}.{place}", inner)
    elif value is not None:
        yield name, value


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, Inputs):
        return value.map(change)
    if isinstance(value, tuple):
        return tuple(_mapped(inner, change) for inner in value)
    return None if value is None else change(value)


@dataclass(frozen=True)
class Stage:
    """What is to be made."""

    spec: Spec
    needs: Inputs[Stage] = Inputs()

    @property
    def kind(self) -> str:
        return self.spec.STAGE

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """The spec as it is written down and addressed."""
        return self.spec.model_dump(mode="json")

    @functools.cached_property
    def inputs(self) -> tuple[Stage, ...]:
        """The stages that it is made of."""
        return tuple(self.needs.named().values())

    @functools.cached_property
    def key(self) -> str:
        inputs = {name: stage.key for name, stage in self.needs.named().items()}
        return key(self.kind, self.settings, inputs)

    def walk(self) -> Iterator[Stage]:
        """This stage and all that it needs, inputs first."""
        for stage in self.inputs:
            yield from stage.walk()
        yield self


class Kind(Protocol):
    """A kind of stage, which is a module of this folder."""

    def run(self, spec: Any, inputs: Any, out: Path) -> dict[str, float] | None:
        """Make a result.

        Args:
            spec: a `Spec` of this kind.
            inputs: the folders of what it is made of, as `Inputs` of this kind.
            out: an empty folder; what is written there is the result.

        Returns:
            What is noted of the making, which is no part of the result, by name.

        Raises:
            BadInput: an input is not whole, or what the spec names does not fit.
        """
