"""What a run's own files do not hold, and is handed over: keys, and where models and data lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from distill.completions import BadInput
from experiments.planning import plan as planning
from experiments.private import check, contents, hold, meanings, recall_places
from experiments.review import form
from experiments.settings.schema import Study
from experiments.settings.veil import StandIn, places, stand_ins


def know(home: Path, store: Path | None, words: Sequence[str]) -> None:
    """Know what a run was made with: what is handed over, and what the store beside it notes.

    Args:
        home: the run's folder; one whose settings are damaged is left to the checks.
        store: beside it; None where there is none to look at.
        words: VALUE, or NAME=VALUE; see `hand_over`.

    Raises:
        BadInput: as `hand_over`.
    """
    try:
        study = form.study_of(home)
        noted = places(study)
    except BadInput:
        return
    if store:
        recall_places(store, noted)
    hand_over(study, words)


def hand_over(study: Study, words: Sequence[str]) -> None:
    """Know values that stand-ins of a study stand for.

    Args:
        study: with stand-ins.
        words: each a key, a path, or a server as MODEL=URL; NAME= before a key or a path says for
            what it is: a digest, a component or a model of the study, or a setting of one.

    Raises:
        BadInput: the study does not tell that value by its digest.
    """
    sought = [*stand_ins(study)]
    for word in words:
        if not (values := _found(word, sought)):
            raise _unlike(word, sought)
        hold(values)


def _named(name: str, sought: Sequence[StandIn]) -> list[StandIn]:
    return [one for one in sought if name in (one.digest, one.owner, f"{one.owner}.{one.setting}")]


def _found(word: str, sought: Sequence[StandIn]) -> dict[str, str]:
    """What a word stands for of what is sought, as a whole or as NAME=VALUE."""
    name, _, value = word.partition("=")
    whole, of_name = meanings(word), meanings(value)
    return {one.digest: whole[one.digest] for one in sought if one.digest in whole} or {
        one.digest: of_name[one.digest] for one in _named(name, sought) if one.digest in of_name
    }


def _unlike(word: str, sought: Sequence[StandIn]) -> BadInput:
    """What is said of a word that stands for nothing; a key is not repeated."""
    name, _, value = word.partition("=")
    place = word if os.path.exists(word) else value
    what = (
        f"{place} holds {contents(place)}"
        if os.path.exists(place)
        else "what was handed over with --where or --private is no file and no folder here, and no "
        "key of this study"
    )
    wanted = ", ".join(dict.fromkeys(map(str, _named(name, sought) or sought)))
    return BadInput(f"{what}; sought is {wanted or 'nothing, as this study names none'}")


def check_known(study: Study) -> None:
    """Everything that the stages of a study need must be known, before any of it is opened.

    Args:
        study: with stand-ins.

    Raises:
        BadInput: a folder, a file or a key is not.
    """
    for stage in planning.make(study, opens=False).stages:
        check(stage.settings)
