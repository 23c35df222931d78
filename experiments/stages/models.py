"""The model in the folder of a teacher or a student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill import adapters, recordings
from distill.completions import (
    BadInput,
    Completion,
    Interface,
    Prompt,
    narrowed,
    read_completions,
)
from distill.folders import load, open_tokenizer, save
from distill.models import LanguageModel, is_network
from distill.served.model import ServedModel
from distill.specs import PretrainedModel
from experiments.private import shown
from experiments.stages.files import (
    AskedModel,
    ModelFile,
    RecordedModel,
    ServedSpec,
    TrainedModel,
)
from experiments.stages.server import served_model

RECORDED = "recorded.parquet"


def load_model(folder: Path) -> LanguageModel | recordings.RecordedModel | ServedModel:
    """The model that a folder's `model.json` tells of.

    Args:
        folder: of a result that is a model.

    Raises:
        BadInput: it is not whole, or weights from elsewhere are not there.
    """
    match ModelFile.read(folder).model:
        case TrainedModel() as spec:
            return _trained(spec, folder)
        case AskedModel() as spec:
            return load(
                located(spec.model),
                temperature=spec.temperature,
                top_p=spec.top_p,
                max_new_tokens=spec.max_new_tokens,
                batch_size=spec.batch_size,
            )
        case RecordedModel() as spec:
            answers = recordings.by_question(read_completions(folder / RECORDED))
            return recordings.RecordedModel(answers, "recorded teacher", spec.scored_by)
        case ServedSpec() as spec:
            return served_model(spec, folder)


def _trained(spec: TrainedModel, folder: Path) -> LanguageModel:
    """A model that was trained here: its own weights, or its adapter on its base."""
    options: dict[str, Any] = {
        "may_diverge": spec.may_diverge,
        "max_new_tokens": spec.max_new_tokens,
        "batch_size": spec.batch_size,
    }
    if spec.base is None:
        whole = PretrainedModel(path=str(folder), dtype=spec.dtype, device=spec.device)
        return load(whole, **options)
    model = load_base(located(spec.base), **options)
    adapters.read(model.network, folder)
    return model


def load_base(spec: PretrainedModel, **options: Any) -> LanguageModel:
    """A model on which something is trained: an adapter that it comes with is merged into it.

    Args:
        spec: of a model from elsewhere.
        **options: how it answers, see `distill.folders.load`.

    Raises:
        BadInput: it cannot be loaded.
    """
    model = load(spec, **options)
    if spec.adapter is None:
        return model
    return replace(model, network=adapters.merged(model.network))


def located(spec: PretrainedModel) -> PretrainedModel:
    """The same model, wherever it lies on this machine."""
    return spec.model_copy(update={"path": shown(spec.path), "adapter": shown(spec.adapter)})


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of the model that a folder tells of.

    Args:
        folder: of a result that is a model.

    Raises:
        BadInput: none is known.
    """
    match ModelFile.read(folder).model:
        case TrainedModel(base=base):
            return open_tokenizer(located(base) if base else str(folder))
        case AskedModel(model=model):
            return open_tokenizer(located(model))
        case ServedSpec(tokenizer=str(place)):
            return open_tokenizer(shown(place))
    raise BadInput(f"{folder}: this teacher's tokenizer is not known")


@dataclass(frozen=True)
class StoredModel(recordings.Transcript):
    """Completions that are there already, in the order of their prompts, as a model whose answers
    can be edited; it releases of their logprobs what an interface does.
    """

    completions: Sequence[Completion]

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        return [
            replace(one, logprobs=narrowed(one.logprobs, interface)) for one in self.completions
        ]


def load_network(folder: Path) -> LanguageModel:
    """The same of a model that has weights: a student, a proxy, a rewriter.

    Args:
        folder: of a result that is a model.

    Raises:
        BadInput: as `load_model`.
        AssertionError: it has no weights.
    """
    model = load_model(folder)
    assert is_network(model), folder
    return model


def save_model(model: LanguageModel, folder: Path, how: TrainedModel) -> None:
    """Write a network that was trained here, and how it answers.

    Args:
        model: that was trained here.
        folder: of the stage's result.
        how: it answers, and what it is made of.
    """
    save(model, folder)
    ModelFile(model=how).write(folder)
