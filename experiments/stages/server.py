"""A teacher behind a server, as its folder tells of it, and the log of what it said."""

from __future__ import annotations

from pathlib import Path

from distill.folders import open_tokenizer
from distill.served.connection import Server
from distill.served.model import ServedModel
from distill.served.query import TokenTable
from distill.served.response_log import ResponseLog
from experiments.private import shown
from experiments.stages.files import ServedSpec
from experiments.stages.stage import Sparse


class Place(Sparse):
    """Where a server is and how patiently it is asked: what is its owner's alone."""

    url: str
    hosts: list[str] = []
    concurrency: int = 8
    timeout: float = 600.0
    retries: int = 5
    key_variable: str | None = None

    @property
    def server(self) -> Server:
        return Server(self.url, tuple(self.hosts), self.timeout, self.retries, self.key_variable)


def served_model(spec: ServedSpec, folder: Path) -> ServedModel:
    """The model that a teacher's folder tells of.

    Args:
        spec: of a teacher.
        folder: of the teacher, beside which its responses lie.

    Raises:
        BadInput: its tokenizer cannot be opened.
    """
    place = place_of(spec.url)
    tokens = None if spec.tokenizer is None else TokenTable(open_tokenizer(shown(spec.tokenizer)))
    return ServedModel(place.server, spec.options, response_log(folder), tokens, place.concurrency)


def response_log(folder: Path) -> ResponseLog:
    """What a served teacher said; it lies beside the teacher's own folder, and outlives it.

    Args:
        folder: of the teacher.
    """
    return ResponseLog(folder.with_name(f".{folder.name}.responses"))


def place_of(stand_in: str) -> Place:
    """Where a server is, by what stands for it; one that is not known here can only be asked what
    it was asked before.

    Args:
        stand_in: see experiments/private.py.
    """
    place = shown(stand_in)
    return Place.model_validate_json(place) if place != stand_in else Place(url="")
