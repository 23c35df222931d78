"""An entry of an attacker taken apart: its parts in the order in which they act, and batteries of
standard attacks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, cast

from pydantic import BeforeValidator, Field

from distill.attackers import ORDER, Asker, Base, Follower
from distill.completions import BadInput
from distill.specs import TrainingConfig
from experiments.settings.catalog import cached, config_file, names
from experiments.settings.components import Component, ComponentSpec
from experiments.settings.entries import Strict, checked, existing, near, resolve
from experiments.settings.grammar import joined, split
from experiments.settings.reading import read

INTERFACES = ("text", "top_k", "full")
"""What an interface releases, the narrowest first."""


class Battery(Strict):
    """Standard attacks, each with a name; two papers' numbers compare where a battery's name and
    version are the same.

    It has no settings. `strongest` in a list of attackers stands for all of them, `strongest/vote`
    for one.
    """

    name: str
    version: int = Field(ge=1)
    attacks: dict[str, Annotated[str, BeforeValidator(joined)]] = Field(min_length=1)


@cached
def battery(name: str) -> Battery | None:
    """The battery of that name, or None where the name is an attacker's part.

    Args:
        name: of an entry of configs/attacker.

    Raises:
        BadInput: there is no such entry, or its file is damaged.
    """
    path = config_file("attacker", existing("attacker", name))
    raw = read(path)
    return checked(Battery, raw, path.name) if "attacks" in raw else None


def batteries(attackers: Sequence[str]) -> list[str]:
    """The batteries, `name version`, all of whose attacks are among these.

    Args:
        attackers: by their entries, each battery's attack on its own.
    """
    whole = []
    for name in names("attacker"):
        listed = battery(name)
        if listed and {f"{listed.name}/{key}" for key in listed.attacks} <= {*attackers}:
            whole.append(f"{listed.name} {listed.version}")
    return whole


def unpacked(attackers: list[str]) -> list[str]:
    """The attackers, each battery replaced by its attacks.

    Args:
        attackers: by their entries.
    """
    entries = []
    for entry in attackers:
        whole = battery(entry) if entry in names("attacker") else None
        entries += [f"{entry}/{key}" for key in whole.attacks] if whole else [entry]
    return list(dict.fromkeys(entries))


def spelled(entry: str) -> str:
    """An attacker as the list of its parts: of a battery's attack what it stands for, of others the
    entry itself.

    Args:
        entry: of an attacker.

    Raises:
        BadInput: a battery has no such attack, or one is given settings or joined.
    """
    folder, _, key = entry.partition("/")
    whole = battery(folder) if folder in names("attacker") else None
    if not whole:
        return entry
    if "(" in entry or "+" in entry:
        raise BadInput(f"attacker {entry}: a battery's attack stands alone and has no settings")
    if key not in whole.attacks:
        raise BadInput(
            f"attacker {entry}: no {key!r}{near(key, whole.attacks)} (there are: "
            f"{', '.join(whole.attacks)})"
        )
    return whole.attacks[key]


@dataclass(frozen=True)
class AttackSpec:
    """An attacker entry taken apart: its parts with checked settings, in the order in which they
    act.
    """

    parts: tuple[Component, ...]
    instances: tuple[Base, ...]

    def specs(self, *kinds: str) -> list[ComponentSpec]:
        """What stages are told of the parts of these kinds.

        Args:
            *kinds: `ask`, `clean`, `repair`, `learn` or `follow`.
        """
        return [part.spec for part in self.parts if kind_of(part.name) in kinds]

    @functools.cached_property
    def askers(self) -> list[Asker]:
        """Its parts of ask/."""
        return cast("list[Asker]", self._instances("ask"))

    @functools.cached_property
    def followers(self) -> list[Follower]:
        """Its parts of follow/."""
        return cast("list[Follower]", self._instances("follow"))

    def _instances(self, kind: str) -> list[Base]:
        pairs = zip(self.parts, self.instances, strict=True)
        return [instance for part, instance in pairs if kind_of(part.name) == kind]

    @property
    def asks(self) -> bool:
        """Whether it asks the provider anything; one that does not is a floor."""
        return all(one.asks for one in self.instances)

    @property
    def adaptive(self) -> bool:
        return any(one.adaptive for one in self.instances)

    def followed(self, recipe: TrainingConfig) -> int:
        """The most optimiser steps that what follows its student's training adds."""
        return sum(one.steps(recipe) for one in self.followers)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(need for one in self.instances for need in one.needs))

    @property
    def instruction(self) -> str:
        """What it tells the teacher in words, which it must follow; nothing where it does not."""
        return next((one.instruction for one in self.instances if one.instruction), "")

    @property
    def needs_interface(self) -> str:
        """The least that the interface must release for all parts to work."""
        needed = [part.needs_interface for part in self.instances]
        return max(needed, key=INTERFACES.index)


def kind_of(name: str) -> str:
    """Where in an attack a part acts: `ask`, `clean`, `repair`, `learn` or `follow`.

    Args:
        name: as `clean/vote`; one without a folder is how a student learns.
    """
    folder, slash, _ = name.partition("/")
    return folder if slash else "learn"


@cached
def parse_attack(entry: str) -> AttackSpec:
    """An attacker, or several parts joined by `+`.

    Args:
        entry: as `ask/repeats(k=4) + clean/vote + sft`, or a battery's attack.

    Raises:
        BadInput: parts are out of order, or not exactly one is how the student learns.
    """
    parts = tuple(resolve("attacker", part) for part in split(spelled(entry), "+"))
    kinds = [ORDER.index(kind_of(part.name)) for part in parts]
    if kinds != sorted(kinds):
        raise BadInput(f"attacker {entry}: its parts act in the order {', '.join(ORDER)}")
    if [ORDER[kind] for kind in kinds].count("learn") != 1:
        learners = [
            name for name in names("attacker") if kind_of(name) == "learn" and not battery(name)
        ]
        raise BadInput(
            f"attacker {entry}: exactly one part must be how the student learns "
            f"({', '.join(learners)})"
        )
    return AttackSpec(parts, tuple(part.build() for part in parts))
