"""A study without what is its owner's alone: from here on a digest stands for each key and each
place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.private import MARK, PLACES, by_contents, hidden, server
from experiments.settings.grammar import Entry, format_entry, parse_entry, split
from experiments.settings.served import PLACE, Served

if TYPE_CHECKING:
    from experiments.settings.schema import Study


def veiled(study: Study) -> Study:
    """The study with stand-ins (experiments/private.py) in its entries and models; this process
    knows their values.
    """
    blocks = [
        block.model_copy(
            update={"tasks": [*map(entry, block.tasks)], "defenses": [*map(entry, block.defenses)]}
        )
        for block in study.blocks
    ]
    models = {name: _model(getattr(study, name)) for name in ("teacher", "weaker_teacher")}
    models["student"] = _model(study.student)
    helpers = {name: _model(getattr(study.provider, name)) for name in ("proxy", "rewriter")}
    simulated = study.campaigns
    if simulated:
        simulated = simulated.model_copy(update={"reduced": entry(simulated.reduced)})
    return study.model_copy(
        update={
            "blocks": blocks,
            "provider": study.provider.model_copy(update=helpers),
            "campaigns": simulated,
        }
        | models
    )


def entry(text: str) -> str:
    """An entry, each private setting replaced by what stands for it; one without any stays as it
    was written.
    """
    return " + ".join(map(_part, split(text, "+")))


def _part(text: str) -> str:
    name, changes = parse_entry(text)
    public = {key: hidden(key, value) for key, value in changes.items()}
    return text if public == changes else format_entry(Entry(name, public))


def _model(model: Any) -> Any:
    """A model that is a folder or a file here is told by its contents, and one behind a server by
    its name there.
    """
    if isinstance(model, Served) and not model.url.startswith(MARK):
        place = model.model_dump_json(include={*PLACE})
        stands = server(model.model, model.revision, place)
        model = model.model_copy(update={"url": stands, "hosts": []})
    places = {name: getattr(model, name, None) for name in PLACES}
    places = {name: where for name, where in places.items() if where is not None}
    return model.model_copy(update=by_contents(places)) if places else model
