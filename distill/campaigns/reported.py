"""What sources say of a campaign, apart from what we assume of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from distill.campaigns.settings import Campaign
from distill.completions import BadInput


class Reported(NamedTuple):
    """A figure as a source gives it; `value` may be a bound or words."""

    value: Any
    source: str


@dataclass(frozen=True)
class Preset:
    """A campaign with its sources; reported under a name that is no setting: what we do not
    simulate.

    Args:
        settings: what is simulated.
        reported: by setting, or by another name.
        note: what to know of it, in a sentence.
        ours: nobody reported it.

    Raises:
        BadInput: it has no source, or a number is not the one that its source states.
    """

    settings: Campaign
    reported: dict[str, Reported]
    note: str
    ours: bool = False

    def __post_init__(self) -> None:
        if bool(self.reported) == self.ours:
            raise BadInput(
                "preset: needs a source: what is reported and by whom, or ours=True where nobody "
                "reported it"
            )
        for name, fact in self.reported.items():
            if not fact.source.strip():
                raise BadInput(f"preset: {name}={fact.value!r} has no source")
            simulated = getattr(self.settings, name, fact.value)
            if isinstance(fact.value, int) and fact.value != simulated:
                raise BadInput(f"preset: {name} is reported as {fact.value}, got {simulated}")

    @property
    def assumed(self) -> tuple[str, ...]:
        """The settings that no source states."""
        return tuple(name for name in Campaign.model_fields if name not in self.reported)
