"""A fresh network trained by an attacker, as a teacher by recipe and a student are."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.attackers import AttackerResources
from distill.completions import Completion
from distill.embedded import byte_pair_tokenizer, character_tokenizer, llama
from distill.models import LanguageModel
from distill.student import StudentSettings


def trained(
    task: Any,
    settings: Any,
    attacker: Any,
    said: list[Completion],
    own: AttackerResources,
    out: Path,
) -> tuple[Any, Any]:
    """A fresh model trained by an attacker, and how that went."""
    shape = settings["shape"]
    model, recipe = fresh(task, shape, settings["seed"]), recipe_of(shape)
    # The checkpoint lies beside the unfinished result, and so outlives a killed stage.
    done = attacker.train(
        said,
        model,
        recipe,
        seed=settings["seed"],
        own=own,
        checkpoint=out.with_suffix(".checkpoint"),
    )
    losses = [loss if math.isfinite(loss) else None for loss in done.losses]
    decoding = {"max_new_tokens": shape["max_new_tokens"]}
    report = {
        "losses": losses,
        "diverged": done.diverged,
        "tokens": done.tokens,
        "decoding": decoding,
    }
    report |= {
        "positions": done.positions,
        "parameters": sum(p.numel() for p in done.network.parameters()),
    }
    report |= {
        "steps": done.steps,
        "learning_rate": recipe.learning_rate,
        "cut": done.cut / max(done.examples, 1),
    }
    report |= {"asked": done.asked} if done.asked else {}
    return replace(model, network=done.network.eval()), report


def fresh(task: Any, shape: Any, seed: int) -> LanguageModel:
    """An untrained model of a shape, with the task's alphabet or a vocabulary learned from its
    public text.
    """
    if shape["vocabulary"]:
        tokenizer = byte_pair_tokenizer(task.corpus(), shape["vocabulary"])
    else:
        tokenizer = character_tokenizer(task.alphabet)
    size = {
        name: shape[name]
        for name in ("hidden_size", "intermediate_size", "num_layers", "num_heads", "max_length")
    }
    return LanguageModel(
        llama(tokenizer, seed=seed, **size),
        tokenizer,
        max_new_tokens=shape["max_new_tokens"],
        may_diverge=True,
    )


def recipe_of(shape: Any) -> StudentSettings:
    return StudentSettings(**{name: shape[name] for name in StudentSettings.model_fields})


def training(task: Any, shape: Any) -> dict[str, Any]:
    """How an attacker trains a model of its own, as `Own` names it."""
    return {"fresh": functools.partial(fresh, task, shape), "recipe": recipe_of(shape)}
