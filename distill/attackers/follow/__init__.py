"""What an attacker does to its student once it is trained: `follow(model, recipe, resources,
seed=...)` returns a `Trained`.

The student that is given stays as it was. `steps(recipe)` is the most optimiser steps that a part
adds, which is known before anything runs, so that attacks can be compared with a passive student
that trains as long.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from distill.attackers import AttackerResources, sft
from distill.completions import Completion, Interface
from distill.models import LanguageModel
from distill.specs import TrainingConfig
from distill.trainer import Trained


def copy_model(model: LanguageModel) -> LanguageModel:
    """The same model with weights of its own."""
    return replace(model, network=copy.deepcopy(model.network))


def change_matrices(model: LanguageModel, change: Callable[[Tensor], Tensor]) -> Trained:
    """A copy of the model with every matrix changed; norms and biases stay, nothing is trained.

    Args:
        model: left as it is.
        change: a matrix of weights [outputs, inputs] to another of its shape.
    """
    network = copy_model(model).network
    with torch.no_grad():
        for weights in network.parameters():
            if weights.dim() == 2:
                weights.copy_(change(weights))
    return Trained(network)


def sample_completions(
    model: LanguageModel, questions: Sequence[Completion], k: int, temperature: float, seed: int
) -> list[Completion]:
    """k answers of the model to each question, those to one question one behind the other.

    Args:
        model: of the attacker's own.
        questions: each as an answer to it.
        k: answers a question.
        temperature: at which they are drawn.
        seed: of what is drawn.
    """
    prompts = [replace(one.question, attempt=i) for one in questions for i in range(k)]
    warm = replace(model, network=model.network.eval(), temperature=temperature)
    return warm.generate(prompts, seed=seed, interface=Interface())


def fine_tune(
    model: LanguageModel,
    completions: Sequence[Completion],
    recipe: TrainingConfig,
    seed: int,
    steps: int,
    rate: float,
) -> Trained:
    """Fine-tune in place for some steps at a share of the recipe's learning rate.

    Args:
        model: changed in place.
        completions: what it learns from.
        recipe: of the student.
        seed: of the order.
        steps: of the optimiser.
        rate: share of the recipe's learning rate.
    """
    changed = recipe.model_copy(
        update={"steps": steps, "learning_rate": rate * recipe.learning_rate}
    )
    return sft.Attacker(sft.Settings()).train(completions, model, changed, seed=seed)


def join_trainings(parts: Sequence[Trained]) -> Trained:
    """Trainings one after the other as one, with the last one's network.

    Args:
        parts: at least one, in their order.
    """
    return Trained(
        parts[-1].network,
        [loss for part in parts for loss in part.losses],
        any(part.diverged for part in parts),
        **total_cost(parts),
    )


def total_cost(parts: Sequence[Trained]) -> dict[str, Any]:
    """What trainings took together, by the name that a report has for it.

    Args:
        parts: trainings in any order.
    """
    names = ("tokens", "positions", "asked", "unscored", "steps", "examples", "cut")
    return {name: sum(getattr(part, name) for part in parts) for name in names}


def questions(resources: AttackerResources) -> list[Completion]:
    """The attacker's own questions, whose final answers it owns, each once.

    Args:
        resources: of the attacker, whose public and worked items they are.
    """
    return list(
        {one.question.conversation: one for one in [*resources.public, *resources.worked]}.values()
    )
