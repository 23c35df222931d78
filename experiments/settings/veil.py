"""A study without what is its owner's alone: from here on a digest stands for each key and each
place. `stand_ins` lists them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import BaseModel

from experiments.private import KEY, MARK, PLACES, by_contents, hidden, hold, server
from experiments.settings.grammar import Entry, format_entry, parse_entry, split
from experiments.settings.served import PLACE, Served

if TYPE_CHECKING:
    from experiments.settings.schema import Study

SettingsT = TypeVar("SettingsT", bound=BaseModel)


ENTRIES = {"tasks", "defenses", "attackers", "access", "detectors", "reduced"}
"""Settings that are entries, or lists of them."""


def veiled(study: Study) -> Study:
    """The study with stand-ins (experiments/private.py) in all its entries and models; this process
    knows their values.
    """
    return _within(study)


def _within(settings: SettingsT) -> SettingsT:
    """Settings of a study, and all settings inside them."""
    before = {name: getattr(settings, name) for name in type(settings).model_fields}
    inside = {name: _value(name, value) for name, value in before.items()}
    changed = {name: value for name, value in inside.items() if value != before[name]}
    return _model(settings.model_copy(update=changed) if changed else settings)


def _value(name: str, value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _within(value)
    if isinstance(value, list):
        return [_value(name, part) for part in value]
    return entry(value) if name in ENTRIES and isinstance(value, str) else value


def entry(text: str) -> str:
    """An entry, each private setting replaced by what stands for it; one without any stays as it
    was written.

    Args:
        text: of a component, or of several joined by `+`.
    """
    return " + ".join(map(_part, split(text, "+")))


def _part(text: str) -> str:
    name, changes = parse_entry(text)
    public = {key: hidden(key, value) for key, value in changes.items()}
    return text if public == changes else format_entry(Entry(name, public))


def _model(model: SettingsT) -> SettingsT:
    """A model that is a folder or a file here is told by its contents, and one behind a server by
    its name there.
    """
    if isinstance(model, Served) and not model.url.startswith(MARK):
        stands = server(model.model, model.revision)
        hold({stands: model.model_dump_json(include={*PLACE})})
        model = model.model_copy(update={"url": stands, "hosts": []})
    places = {name: getattr(model, name, None) for name in PLACES}
    places = {name: where for name, where in places.items() if where is not None}
    return model.model_copy(update=by_contents(places)) if places else model


class StandIn(NamedTuple):
    """What stands in a study for a value, and where: a setting of a component or of a model."""

    digest: str
    owner: str  # the component's name, or which model of the study it is
    setting: str

    def __str__(self) -> str:
        return f"{self.digest} ({self.owner}.{self.setting})"


def stand_ins(settings: BaseModel, owner: str = "") -> Iterator[StandIn]:
    """Every stand-in of a study.

    Args:
        settings: of the study, or of a part of it.
        owner: the name of that part.

    Raises:
        BadInput: an entry cannot be read.
    """
    for name in type(settings).model_fields:
        yield from _stand_ins(name, getattr(settings, name), owner)


def _stand_ins(name: str, value: Any, owner: str) -> Iterator[StandIn]:
    if isinstance(value, BaseModel):
        yield from stand_ins(value, name)
    elif isinstance(value, list):
        for part in value:
            yield from _stand_ins(name, part, owner)
    elif isinstance(value, str) and name in ENTRIES:
        for component, changes in map(parse_entry, split(value, "+")):
            for key, private in changes.items():
                if key in (KEY, *PLACES) and str(private).startswith(MARK):
                    yield StandIn(str(private), component, key)
    elif name in (*PLACES, PLACE[0]) and str(value).startswith(MARK):
        yield StandIn(value, owner, name)


def places(study: Study) -> set[str]:
    """The stand-ins of files and folders.

    Args:
        study: with stand-ins.
    """
    return {one.digest for one in stand_ins(study) if one.setting in PLACES}
