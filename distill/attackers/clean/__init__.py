"""What an attacker does to the answers it holds: `clean(said, own, seed=...)` returns those that
the student learns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from distill.attackers import AttackerResources, sft
from distill.completions import Completion, Prompt
from distill.models import LanguageModel


def groups(said: Sequence[Completion]) -> list[list[Completion]]:
    """The answers to each question, in order of appearance."""
    held: dict[str, list[Completion]] = {}
    for one in said:
        held.setdefault(one.prompt, []).append(one)
    return list(held.values())


def rewritten(answer: Completion, text: str) -> Completion:
    """The answer with another text; token ids and logprobs would spell the old one."""
    return (
        answer if text == answer.text else replace(answer, text=text, token_ids=(), logprobs=None)
    )


def divided(text: str, mark: str) -> tuple[str, str]:
    """A text as its reasoning and the rest, which begins with the space before the last mark; the
    two joined are it.
    """
    before, found, _ = text.rpartition(mark)
    reasoning = before.rstrip() if found else text
    return reasoning, text[len(reasoning) :]


def own_model(
    said: Sequence[Completion], own: AttackerResources, seed: int, share: float = 1.0
) -> LanguageModel:
    """A model of the student's shape that the attacker trains on answers of its choice, for `share`
    of the steps.
    """
    assert own.fresh is not None and own.recipe is not None
    model = own.fresh(seed)
    recipe = own.recipe.model_copy(update={"steps": max(1, round(share * own.recipe.steps))})
    trained = sft.Attacker(sft.Settings()).train(said, model, recipe, seed=seed)
    return replace(model, network=trained.network.eval())


def surprisal(model: LanguageModel, said: Sequence[Completion]) -> list[float]:
    """-log p of each answer a token of it and its end, in nats; infinite where the context does not
    hold it.
    """
    nats = model.surprisal(
        [Prompt(one.prompt_id, one.prompt) for one in said], [one.text for one in said]
    )
    sizes = [len(model.tokenizer(one.text, add_special_tokens=False).input_ids) + 1 for one in said]
    return [math.inf if math.isnan(n) else n / size for n, size in zip(nats, sizes, strict=True)]
