"""Models from elsewhere, opened while a study is planned: a second's work, without weights."""

from __future__ import annotations

import os
import re

from pydantic import BaseModel

from distill import adapters
from distill.completions import BadInput
from distill.folders import ModelFolder, commit_of, inspect
from distill.models import vocabulary_of
from distill.specs import PretrainedModel
from experiments.private import MARK, by_contents, shown
from experiments.settings.catalog import cached
from experiments.settings.schema import Study
from experiments.tasks import Task

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def at(model: PretrainedModel) -> PretrainedModel:
    """The same model, wherever it lies on this machine.

    Args:
        model: whose places may be stand-ins.
    """
    return model.model_copy(update={"path": shown(model.path), "adapter": shown(model.adapter)})


def open_model(setting: str, model: PretrainedModel) -> ModelFolder:
    """What a model's folder, file or name on the hub holds beside its weights.

    Args:
        setting: which model of the study it is.
        model: its settings.

    Raises:
        BadInput: it is not there, or lacks a part.
    """
    real = at(model)
    if not (os.path.exists(real.path) or HUB_NAME.fullmatch(real.path)):
        raise BadInput(
            f"{setting}.path: no folder {real.path!r}; a model is a folder with config.json, "
            "tokenizer.json and *.safetensors, a .gguf file, or a name on the hub such as "
            "owner/name"
        )
    if real.adapter is not None:
        try:
            adapters.check(real.adapter)
        except BadInput as error:
            raise BadInput(f"{setting}.adapter: {error}") from error
    try:
        fields = {name: getattr(real, name) for name in PretrainedModel.model_fields}
        return _inspected(PretrainedModel(**fields))
    except BadInput as error:
        raise BadInput(f"{setting}.path: {error}") from error


@cached
def _inspected(model: PretrainedModel) -> ModelFolder:
    return inspect(model)


def student_vocabulary(study: Study, task: Task) -> str:
    """SHA-256 of the tokenizer that a study's student has: a pretrained one's own, else a token a
    character.

    Args:
        study: with its student.
        task: whose alphabet the student's tokens are.

    Raises:
        BadInput: a pretrained student cannot be opened.
    """
    from distill.embedded import character_tokenizer  # which `plan` needs for nothing else

    if isinstance(study.student, PretrainedModel):
        return open_model("student", study.student).vocabulary
    return vocabulary_of(character_tokenizer(task.alphabet))


def identity(model: PretrainedModel) -> dict[str, str | None]:
    """What tells a model: a folder or a file by what it holds, a name on the hub by the commit that
    it stands for now.

    Args:
        model: whose places may be stand-ins.

    Returns:
        `path`, `adapter` and `revision` as they are addressed.

    Raises:
        BadInput: the hub does not say.
    """
    where = {"path": model.path, "adapter": model.adapter}
    return by_contents(where | {"revision": _revision(model)})


def _revision(model: PretrainedModel) -> str:
    """The commit that a name on the hub stands for; of other models their own word."""
    path = shown(model.path)
    if path.startswith(MARK) or os.path.exists(path) or not HUB_NAME.fullmatch(path):
        return model.revision
    return _commit(path, model.revision)


def pinned(study: Study) -> Study:
    """The study with every name on the hub at the commit that it stands for now, so that whoever
    gets it has the same models, and can plan it without asking the hub.

    Args:
        study: as it was loaded.

    Raises:
        BadInput: the hub does not say.
    """
    provider = study.provider.model_copy(update=_pinned(study.provider))
    return study.model_copy(update={"provider": provider} | _pinned(study))


def _pinned(settings: BaseModel) -> dict[str, PretrainedModel]:
    """The models among settings, each at its commit."""
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    models = {name: one for name, one in values.items() if isinstance(one, PretrainedModel)}
    return {
        name: model.model_copy(update={"revision": _revision(model)})
        for name, model in models.items()
    }


@cached
def _commit(name: str, revision: str) -> str:
    return commit_of(name, revision)
