"""A fresh network trained by an attacker, as a teacher by recipe and a student are."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill import adapters
from distill.attackers import AttackerResources, Learner
from distill.completions import Completion
from distill.folders import tokenizer_digest
from distill.models import LanguageModel, device_of
from distill.passes import round_weights
from distill.specs import LoraConfig, PretrainedModel, TinyModel, TrainingConfig
from experiments.stages.files import TrainedModel, TrainingReport
from experiments.stages.models import load_base, located, save_model
from experiments.tasks import Task


class Trainable(TrainingConfig):
    """How a model is trained here, and where its answers are cut off."""

    max_new_tokens: int

    @property
    def recipe(self) -> TrainingConfig:
        """How it is trained, as attackers take it."""
        return TrainingConfig(**self.model_dump(include={*TrainingConfig.model_fields}))


class Shape(TinyModel, Trainable):
    """A small network from scratch; `vocabulary` as in a study's settings."""

    vocabulary: int


class FineTune(PretrainedModel, Trainable):
    """A pretrained model, whose weights are trained further or, with `lora`, an adapter of them."""

    answer_batch_size: int
    lora: LoraConfig | None = None

    @property
    def base(self) -> PretrainedModel:
        """The model as it comes, wherever it lies on this machine."""
        spec = PretrainedModel(
            **{name: getattr(self, name) for name in PretrainedModel.model_fields}
        )
        return located(spec)


def train_fresh(
    task: Task,
    shape: Shape | FineTune,
    seed: int,
    attacker: Learner,
    answers: Sequence[Completion],
    resources: AttackerResources,
    out: Path,
) -> tuple[LanguageModel, TrainingReport]:
    """A fresh model trained by an attacker, and how that went.

    Args:
        task: of its exam.
        shape: of the model, with its recipe.
        seed: of its weights and the order.
        attacker: how it learns.
        answers: what it learns from.
        resources: what the attacker has beside them.
        out: folder of the stage's result.
    """
    model, recipe = fresh_model(task, shape, seed), shape.recipe
    # The checkpoint lies beside the unfinished result, and so outlives a killed stage.
    checkpoint = out.with_suffix(".checkpoint")
    done = attacker.train(
        answers, model, recipe, seed=seed, resources=resources, checkpoint=checkpoint
    )
    moving = sum(p.numel() for p in done.network.parameters() if p.requires_grad)
    parameters = sum(p.numel() for p in done.network.parameters())
    report = TrainingReport(
        losses=[loss if math.isfinite(loss) else None for loss in done.losses],
        diverged=done.diverged,
        tokens=done.tokens,
        positions=done.positions,
        parameters=parameters,
        trained=moving if moving < parameters else None,
        device=str(done.network.device) if isinstance(shape, FineTune) else None,
        steps=done.steps,
        learning_rate=recipe.learning_rate,
        cut=done.cut / max(done.examples, 1),
        asked=done.asked,
        unscored=done.unscored,
    )
    network = done.network.eval()
    if isinstance(shape, FineTune) and shape.lora and shape.lora.merge:
        network = adapters.merged(network)
    return replace(model, network=network), report


def fresh_model(task: Task, shape: Shape | FineTune, seed: int) -> LanguageModel:
    """An untrained model, freshly made or freshly loaded: a function of its shape and the seed.

    Args:
        task: whose vocabulary a small one has.
        shape: of the model.
        seed: of its weights.
    """
    return _loaded(shape, seed) if isinstance(shape, FineTune) else _made(task, shape, seed)


def _loaded(shape: FineTune, seed: int) -> LanguageModel:
    """The model as it comes; the first weights of an adapter are the seed's."""
    model = load_base(
        shape.base,
        max_new_tokens=shape.max_new_tokens,
        batch_size=shape.answer_batch_size,
        may_diverge=True,
    )
    if shape.lora:
        adapters.add(model.network, shape.lora, seed)
    return model


def _made(task: Task, shape: Shape, seed: int) -> LanguageModel:
    """A small Llama with the task's alphabet or a vocabulary learned from its public text."""
    # Here, so that planning, which builds specs alone, does not load what builds networks.
    from distill.embedded import byte_pair_tokenizer, character_tokenizer, llama

    if shape.vocabulary:
        tokenizer = byte_pair_tokenizer(task.corpus(), shape.vocabulary)
    else:
        tokenizer = character_tokenizer(task.alphabet, has_turns=task.turns > 1)
    network: Any = llama(
        tokenizer,
        seed=seed,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        max_length=shape.max_length,
    )
    network = network.to(device_of("auto"))
    return LanguageModel(network, tokenizer, max_new_tokens=shape.max_new_tokens, may_diverge=True)


def vocabulary_of_shape(task: Task, shape: Shape | FineTune) -> str:
    """SHA-256 of the tokenizer that a model has.

    Args:
        task: whose alphabet a tiny model's tokens are.
        shape: of the model.
    """
    if isinstance(shape, FineTune):
        return tokenizer_digest(shape.base)
    return _made(task, shape, 0).vocabulary


def own_training(task: Task, shape: Shape | FineTune) -> dict[str, Any]:
    """How an attacker trains a model of its own, as `AttackerResources` names it.

    Args:
        task: of the student.
        shape: of the student.
    """
    return {"fresh": functools.partial(fresh_model, task, shape), "recipe": shape.recipe}


def save_trained(
    model: LanguageModel, shape: Shape | FineTune, folder: Path, diverged: bool
) -> None:
    """Write a model that was trained here, of one with an adapter the adapter alone, and how it
    answers: in the numbers that its training computed in, whatever the optimiser added up in.

    Args:
        model: with its network.
        shape: which it was made by.
        folder: is made.
        diverged: whether its training did, so that weights may be no numbers.
    """
    if shape.precision == "bfloat16":
        round_weights(model.network)
    how = TrainedModel(kind="trained", max_new_tokens=model.max_new_tokens, may_diverge=diverged)
    if isinstance(shape, FineTune):
        origin = PretrainedModel(**{n: getattr(shape, n) for n in PretrainedModel.model_fields})
        more = {
            "batch_size": shape.answer_batch_size,
            "dtype": str(model.network.dtype).removeprefix("torch."),
            "device": shape.device,
            "base": origin if adapters.is_on(model.network) else None,
        }
        how = how.model_copy(update=more)
    save_model(model, folder, how)
