"""The model in the folder of a teacher or a student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill import recordings
from distill.completions import Completion, Interface, Prompt, read_completions
from distill.folders import load, save
from distill.models import LanguageModel, is_network
from distill.served import ServedModel
from experiments.private import shown
from experiments.stages.files import (
    ModelFile,
    PretrainedModel,
    RecordedModel,
    ServedSpec,
    TrainedModel,
)
from experiments.stages.server import served_model

RECORDED = "recorded.parquet"


def load_model(folder: Path) -> LanguageModel | recordings.RecordedModel | ServedModel:
    """The model that a folder's `model.json` tells of.

    Raises:
        BadInput: it is not whole, or weights from elsewhere are not there.
    """
    match ModelFile.read(folder).model:
        case TrainedModel() as told:
            return load(
                str(folder), may_diverge=told.may_diverge, max_new_tokens=told.max_new_tokens
            )
        case PretrainedModel() as told:
            decoding = told.model_dump(exclude={"kind", "path"})
            return load(shown(told.path), **decoding)
        case RecordedModel() as told:
            answers = recordings.by_question(read_completions(folder / RECORDED))
            return recordings.RecordedModel(answers, "recorded teacher", told.scored_by)
        case ServedSpec() as told:
            return served_model(told, folder)


@dataclass(frozen=True)
class StoredModel(recordings.Transcript):
    """Completions that are there already, in the order of their prompts, as a model whose answers
    can be edited.
    """

    completions: Sequence[Completion]

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        return list(self.completions)


def load_network(folder: Path) -> LanguageModel:
    """The same of a model that has weights: a student, a proxy, a rewriter."""
    model = load_model(folder)
    assert is_network(model), folder
    return model


def save_model(model: LanguageModel, folder: Path, diverged: bool) -> None:
    """Write a network that was trained here, and how it answers."""
    save(model, folder)
    spec = TrainedModel(kind="trained", max_new_tokens=model.max_new_tokens, may_diverge=diverged)
    ModelFile(model=spec).write(folder)
