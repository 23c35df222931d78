"""A fresh network trained by an attacker, as a teacher by recipe and a student are."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.attackers import AttackerResources
from distill.completions import Completion
from distill.models import LanguageModel
from distill.specs import TinyModel, TrainingConfig
from experiments.stages.files import TrainingReport
from experiments.tasks import Task


class Shape(TinyModel, TrainingConfig):
    """A network that is trained here, how it is trained, and where its answers are cut off."""

    vocabulary: int
    max_new_tokens: int

    @property
    def recipe(self) -> TrainingConfig:
        """How it is trained, as attackers take it."""
        return TrainingConfig(**self.model_dump(include={*TrainingConfig.model_fields}))


def train_fresh(
    task: Task,
    shape: Shape,
    seed: int,
    attacker: Any,
    answers: Sequence[Completion],
    resources: AttackerResources,
    out: Path,
) -> tuple[LanguageModel, TrainingReport]:
    """A fresh model trained by an attacker, and how that went."""
    model, recipe = fresh_model(task, shape, seed), shape.recipe
    # The checkpoint lies beside the unfinished result, and so outlives a killed stage.
    checkpoint = out.with_suffix(".checkpoint")
    done = attacker.train(
        answers, model, recipe, seed=seed, resources=resources, checkpoint=checkpoint
    )
    report = TrainingReport(
        losses=[loss if math.isfinite(loss) else None for loss in done.losses],
        diverged=done.diverged,
        tokens=done.tokens,
        positions=done.positions,
        parameters=sum(p.numel() for p in done.network.parameters()),
        steps=done.steps,
        learning_rate=recipe.learning_rate,
        cut=done.cut / max(done.examples, 1),
        asked=done.asked,
    )
    return replace(model, network=done.network.eval()), report


def fresh_model(task: Task, shape: Shape, seed: int) -> LanguageModel:
    """An untrained model of a shape, with the task's alphabet or a vocabulary learned from its
    public text.
    """
    # Here, so that planning, which builds specs alone, does not load what builds networks.
    from distill.embedded import byte_pair_tokenizer, character_tokenizer, llama

    if shape.vocabulary:
        tokenizer = byte_pair_tokenizer(task.corpus(), shape.vocabulary)
    else:
        tokenizer = character_tokenizer(task.alphabet)
    network = llama(
        tokenizer,
        seed=seed,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        max_length=shape.max_length,
    )
    return LanguageModel(network, tokenizer, max_new_tokens=shape.max_new_tokens, may_diverge=True)


def own_training(task: Task, shape: Shape) -> dict[str, Any]:
    """How an attacker trains a model of its own, as `AttackerResources` names it."""
    return {"fresh": functools.partial(fresh_model, task, shape), "recipe": shape.recipe}
